"""Scores of the probabilities themselves, whatever the threshold: how well they rank the pixels.

Everything here needs the pixels in the order of their probability, and only that, so they are
sorted once. The truth goes with a probability as its lowest bit: numbers are sorted many times
faster than they are ranked, and equal pixels then lie in one order however the image is turned.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt


@dataclass(frozen=True, kw_only=True, eq=False)
class Ranked:
    """The pixels of a case by rising probability.

    Attributes:
        probs: Their probabilities.
        truth: Whether each is vessel; of equal probabilities, vessel comes last.
    """

    probs: Float[np.ndarray, " p"]
    truth: Bool[np.ndarray, " p"]


def rank(
    prob: Float[np.ndarray, "h w"],
    mask: Bool[np.ndarray, "h w"],
    fov: Bool[np.ndarray, "h w"] | None = None,
) -> Ranked:
    """Return the pixels of a case by rising probability.

    Args:
        prob: Probability of each pixel, in [0, 1].
        mask: True where vessel is.
        fov: True where the case is scored; None takes every pixel.
    """
    inside = slice(None) if fov is None else fov
    found, truth = prob[inside].ravel(), mask[inside].ravel()
    # Bits of floats that are not negative rise as their values do; the highest, the sign, is free.
    if found.dtype.itemsize > 4:
        bits = found.astype(np.float64, copy=False).view(np.uint64)
        keys = np.sort((bits << np.uint64(1)) | truth)
        return Ranked(probs=(keys >> np.uint64(1)).view(np.float64), truth=_lowest_bit(keys))
    bits = found.astype(np.float32, copy=False).view(np.uint32)
    keys = np.sort((bits << np.uint32(1)) | truth)
    return Ranked(probs=(keys >> np.uint32(1)).view(np.float32), truth=_lowest_bit(keys))


def auc_roc(ranked: Ranked) -> float | None:
    """Return the area under the ROC curve, exactly; None where all pixels are of one kind.

    The share of pairs of a vessel pixel and another in which the vessel pixel is the more
    probable; equal ones count half (Hanley and McNeil 1982).
    """
    positives, negatives = _by_value(ranked)
    num_pairs = int(positives.sum()) * int(negatives.sum())
    if num_pairs == 0:
        return None
    below = np.cumsum(negatives) - negatives
    return int((positives * (2 * below + negatives)).sum()) / (2 * num_pairs)


def average_precision(ranked: Ranked) -> float | None:
    """Return the precision averaged over recall, exactly; None where there is no vessel.

    The sum over all thresholds of the precision there times the recall gained there, without
    interpolation.
    """
    positives, negatives = (counts[::-1] for counts in _by_value(ranked))
    total = int(positives.sum())
    if total == 0:
        return None
    tp, found = np.cumsum(positives), np.cumsum(positives + negatives)
    return float((positives * (tp / found)).sum() / total)


def _by_value(ranked: Ranked) -> tuple[Int[np.ndarray, " v"], Int[np.ndarray, " v"]]:
    """Return how many pixels of each kind have each probability: vessel, and others."""
    ends = np.flatnonzero(np.diff(ranked.probs, append=np.inf))
    positives = np.diff(np.cumsum(ranked.truth)[ends], prepend=0)
    return positives, np.diff(ends, prepend=-1) - positives


def _lowest_bit(keys: UInt[np.ndarray, " p"]) -> Bool[np.ndarray, " p"]:
    truth: Bool[np.ndarray, " p"] = (keys & keys.dtype.type(1)).astype(bool)
    return truth
