"""Scores of one mask against its truth, and of one model's masks against each other.

Every score is a function of four counts, so that a data set's total, a table row and a test are
computed by the same lines. Where a ratio is 0 / 0 the answer is 1 if both masks are empty and 0
otherwise: neither a missed mask nor an invented one ever scores 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Bool, Float, Int

THRESHOLDS = tuple(step / 100 for step in range(1, 100))
"""Grid that `best_threshold` searches unless told otherwise."""

SWEEP = tuple(step / 20 for step in range(1, 20))
"""Thresholds by which a model is judged on validation images: 0.05 to 0.95."""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Pixels by what was said and what is true.

    Attributes:
        tp: Vessel, and found.
        fp: Not vessel, but predicted (invented).
        fn: Vessel, but not predicted (missed).
        tn: Not vessel, and not predicted.
    """

    tp: int
    fp: int
    fn: int
    tn: int


def count(
    pred: Bool[np.ndarray, "h w"],
    mask: Bool[np.ndarray, "h w"],
    fov: Bool[np.ndarray, "h w"] | None = None,
) -> Counts:
    """Return how many pixels are right and wrong, each way.

    Args:
        pred: True where vessel was predicted.
        mask: True where vessel is.
        fov: True where the case is scored; None scores every pixel.

    Raises:
        ValueError: If the sizes differ.
    """
    if pred.shape != mask.shape or (fov is not None and fov.shape != mask.shape):
        raise ValueError(
            f"prediction {pred.shape}, mask {mask.shape} and field of view "
            f"{None if fov is None else fov.shape} must have one size: the image's own."
        )
    if fov is not None:
        pred, mask = pred[fov], mask[fov]
    tp = int(np.count_nonzero(pred & mask))
    fp = int(np.count_nonzero(pred)) - tp
    fn = int(np.count_nonzero(mask)) - tp
    return Counts(tp=tp, fp=fp, fn=fn, tn=mask.size - tp - fp - fn)


def dice(counts: Counts) -> float:
    """Return twice the overlap over the sum of both areas; 1 where both are empty."""
    return _ratio(2 * counts.tp, 2 * counts.tp + counts.fp + counts.fn, counts)


def iou(counts: Counts) -> float:
    """Return the overlap over the union; 1 where both are empty."""
    return _ratio(counts.tp, counts.tp + counts.fp + counts.fn, counts)


def sensitivity(counts: Counts) -> float:
    """Return the share of the vessel that was found (recall).

    Without any vessel it is 1 if nothing was predicted, and 0 if something was invented.
    """
    return _ratio(counts.tp, counts.tp + counts.fn, counts)


def precision(counts: Counts) -> float:
    """Return the share of the prediction that is vessel.

    Without any prediction it is 1 if there is no vessel, and 0 if one was missed.
    """
    return _ratio(counts.tp, counts.tp + counts.fp, counts)


def specificity(counts: Counts) -> float:
    """Return the share of the background that was left alone.

    Without any background it is 1 if nothing was missed, and 0 if something was.
    """
    return _ratio(counts.tn, counts.tn + counts.fp, counts)


def prompt_sensitivity(probs: Float[np.ndarray, "n h w"]) -> float:
    """Return how far masks move from phrase to phrase on one image, in [0, 1].

    The mean over all pairs of one minus the soft IoU, sum(min) / sum(max). 0 says that the
    sentence is ignored: such a model looks healthy, and its language side has nothing to
    fine-tune. 1 says that no two phrases share a pixel.

    Args:
        probs: One probability map a phrase, all of the same image.

    Raises:
        ValueError: If there are fewer than two phrases.
    """
    if len(probs) < 2:
        raise ValueError(
            f"prompt sensitivity compares phrases, but got {len(probs)}. Give two or more."
        )
    return float(np.mean([1 - _soft_iou(one, other) for one, other in combinations(probs, 2)]))


def best_threshold(
    probs: Sequence[Float[np.ndarray, "_ _"]],
    masks: Sequence[Bool[np.ndarray, "_ _"]],
    thresholds: Sequence[float] = THRESHOLDS,
) -> float:
    """Return the threshold with the highest mean Dice; the lowest of equals.

    Choose it on training images: on the images it is judged by, it flatters.

    Args:
        probs: One probability map an image; sizes may differ from image to image.
        masks: The truth of each.
        thresholds: What to try; vessel is where the probability is above.

    Raises:
        ValueError: If there is no image, or not one mask an image.
    """
    if not probs or len(probs) != len(masks):
        raise ValueError(
            f"a threshold needs one mask an image, got {len(probs)} images and {len(masks)} masks."
        )
    grid = sorted(thresholds)
    totals = [dice_by_threshold(p, m, grid) for p, m in zip(probs, masks, strict=True)]
    return grid[int(np.argmax(np.sum(totals, axis=0)))]


def dice_by_threshold(
    prob: Float[np.ndarray, "h w"],
    mask: Bool[np.ndarray, "h w"],
    thresholds: Sequence[float] = SWEEP,
    fov: Bool[np.ndarray, "h w"] | None = None,
) -> Float[np.ndarray, " g"]:
    """Return the Dice at each threshold; vessel is where the probability is above.

    Each pixel is sorted into the thresholds once, and counting from the top gives every one's mask.

    Args:
        prob: Probability of each pixel.
        mask: True where vessel is.
        thresholds: What to try, rising.
        fov: True where the case is scored; None scores every pixel.
    """
    inside = slice(None) if fov is None else fov
    found, truth = prob[inside].ravel(), mask[inside].ravel()
    rank = np.searchsorted(np.asarray(thresholds, dtype=prob.dtype), found, side="left")
    tp = _at_least(rank[truth], len(thresholds))
    area = _at_least(rank, len(thresholds)) + np.count_nonzero(truth)
    return np.where(area > 0, 2 * tp / np.maximum(area, 1), 1.0)


def _ratio(part: int, whole: int, counts: Counts) -> float:
    if whole == 0:
        return float(counts.fp == 0 and counts.fn == 0)
    return part / whole


def _soft_iou(one: Float[np.ndarray, "h w"], other: Float[np.ndarray, "h w"]) -> float:
    union = float(np.maximum(one, other).sum(dtype=np.float64))
    return float(np.minimum(one, other).sum(dtype=np.float64)) / union if union else 1.0


def _at_least(rank: Int[np.ndarray, " p"], size: int) -> Int[np.ndarray, " g"]:
    histogram = np.bincount(rank, minlength=size + 1)
    return np.cumsum(histogram[::-1])[::-1][1:]
