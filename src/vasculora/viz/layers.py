"""A case as three pictures that lie on each other in a page: image, truth, prediction.

The image travels once, as a JPEG; truth and prediction are thin sheets of a few flat colours, PNG
with see-through ground. Many cases must stay one small file, so a case has a budget of bytes: where
it does not fit, quality gives way first and size next, image and masks alike. A mask that shrinks
keeps its area: neither do thin vessels vanish, nor do they swell.
"""

from base64 import b64encode
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from vasculora.viz.overlays import HIT, INVENTED, MISSED

LONGEST = 768
"""Pixels of the longer side of a picture at most."""
SIDES = (LONGEST, 640, 512, 384, 256, 192)
QUALITIES = (88, 75, 60, 45)
"""Of JPEG; what is tried in turn."""

_GROUND, _HIT, _MISSED, _INVENTED = range(4)
_PALETTE = ((0, 0, 0), HIT, MISSED, INVENTED)
_ALPHA = (0, 190, 230, 230)
"""How opaque each is, of 255: the image shows through a hit, less through a mistake."""


@dataclass(frozen=True, kw_only=True)
class Layers:
    """Three pictures of one size, as addresses that hold the data themselves.

    Attributes:
        width: In pixels.
        height: In pixels.
        image: The image.
        truth: Sheet with the truth.
        prediction: Sheet with what was hit, missed and invented.
    """

    width: int
    height: int
    image: str
    truth: str
    prediction: str


def case_layers(
    image: UInt8[np.ndarray, "h w 3"],
    mask: Bool[np.ndarray, "h w"],
    pred: Bool[np.ndarray, "h w"],
    *,
    budget: int,
) -> Layers:
    """Return a case's pictures, as good as its bytes allow.

    Args:
        image: RGB.
        mask: The truth.
        pred: The prediction.
        budget: Characters of all three addresses together; the smallest size is kept even where
            it takes more.
    """
    picture = Image.fromarray(image)
    sides = sorted({min(side, max(mask.shape)) for side in SIDES}, reverse=True)
    layers = None
    for side in sides:
        size = _fitted(mask.shape, side)
        small_mask, small_pred = shrink(mask, size), shrink(pred, size)
        truth, prediction = _truth_sheet(small_mask), _prediction_sheet(small_mask, small_pred)
        left = budget - len(truth) - len(prediction)
        if left < 0 and side != sides[-1]:
            continue
        small = picture.resize(size, Image.Resampling.LANCZOS)
        for quality in QUALITIES:
            coded = _jpeg(small, quality)
            layers = Layers(
                width=size[0], height=size[1], image=coded, truth=truth, prediction=prediction
            )
            if len(coded) <= left:
                return layers
    assert layers is not None, "the smallest size is always tried"
    return layers


def shrink(mask: Bool[np.ndarray, "h w"], size: tuple[int, int]) -> Bool[np.ndarray, "_ _"]:
    """Return a mask at another width and height, covering the same share of the picture.

    Args:
        mask: Any mask.
        size: Width and height.
    """
    if size == mask.shape[::-1]:
        return mask
    grey = Image.fromarray(255 * mask.astype(np.uint8))
    cover = np.asarray(grey.resize(size, Image.Resampling.BOX))
    least = max(float(np.quantile(cover, 1 - mask.mean())), 1.0)
    shrunk: Bool[np.ndarray, "_ _"] = cover >= least
    return shrunk


def _fitted(shape: tuple[int, ...], side: int) -> tuple[int, int]:
    factor = side / max(shape)
    return max(1, round(shape[1] * factor)), max(1, round(shape[0] * factor))


def _truth_sheet(mask: Bool[np.ndarray, "h w"]) -> str:
    return _png(np.where(mask, _HIT, _GROUND).astype(np.uint8))


def _prediction_sheet(mask: Bool[np.ndarray, "h w"], pred: Bool[np.ndarray, "h w"]) -> str:
    kinds = np.full(mask.shape, _GROUND, dtype=np.uint8)
    kinds[mask & pred] = _HIT
    kinds[mask & ~pred] = _MISSED
    kinds[pred & ~mask] = _INVENTED
    return _png(kinds)


def _png(kinds: UInt8[np.ndarray, "h w"]) -> str:
    sheet = Image.fromarray(kinds)
    sheet.putpalette([channel for colour in _PALETTE for channel in colour])
    return _address(sheet, "png", bits=2, transparency=bytes(_ALPHA))


def _jpeg(image: Image.Image, quality: int) -> str:
    return _address(image, "jpeg", quality=quality)


def _address(image: Image.Image, kind: str, **options: object) -> str:
    buffer = BytesIO()
    image.save(buffer, format=kind, **options)
    return f"data:image/{kind};base64,{b64encode(buffer.getvalue()).decode()}"
