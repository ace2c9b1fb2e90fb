"""Draw data sets whose true mean is known, and count how often each interval holds it."""

import argparse
import time
from itertools import product

import numpy as np
from benchmarks.results import write_result
from scipy import stats

from vasculora.metrics.statistics import interval

NUM_TRUTH = 4_000_000
"""Groups that the true mean is taken over, a part at a time."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num", type=int, default=4000, help="repetitions of each scenario")
    parser.add_argument("--groups", type=int, nargs="+", default=[10, 30, 100])
    parser.add_argument("--draws", type=int, default=1000, help="bootstrap draws of an interval")
    parser.add_argument("--scenarios", nargs="+", default=list(SCENARIOS), choices=SCENARIOS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--label", default="2-core-cpu", help="hardware, for the file")
    args = parser.parse_args()
    result = {"repetitions": args.num, "draws": args.draws, "seed": args.seed, "rows": []}
    for name, num_groups in product(args.scenarios, args.groups):
        row = measure(name, num_groups, num=args.num, num_draws=args.draws, seed=args.seed)
        result["rows"].append(row)
        held = {method: found["held"] for method, found in row["methods"].items()}
        print(name, num_groups, held, flush=True)
    write_result(__file__, args.label, result)


def measure(name: str, num_groups: int, *, num: int, num_draws: int, seed: int) -> dict:
    """Return how often each method's interval holds the truth, and how wide it is."""
    scenario = SCENARIOS[name]
    truth = true_mean(scenario, np.random.default_rng((seed, 1)))
    rng = np.random.default_rng((seed, 2, num_groups))
    ends: dict[str, list[tuple[float, float]]] = {}
    start = time.perf_counter()
    for repetition in range(num):
        values, index = scenario(rng, num_groups)
        groups = index.astype(str).tolist()
        # a seed each, so that the draws themselves are a part of what is measured
        own = interval(values.tolist(), groups, num_draws=num_draws, seed=repetition)
        found = {"vasculora": (own.low, own.high), **others(values, index, num_draws, rng)}
        for method, pair in found.items():
            ends.setdefault(method, []).append(pair)
    return {
        "scenario": name,
        "groups": num_groups,
        "truth": round(truth, 5),
        "seconds": round(time.perf_counter() - start, 1),
        "methods": {method: coverage(np.array(pairs), truth) for method, pairs in ends.items()},
    }


def true_mean(scenario, rng, part: int = 100_000) -> float:
    total, num_cases = 0.0, 0
    for _ in range(NUM_TRUTH // part):
        values, _ = scenario(rng, part)
        total, num_cases = total + values.sum(), num_cases + len(values)
    return float(total / num_cases)


def coverage(ends: np.ndarray, truth: float) -> dict:
    low, high = ends.T
    held = float(((low <= truth) & (truth <= high)).mean())
    return {
        "held": round(held, 4),
        "error": round(float(np.sqrt(held * (1 - held) / len(ends))), 4),
        "truth_below": round(float((truth < low).mean()), 4),
        "truth_above": round(float((truth > high).mean()), 4),
        "median_width": round(float(np.median(high - low)), 5),
    }


def others(values: np.ndarray, index: np.ndarray, num_draws: int, rng) -> dict:
    """Return the ends by the methods that were not taken."""
    num_groups = index[-1] + 1
    sums, sizes = np.bincount(index, values), np.bincount(index)
    mean = values.mean()
    drawn = rng.integers(num_groups, size=(num_draws, num_groups))
    means = sums[drawn].sum(1) / sizes[drawn].sum(1)
    left_out = (sums.sum() - sums) / (sizes.sum() - sizes)
    pull = left_out.mean() - left_out
    acceleration = (pull**3).sum() / (6 * (pull**2).sum() ** 1.5)
    below = ((means < mean).mean() + (means <= mean).mean()) / 2
    bias = stats.norm.ppf(below)
    ratio = num_groups / (num_groups - 1)
    student = stats.t.ppf(0.975, num_groups - 1)
    wide = stats.norm.cdf(-np.sqrt(ratio) * student)

    def bca(tail: float) -> np.ndarray:
        moved = bias + stats.norm.ppf([tail, 1 - tail])
        return np.quantile(means, stats.norm.cdf(bias + moved / (1 - acceleration * moved)))

    error = student * np.sqrt(((sums - mean * sizes) ** 2).sum() * ratio) / sizes.sum()
    low, high = np.quantile(means, [0.025, 0.975])
    return {
        "percentile": (low, high),
        "percentile, widened": tuple(np.quantile(means, [wide, 1 - wide])),
        "basic": (2 * mean - high, 2 * mean - low),
        "BCa": tuple(bca(0.025)),
        "BCa, widened": tuple(bca(wide)),
        "Student's t": (mean - error, mean + error),
        "percentile over cases": over_cases(values, num_draws, rng),
    }


def over_cases(values: np.ndarray, num_draws: int, rng) -> tuple[float, float]:
    """Return the percentile interval that takes every case for a witness of its own."""
    drawn = rng.integers(len(values), size=(num_draws, len(values)))
    return tuple(np.quantile(values[drawn].mean(1), [0.025, 0.975]))


def dice(rng, num_groups):
    """Scores about 0.8 that differ by group and by case, longer to the left."""
    index = members(rng, num_groups)
    return expit(rng.normal(1.5, 0.6, num_groups)[index] + rng.normal(0, 0.5, len(index))), index


def one_case(rng, num_groups):
    """The same with one case a group."""
    logits = rng.normal(1.5, 0.6, num_groups) + rng.normal(0, 0.5, num_groups)
    return expit(logits), np.arange(num_groups)


def larger_is_harder(rng, num_groups):
    """Groups with more cases score lower, so that the size of a draw moves its mean."""
    index = members(rng, num_groups)
    ease = 2.2 - 0.12 * np.bincount(index) + rng.normal(0, 0.6, num_groups)
    return expit(ease[index] + rng.normal(0, 0.5, len(index))), index


def some_fail(rng, num_groups):
    """Good scores with a long tail of failures, of whole groups and of cases."""
    index = members(rng, num_groups)
    failing = rng.exponential(1, num_groups)[index] + rng.exponential(0.6, len(index))
    return expit(3 - failing), index


def differences(rng, num_groups):
    """Differences of two models' Dice, 0.05 on average, with long tails."""
    index = members(rng, num_groups)
    gain = rng.normal(0.05, 0.05, num_groups)[index] + 0.04 * rng.standard_t(4, len(index))
    return np.tanh(gain), index


def distances(rng, num_groups):
    """Distances as HD95 gives them, longer to the right and without a bound."""
    index = members(rng, num_groups)
    return np.exp(rng.normal(2, 0.6, num_groups)[index] + rng.normal(0, 0.6, len(index))), index


def members(rng, num_groups: int) -> np.ndarray:
    """Return the group of each case: 1 to 12 cases a group."""
    return np.repeat(np.arange(num_groups), rng.integers(1, 13, num_groups))


def expit(value: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-value))


SCENARIOS = {
    "dice": dice,
    "one case a group": one_case,
    "larger is harder": larger_is_harder,
    "some fail": some_fail,
    "differences": differences,
    "distances": distances,
}

if __name__ == "__main__":
    main()
