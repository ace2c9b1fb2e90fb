"""The whole panel: every score of one case, from one comparison of prediction and truth.

Both masks are cut to the field of view first, and it is treated as the image's own edge is: what
lies beyond is background that nobody is asked about. So nothing that was predicted outside changes
any score, and a vessel that runs out of view ends there in both masks alike.

What several scores need (centrelines, outlines' distances, pixels in order) is found once, when
the first of them asks. `docs/metrics.md` says what each score is where a mask is empty.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from vasculora.metrics import mask as of_counts
from vasculora.metrics import ranking, surface, topology
from vasculora.metrics.calibration import Reliability, reliability_of
from vasculora.metrics.thinning import Line, centreline


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What is a matter of choice in the panel.

    Attributes:
        small_width: Width in pixels up to which a vessel is small.
        tolerance: Pixels by which an outline may be off, for the surface Dice.
        num_bins: Bins of the calibration.
    """

    small_width: float = 3.0
    tolerance: float = 2.0
    num_bins: int = 15


DEFAULT_RULES = Rules()


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """A prediction beside its truth, with what the scores have in common.

    Attributes:
        pred: True where vessel was predicted.
        mask: True where vessel is.
        prob: Probability of each pixel, in [0, 1]; None of a mask that never had any.
        fov: True where the case is scored; None scores every pixel.
        spacing: Height and width of a pixel in millimetres, where they are known.
        rules: What is a matter of choice.
    """

    pred: Bool[np.ndarray, "h w"]
    mask: Bool[np.ndarray, "h w"]
    prob: Float[np.ndarray, "h w"] | None = None
    fov: Bool[np.ndarray, "h w"] | None = None
    spacing: tuple[float, float] | None = None
    rules: Rules = DEFAULT_RULES

    def __post_init__(self) -> None:
        """Check what would otherwise be scored wrongly in silence.

        Raises:
            ValueError: If sizes differ, no pixel is scored, or probabilities are none.
        """
        others = {"prediction": self.pred, "probabilities": self.prob, "field of view": self.fov}
        for name, other in others.items():
            if other is not None and other.shape != self.mask.shape:
                raise ValueError(
                    f"{name} {other.shape} and mask {self.mask.shape} must have one size: "
                    f"the image's own."
                )
        if self.mask.size == 0 or (self.fov is not None and not self.fov.any()):
            raise ValueError(
                "no pixel is scored: the field of view is empty. Check that it is white inside."
            )
        if self.prob is not None and not (self.prob.min() >= 0 and self.prob.max() <= 1):
            raise ValueError(
                f"probabilities must lie in [0, 1], got {self.prob.min()} to {self.prob.max()}. "
                f"Apply the sigmoid first."
            )

    @cached_property
    def found(self) -> Bool[np.ndarray, "h w"]:
        """The prediction inside the field of view."""
        return self.pred if self.fov is None else self.pred & self.fov

    @cached_property
    def truth(self) -> Bool[np.ndarray, "h w"]:
        """The truth inside the field of view."""
        return self.mask if self.fov is None else self.mask & self.fov

    @cached_property
    def counts(self) -> of_counts.Counts:
        """Pixels by what was said and what is true."""
        return of_counts.count(self.pred, self.mask, self.fov)

    @cached_property
    def ranked(self) -> ranking.Ranked | None:
        """The scored pixels by rising probability."""
        return None if self.prob is None else ranking.rank(self.prob, self.mask, self.fov)

    @cached_property
    def reliability(self) -> Reliability | None:
        """What was said and what is true, by bins; adds up over cases."""
        return None if self.ranked is None else reliability_of(self.ranked, self.rules.num_bins)

    @cached_property
    def true_line(self) -> Line:
        """Centreline of the truth."""
        return centreline(self.truth)

    @cached_property
    def betti_errors(self) -> tuple[int, int]:
        """By how many pieces, and by how many holes, the prediction is off."""
        pred, true = topology.betti_numbers(self.found), topology.betti_numbers(self.truth)
        return abs(pred[0] - true[0]), abs(pred[1] - true[1])

    @cached_property
    def distances(self) -> surface.SurfaceDistances:
        """How far the outlines lie apart, in pixels."""
        return surface.surface_distances(self.found, self.truth)

    def hd95(self, spacing: tuple[float, float] | None) -> float | None:
        """Return the HD95 in pixels of this size; None where the size is not known.

        One empty mask costs the diagonal of the field of view.
        """
        if spacing is None:
            return None
        distances = self._distances_in(spacing)
        height, width = self._extent
        return surface.hd95(distances, worst=math.hypot(height * spacing[0], width * spacing[1]))

    def _distances_in(self, spacing: tuple[float, float]) -> surface.SurfaceDistances:
        if spacing[0] == spacing[1]:
            return self.distances.times(spacing[0])
        return surface.surface_distances(self.found, self.truth, spacing)

    @cached_property
    def _extent(self) -> tuple[int, int]:
        """Rows and columns that the field of view spans."""
        if self.fov is None:
            return self.mask.shape[0], self.mask.shape[1]
        rows = np.flatnonzero(self.fov.any(axis=1))
        columns = np.flatnonzero(self.fov.any(axis=0))
        return int(rows[-1] - rows[0] + 1), int(columns[-1] - columns[0] + 1)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One score of the panel.

    Attributes:
        label: What it is called.
        better: Which way is up.
        of: The score of a comparison; None where it is not defined for the case.
        unit: Of a distance; empty for shares in [0, 1] and counts.
        needs_prob: Whether it needs probabilities, so that a hard mask has none.
    """

    label: str
    better: Literal["higher", "lower"]
    of: Callable[[Comparison], float | None]
    unit: Literal["", "px", "mm"] = ""
    needs_prob: bool = False

    @property
    def title(self) -> str:
        """The label with its unit, as a table's head."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


def score_case(
    pred: Bool[np.ndarray, "h w"],
    mask: Bool[np.ndarray, "h w"],
    *,
    prob: Float[np.ndarray, "h w"] | None = None,
    fov: Bool[np.ndarray, "h w"] | None = None,
    spacing: tuple[float, float] | None = None,
    rules: Rules = DEFAULT_RULES,
    names: Sequence[str] | None = None,
) -> dict[str, float | None]:
    """Return the scores of one case by name; None where one is not defined for it.

    Args:
        pred: True where vessel was predicted.
        mask: True where vessel is.
        prob: Probability of each pixel, in [0, 1]; None of a mask that never had any.
        fov: True where the case is scored; None scores every pixel.
        spacing: Height and width of a pixel in millimetres, where they are known.
        rules: What is a matter of choice.
        names: Scores to find; all of `METRICS` by default.

    Raises:
        ValueError: If sizes differ, no pixel is scored, probabilities are none, or a score is
            not known.
    """
    case = Comparison(pred=pred, mask=mask, prob=prob, fov=fov, spacing=spacing, rules=rules)
    return score(case, names)


def score(case: Comparison, names: Sequence[str] | None = None) -> dict[str, float | None]:
    """Return the scores of a comparison by name.

    Args:
        case: A prediction beside its truth.
        names: Scores to find; all of `METRICS` by default.

    Raises:
        ValueError: If a score is not known.
    """
    names = tuple(METRICS) if names is None else names
    unknown = [name for name in names if name not in METRICS]
    if unknown:
        raise ValueError(f"unknown metric '{unknown[0]}'. Known: {', '.join(METRICS)}.")
    return {name: METRICS[name].of(case) for name in names}


def _auc_roc(case: Comparison) -> float | None:
    return None if case.ranked is None else ranking.auc_roc(case.ranked)


def _average_precision(case: Comparison) -> float | None:
    return None if case.ranked is None else ranking.average_precision(case.ranked)


def _ece(case: Comparison) -> float | None:
    return None if case.reliability is None else case.reliability.ece


def _cldice(case: Comparison) -> float:
    return topology.cldice(case.found, case.truth, line=case.true_line)


def _surface_dice(case: Comparison) -> float:
    return surface.surface_dice(case.distances, tolerance=case.rules.tolerance)


def _small_vessel_recall(case: Comparison) -> float | None:
    return topology.small_vessel_recall(
        case.found,
        case.truth,
        small_width=case.rules.small_width,
        line=case.true_line,
        fov=case.fov,
    )


METRICS: Mapping[str, Metric] = {
    "dice": Metric(label="Dice", better="higher", of=lambda c: of_counts.dice(c.counts)),
    "iou": Metric(label="IoU", better="higher", of=lambda c: of_counts.iou(c.counts)),
    "sensitivity": Metric(
        label="Sensitivity", better="higher", of=lambda c: of_counts.sensitivity(c.counts)
    ),
    "specificity": Metric(
        label="Specificity", better="higher", of=lambda c: of_counts.specificity(c.counts)
    ),
    "precision": Metric(
        label="Precision", better="higher", of=lambda c: of_counts.precision(c.counts)
    ),
    "auc_roc": Metric(label="AUC-ROC", better="higher", of=_auc_roc, needs_prob=True),
    "average_precision": Metric(
        label="Average precision", better="higher", of=_average_precision, needs_prob=True
    ),
    "cldice": Metric(label="clDice", better="higher", of=_cldice),
    "hd95": Metric(label="HD95", better="lower", unit="px", of=lambda c: c.hd95((1.0, 1.0))),
    "hd95_mm": Metric(label="HD95", better="lower", unit="mm", of=lambda c: c.hd95(c.spacing)),
    "nsd": Metric(label="Surface Dice", better="higher", of=_surface_dice),
    "betti0_error": Metric(
        label="Betti-0 error", better="lower", of=lambda c: float(c.betti_errors[0])
    ),
    "betti1_error": Metric(
        label="Betti-1 error", better="lower", of=lambda c: float(c.betti_errors[1])
    ),
    "small_vessel_recall": Metric(
        label="Small-vessel recall", better="higher", of=_small_vessel_recall
    ),
    "ece": Metric(label="ECE", better="lower", of=_ece, needs_prob=True),
}
"""Every score, in the order of a table."""

COUNT_METRICS = ("dice", "iou", "sensitivity", "specificity", "precision")
"""Those of counts alone, cheap enough for every epoch."""
