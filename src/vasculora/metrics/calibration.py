"""Whether a probability means what it says: of all pixels at 0.8, are 80 % vessel?

Bins of equal width over the probability of vessel, as sums that add up over cases, so that a data
set's diagram is that of all its pixels (Niculescu-Mizil and Caruana 2005; the expected calibration
error by Naeini et al. 2015). Most pixels are background that nobody doubts, so the error of a
whole image is small; the bins say where it sits.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float

from vasculora.metrics.ranking import Ranked, rank


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """What was said and what is true, by bins of equal width over [0, 1].

    Attributes:
        counts: Pixels of each bin.
        confidence: Sum of their probabilities.
        truth: How many of them are vessel.
    """

    counts: tuple[int, ...]
    confidence: tuple[float, ...]
    truth: tuple[int, ...]

    def __add__(self, other: "Reliability") -> "Reliability":
        """Return the bins of both together.

        Raises:
            ValueError: If they have not as many bins.
        """
        if len(self.counts) != len(other.counts):
            raise ValueError(
                f"bins add up bin by bin, but there are {len(self.counts)} and "
                f"{len(other.counts)}. Count both with the same num_bins."
            )
        return Reliability(
            counts=tuple(a + b for a, b in zip(self.counts, other.counts, strict=True)),
            confidence=tuple(a + b for a, b in zip(self.confidence, other.confidence, strict=True)),
            truth=tuple(a + b for a, b in zip(self.truth, other.truth, strict=True)),
        )

    @property
    def ece(self) -> float:
        """The expected calibration error in [0, 1]: how far bins are off, weighted by pixels."""
        off = sum(abs(c - t) for c, t in zip(self.confidence, self.truth, strict=True))
        return off / sum(self.counts)

    def to_dict(self) -> dict[str, object]:
        """Return what `evaluation.json` holds; means are None in a bin without pixels."""
        edges = _edges(len(self.counts))
        rows = zip(pairwise(edges), self.counts, self.confidence, self.truth, strict=True)
        return {
            "bins": [
                {
                    "low": low,
                    "high": high,
                    "count": count,
                    "confidence": confidence / count if count else None,
                    "frequency": truth / count if count else None,
                }
                for (low, high), count, confidence, truth in rows
            ],
            "ece": self.ece,
        }


def reliability(
    prob: Float[np.ndarray, "h w"],
    mask: Bool[np.ndarray, "h w"],
    fov: Bool[np.ndarray, "h w"] | None = None,
    num_bins: int = 15,
) -> Reliability:
    """Return what one case says and what is true, by bins.

    Args:
        prob: Probability of each pixel, in [0, 1].
        mask: True where vessel is.
        fov: True where the case is scored; None takes every pixel.
        num_bins: Bins of equal width; each holds its upper end, the first its lower one too.
    """
    return reliability_of(rank(prob, mask, fov), num_bins)


def reliability_of(ranked: Ranked, num_bins: int) -> Reliability:
    """Return the bins of pixels that are in order already.

    Args:
        ranked: The pixels by rising probability.
        num_bins: Bins of equal width.

    Raises:
        ValueError: If there is no bin or no pixel.
    """
    if num_bins < 1 or len(ranked.probs) == 0:
        raise ValueError(
            f"calibration needs a bin and a pixel, got {num_bins} bins and "
            f"{len(ranked.probs)} pixels."
        )
    ends = np.searchsorted(ranked.probs, _edges(num_bins)[1:-1], side="right").tolist()
    bins = [slice(a, b) for a, b in zip([0, *ends], [*ends, len(ranked.probs)], strict=True)]
    return Reliability(
        counts=tuple(part.stop - part.start for part in bins),
        confidence=tuple(float(ranked.probs[part].sum(dtype=np.float64)) for part in bins),
        truth=tuple(int(np.count_nonzero(ranked.truth[part])) for part in bins),
    )


def _edges(num_bins: int) -> list[float]:
    return [step / num_bins for step in range(num_bins + 1)]
