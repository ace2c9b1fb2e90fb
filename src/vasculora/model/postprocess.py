"""What may be done to a mask after the model has answered: specks removed, faint ends kept.

Both change the mask alone, never the probability, so what is computed from probabilities (AUC,
calibration, thresholds) is the model's own. Pixels that touch at a corner belong together in both:
a vessel one pixel wide is a staircase, which four neighbours would take apart. scikit-image's own
hysteresis knows four only, so what hangs together is labelled here.
"""

from dataclasses import replace
from typing import Annotated

import numpy as np
from jaxtyping import Bool, Float, Int
from pydantic import AfterValidator, Field

from vasculora.core.types import Prediction


def check_min_size(min_size: int) -> int:
    """Return the least size of a piece of a mask, 0 to keep all.

    Raises:
        ValueError: If it removes nothing.
    """
    if min_size == 1:
        raise ValueError("1 removes nothing, for no piece is smaller. Give 2 or more, or 0.")
    return min_size


MinSize = Annotated[int, Field(ge=0), AfterValidator(check_min_size)]
"""Setting of the least pixels of a piece of a mask; 0 keeps every speck."""


def clean(
    prediction: Prediction, *, threshold: float, min_size: int, hysteresis: float | None
) -> Prediction:
    """Return a prediction with another mask, made of its probability.

    Args:
        prediction: What the model answered.
        threshold: Probability above which a pixel belongs to the mask.
        min_size: Pixels that a piece of the mask must have at least to stay; 0 keeps all.
        hysteresis: Probability above which a pixel belongs to the mask too, if pixels as probable
            join it to one above the threshold; None for none.

    Raises:
        ValueError: If `hysteresis` is not below `threshold`.
    """
    mask = prediction.prob > threshold
    if hysteresis is not None:
        check_low(hysteresis, threshold)
        mask = _grow(prediction.prob, mask, hysteresis)
    if min_size:
        mask = _without_specks(mask, min_size)
    return replace(prediction, mask=mask)


def check_low(hysteresis: float, threshold: float) -> None:
    """Raise ValueError if the lower threshold of hysteresis is not below the threshold."""
    if hysteresis >= threshold:
        raise ValueError(
            f"hysteresis {hysteresis:g} must be below the threshold, which is {threshold:g}: it "
            "adds fainter pixels that are joined to sure ones. Lower it, or leave it out."
        )


def _grow(
    prob: Float[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"], low: float
) -> Bool[np.ndarray, "h w"]:
    """Return the pieces above `low` that hold a pixel of the mask."""
    pieces = _pieces(prob > low)
    sure = np.zeros(pieces.max() + 1, dtype=bool)
    sure[pieces[mask]] = True
    grown: Bool[np.ndarray, "h w"] = sure[pieces]
    return grown


def _without_specks(mask: Bool[np.ndarray, "h w"], min_size: int) -> Bool[np.ndarray, "h w"]:
    pieces = _pieces(mask)
    kept = np.bincount(pieces.ravel()) >= min_size
    kept[0] = False
    cleaned: Bool[np.ndarray, "h w"] = kept[pieces]
    return cleaned


def _pieces(mask: Bool[np.ndarray, "h w"]) -> Int[np.ndarray, "h w"]:
    """Return the number of the piece that each pixel belongs to, from 1 on; 0 outside."""
    from skimage.measure import label

    pieces: Int[np.ndarray, "h w"] = label(mask, connectivity=2)
    return pieces
