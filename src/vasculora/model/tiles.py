"""Large images: overlapping windows in, blended masks out.

    image -> windows, evenly spread -> each asked the same phrase -> probabilities, weighted by a
    bell over each window -> one prediction

A window is cut from the image as it is and then goes through the processor like a picture of its
own, in prediction as in training: nothing is padded, and of a side shorter than the window all is
taken. What is blended is probability, not logits: a window whose answer has no `[SEG]` has no
logits, and counts as probability 0. The bell is Isensee et al.'s (nnU-Net, 2021), for a mask is
least sure at the border of what was seen; its spread is an eighth of the window.

The model pulls whatever it is shown to one size, so things look larger to it where less is shown at
once, and smaller where more is: a zoom is a matter of windows. Zoomed in, even an image that would
be shown whole has windows; zoomed out, a window may be larger than its image, which is then
continued by its own mirror image.

MONAI's sliding window was not taken: it pads short sides with a constant that no training image
holds, and importing it costs more seconds than most predictions.
"""

import math
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from jaxtyping import Float, UInt8
from pydantic import AfterValidator, Field

from vasculora.core.types import Prediction

Window = tuple[slice, slice]
"""Rows and columns of an image."""

_SPREAD = 1 / 8
_LEAST = 32


def check_side(window: int) -> int:
    """Return the side of a window, 0 for whole images.

    Raises:
        ValueError: If it is so small that an image would be asked thousands of times.
    """
    if 0 < window < _LEAST:
        raise ValueError(
            f"windows of {window} pixels show too little to tell a vessel by, and one image has "
            f"thousands of them. Give {_LEAST} or more, or 0 for whole images."
        )
    return window


WindowSide = Annotated[int, Field(ge=0), AfterValidator(check_side)]
"""Setting of a window's side in pixels; 0 shows whole images."""


def cut_windows(
    size: tuple[int, int], *, window: int | None, overlap: float, zoom: float = 1.0
) -> list[Window]:
    """Return the windows that cover an image, row by row; the whole image if it is no larger.

    Args:
        size: Height and width of the image.
        window: Side of a window in pixels; None for the whole image.
        overlap: Least share of a window that lies in the next one too, in [0, 1).
        zoom: How many times as large things are shown; below 1, the windows are those of the image
            as `widen` makes it.
    """
    rows, columns = (_slices(extent, window or extent, overlap, zoom) for extent in size)
    return [(row, column) for row in rows for column in columns]


def widen(
    image: UInt8[np.ndarray, "_ _ 3"], windows: Sequence[Window]
) -> UInt8[np.ndarray, "_ _ 3"]:
    """Return the image, continued on all sides alike by its own mirror image as far as it must be.

    Args:
        image: RGB, 0 to 255.
        windows: They cover it, and perhaps more.
    """
    size = image.shape[:2]
    covered = _covered(windows)
    if covered == size:
        return image
    margins = [
        (m.start, whole - m.stop) for m, whole in zip(_middle(size, windows), covered, strict=True)
    ]
    return np.pad(image, (*margins, (0, 0)), mode="reflect")


def blend(
    size: tuple[int, int],
    windows: Sequence[Window],
    predictions: Sequence[Prediction],
    *,
    threshold: float,
) -> Prediction:
    """Return the prediction of an image from those of its windows.

    Args:
        size: Height and width of the image.
        windows: They cover it, and perhaps more.
        predictions: One a window.
        threshold: Probability above which a pixel belongs to the mask.

    Returns:
        Of one window its own probability; of several the mean at each pixel, weighted by its
        nearness to each window's centre. The text holds each different answer once, a line each.
    """
    prob = predictions[0].prob if len(predictions) == 1 else _mean(windows, predictions)
    prob = prob[_middle(size, windows)]
    return Prediction(
        text="\n".join(dict.fromkeys(prediction.text for prediction in predictions)),
        seg_found=any(prediction.seg_found for prediction in predictions),
        prob=prob,
        mask=prob > threshold,
    )


def _mean(windows: Sequence[Window], predictions: Sequence[Prediction]) -> Float[np.ndarray, "_ _"]:
    """Return the probability of all that the windows cover."""
    covered = _covered(windows)
    total, weights = np.zeros(covered, dtype=np.float32), np.zeros(covered, dtype=np.float32)
    for window, prediction in zip(windows, predictions, strict=True):
        bell = np.outer(*(_bell(side) for side in prediction.prob.shape))
        total[window] += bell * prediction.prob
        weights[window] += bell
    mean: Float[np.ndarray, "_ _"] = np.clip(total / weights, 0, 1)
    return mean


def _covered(windows: Sequence[Window]) -> tuple[int, int]:
    """Return the height and width of what the windows cover, of which the last is the corner."""
    rows, columns = windows[-1]
    return rows.stop, columns.stop


def _middle(size: tuple[int, int], windows: Sequence[Window]) -> Window:
    """Return where the image lies in what its windows cover."""
    top, left = ((c - s) // 2 for c, s in zip(_covered(windows), size, strict=True))
    return slice(top, top + size[0]), slice(left, left + size[1])


def _slices(extent: int, window: int, overlap: float, zoom: float) -> list[slice]:
    """Return the windows along one side."""
    shown = max(1, round(min(extent, window) / zoom))
    return [slice(s, s + shown) for s in _starts(max(extent, shown), shown, overlap)]


def _starts(extent: int, window: int, overlap: float) -> list[int]:
    """Return where windows begin along one side: as few as the overlap allows, evenly spread."""
    if extent <= window:
        return [0]
    stride = max(1, math.floor(window * (1 - overlap)))
    num_steps = math.ceil((extent - window) / stride)
    return [round(step * (extent - window) / num_steps) for step in range(num_steps + 1)]


def _bell(length: int) -> Float[np.ndarray, " {length}"]:
    """Return weights along a side of a window, highest in its middle and 0 nowhere."""
    offset = (np.arange(length) - (length - 1) / 2) / length
    return np.exp(-0.5 * (offset / _SPREAD) ** 2).astype(np.float32)
