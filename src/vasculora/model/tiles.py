"""Large images: overlapping windows in, blended masks out.

    image -> windows, evenly spread -> each asked the same phrase -> probabilities, weighted by a
    bell over each window -> one prediction

A window is cut from the image as it is and then goes through the processor like a picture of its
own, in prediction as in training: nothing is padded, and of a side shorter than the window all is
taken. What is blended is probability, not logits: a window whose answer has no `[SEG]` has no
logits, and counts as probability 0. The bell is Isensee et al.'s (nnU-Net, 2021), for a mask is
least sure at the border of what was seen; its spread is an eighth of the window.

MONAI's sliding window was not taken: it pads short sides with a constant that no training image
holds, and importing it costs more seconds than most predictions.
"""

import math
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from jaxtyping import Float
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


def cut_windows(size: tuple[int, int], *, window: int | None, overlap: float) -> list[Window]:
    """Return the windows that cover an image, row by row; the whole image if it is no larger.

    Args:
        size: Height and width of the image.
        window: Side of a window in pixels; None for the whole image.
        overlap: Least share of a window that lies in the next one too, in [0, 1).
    """
    height, width = size
    if window is None:
        return [(slice(0, height), slice(0, width))]
    return [
        (slice(top, top + window), slice(left, left + window))
        for top in _starts(height, window, overlap)
        for left in _starts(width, window, overlap)
    ]


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
        windows: They cover it.
        predictions: One a window.
        threshold: Probability above which a pixel belongs to the mask.

    Returns:
        One window's prediction as it is; of several the mean probability of each pixel, weighted
        by its nearness to each window's centre, and the first answer that has a `[SEG]`, else the
        first one.
    """
    if len(predictions) == 1:
        return predictions[0]
    total, weights = np.zeros(size, dtype=np.float32), np.zeros(size, dtype=np.float32)
    for window, prediction in zip(windows, predictions, strict=True):
        bell = np.outer(*(_bell(side) for side in prediction.prob.shape))
        total[window] += bell * prediction.prob
        weights[window] += bell
    prob = np.clip(total / weights, 0, 1)
    speaker = next((found for found in predictions if found.seg_found), predictions[0])
    return Prediction(
        text=speaker.text, seg_found=speaker.seg_found, prob=prob, mask=prob > threshold
    )


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
