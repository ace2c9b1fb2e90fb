"""How sure a mean score is: intervals by bootstrap over groups, and models compared case by case.

Images of one patient are alike, so what is drawn again is the group, with all its cases. The mean
stays the one that is reported, over cases: a ratio of sums, whose denominator varies as well where
groups differ in size.

The interval is the studentised one (bootstrap-t): every draw's mean is measured in its own standard
error, that of a ratio of group sums. Of what was tried (percentile, basic and BCa, with and without
a correction for few groups) it alone holds the truth in about 95 of 100 repetitions at 30 groups
and loses least at 10; `benchmarks/intervals` has the numbers. `scipy.stats.bootstrap` has no
studentised interval, so the draws are made here: once for all metrics of an evaluation, as counts
of how often each group is in a draw, and a matrix product gives every sum that is needed.

With few groups that interval can run past what a score may be, so it is cut at the lowest and the
highest case; that of a difference no nearer than at 0, else the cut would find every difference
clear in which all cases agree, be they five. Where a score is the same in nearly all groups many
draws have no error to measure in; then the percentile interval, widened by Student's t, takes its
place.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

LEAST_GROUPS = 5
"""Fewer tell nothing about groups that were not seen: no interval, no test."""

Verdict = Literal["better", "worse", "no clear difference"]

_TAIL = 0.025
_NO_ERROR = 1e-6  # of the whole's standard error: a draw with less has none, but for rounding
_DIGITS = 12  # of a group's mean difference: what is left of +a and -a is a tie


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean over cases and its 95 % interval.

    Attributes:
        mean: Over cases.
        low: Lower end; None with fewer than `LEAST_GROUPS` groups.
        high: Upper end, likewise.
        num_cases: Cases it is taken over.
        num_groups: Groups they belong to.
    """

    mean: float
    low: float | None
    high: float | None
    num_cases: int
    num_groups: int

    def to_dict(self) -> dict[str, float | int | None]:
        """Return it as plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Paired:
    """What lies between a model's scores and another's on the same cases.

    Attributes:
        difference: The model's score minus the other's.
        p_value: Wilcoxon's signed-rank test on the groups' mean differences, two-sided; None with
            fewer than `LEAST_GROUPS` groups, or where no group differs.
        effect: Matched-pairs rank-biserial correlation of these means: 1 where every group is
            better with the model, -1 where every one is worse; None where `p_value` is.
        improved: Share of cases in which the model is strictly better.
        num_improved: Their number.
        verdict: Better or worse where the interval of the difference leaves out 0.
    """

    difference: Interval
    p_value: float | None
    effect: float | None
    improved: float
    num_improved: int
    verdict: Verdict

    def to_dict(self) -> dict[str, object]:
        """Return it as plain values, for JSON."""
        return asdict(self)


def interval(
    values: Sequence[float], groups: Sequence[str], *, num_draws: int = 1000, seed: int = 0
) -> Interval:
    """Return the mean over cases with its 95 % interval, by bootstrap over groups.

    Args:
        values: One score a case; cases in which it is not defined are left out before.
        groups: The group of each case.
        num_draws: Bootstrap draws.
        seed: Decides them.

    Raises:
        ValueError: If there is no value, one is not finite, or their number is not the groups'.
    """
    array, index = _checked(values, groups)
    ends = _ends(array, index, num_draws=num_draws, seed=seed)
    return _within(ends, array, index, least=float(array.min()), most=float(array.max()))


def paired(
    values: Sequence[float],
    others: Sequence[float],
    groups: Sequence[str],
    *,
    better: Literal["higher", "lower"] = "higher",
    num_draws: int = 1000,
    seed: int = 0,
) -> Paired:
    """Return how a model's scores differ from another's on the same cases.

    Args:
        values: The model's score of each case.
        others: The other's score of the same cases; a case that lacks either is left out before.
        groups: The group of each case.
        better: Which way the score is better.
        num_draws: Bootstrap draws.
        seed: Decides them.

    Raises:
        ValueError: If there is no case, a value is not finite, or the three differ in length.
    """
    if len(values) != len(others):
        raise ValueError(
            f"paired scores: {len(values)} values, but {len(others)} of the other. Give both for "
            "the same cases, in the same order."
        )
    mine, index = _checked(values, groups)
    theirs, _ = _checked(others, groups)
    sign = 1.0 if better == "higher" else -1.0
    gain = sign * (mine - theirs)
    gap = mine - theirs
    ends = _ends(gap, index, num_draws=num_draws, seed=seed)
    least, most = min(float(gap.min()), 0.0), max(float(gap.max()), 0.0)
    difference = _within(ends, gap, index, least=least, most=most)
    p_value, effect = _signed_ranks(np.bincount(index, gain) / np.bincount(index))
    num_improved = int((gain > 0).sum())
    return Paired(
        difference=difference,
        p_value=p_value,
        effect=effect,
        improved=num_improved / len(gain),
        num_improved=num_improved,
        verdict=_verdict(difference, sign),
    )


def _checked(
    values: Sequence[float], groups: Sequence[str]
) -> tuple[Float[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Return scores as an array, with the number of each case's group."""
    if len(values) != len(groups):
        raise ValueError(
            f"an interval needs the group of every case, got {len(values)} values and "
            f"{len(groups)} groups."
        )
    array = np.asarray(values, dtype=np.float64)
    if not array.size:
        raise ValueError("an interval needs one value at least, got none. Leave the metric out.")
    if not np.isfinite(array).all():
        raise ValueError(
            f"an interval needs finite values, got {array[~np.isfinite(array)][0]}. Leave out the "
            "cases in which the metric is not defined."
        )
    return array, np.unique(np.asarray(groups, dtype=str), return_inverse=True)[1]


def _ends(
    values: Float[np.ndarray, " n"], index: Int[np.ndarray, " n"], *, num_draws: int, seed: int
) -> tuple[float, float] | tuple[None, None]:
    """Return the ends of the 95 % interval of the mean over cases."""
    sizes = np.bincount(index).astype(np.float64)
    num_groups = len(sizes)
    if num_groups < LEAST_GROUPS:
        return None, None
    mean = values.mean()
    excess = np.bincount(index, values - mean)  # of each group's sum over what the mean would give
    ratio = num_groups / (num_groups - 1)
    error = np.sqrt((excess**2).sum() * ratio) / sizes.sum()
    if error <= _NO_ERROR * np.abs(values).max():
        return float(mean), float(mean)
    terms = np.stack([excess, sizes, excess**2, excess * sizes, sizes**2], axis=1)
    sums = _draws(num_groups, num_draws, seed) @ terms
    shift = sums[:, 0] / sums[:, 1]  # of the draw's mean against the whole's
    squares = sums[:, 2] - 2 * shift * sums[:, 3] + shift**2 * sums[:, 4]
    errors = np.sqrt(np.maximum(squares, 0) * ratio) / sums[:, 1]
    told = errors > _NO_ERROR * error
    if 1 - told.mean() <= _TAIL:
        high, low = error * np.quantile(-shift[told] / errors[told], [1 - _TAIL, _TAIL])
    else:
        from scipy import stats  # takes half a second to import

        tail = stats.norm.cdf(np.sqrt(ratio) * stats.t.ppf(_TAIL, num_groups - 1))
        low, high = np.quantile(shift, [tail, 1 - tail])
    return float(mean + low), float(mean + high)


def _within(
    ends: tuple[float, float] | tuple[None, None],
    values: Float[np.ndarray, " n"],
    index: Int[np.ndarray, " n"],
    *,
    least: float,
    most: float,
) -> Interval:
    """Return the mean with its interval, cut at what it may be at least and at most."""
    low, high = ends
    return Interval(
        mean=float(values.mean()),
        low=None if low is None else max(low, least),
        high=None if high is None else min(high, most),
        num_cases=len(values),
        num_groups=int(index.max()) + 1,
    )


@lru_cache(maxsize=8)
def _draws(num_groups: int, num_draws: int, seed: int) -> Float[np.ndarray, "d g"]:
    """Return how often each group is in each draw: the same for every metric of an evaluation."""
    drawn = np.random.default_rng(seed).integers(num_groups, size=(num_draws, num_groups))
    places = drawn + num_groups * np.arange(num_draws)[:, None]
    counts = np.bincount(places.ravel(), minlength=num_draws * num_groups)
    return counts.reshape(num_draws, num_groups).astype(np.float64)


def _signed_ranks(gains: Float[np.ndarray, " g"]) -> tuple[float, float] | tuple[None, None]:
    """Return Wilcoxon's p and the share of ranks for a gain less that against it."""
    moved = np.round(gains, _DIGITS)
    moved = moved[moved != 0]
    if len(gains) < LEAST_GROUPS or not moved.size:
        return None, None
    from scipy import stats  # takes half a second to import

    ranks = stats.rankdata(np.abs(moved))
    effect = float((ranks * np.sign(moved)).sum() / ranks.sum())
    return float(stats.wilcoxon(moved).pvalue), effect


def _verdict(difference: Interval, sign: float) -> Verdict:
    """Return which of the two is better, where the interval leaves no doubt."""
    low, high = difference.low, difference.high
    if low is None or high is None or low <= 0 <= high:
        return "no clear difference"
    return "better" if sign * difference.mean > 0 else "worse"
