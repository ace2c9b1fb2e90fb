import time

import numpy as np
import pytest
from scipy import stats

from vasculora.metrics.statistics import interval, paired

GROUPS = ["a", "a", "b", "c", "d", "d", "d", "e", "f", "g"]
VALUES = [0.7, 0.6, 0.9, 0.5, 0.8, 0.75, 0.7, 0.4, 0.85, 0.65]
OTHERS = [0.6, 0.6, 0.7, 0.55, 0.7, 0.6, 0.5, 0.3, 0.45, 0.6]


def ends(found):
    return found.low, found.high


def test_the_mean_is_over_cases_and_not_over_groups():
    found = interval([1.0, 1.0, 1.0, 0.0], ["a", "a", "a", "b"])
    assert found.to_dict() == {
        "mean": 0.75,
        "low": None,
        "high": None,
        "num_cases": 4,
        "num_groups": 2,
    }


def test_the_interval_is_the_studentised_one_of_whole_groups():
    names = sorted(set(GROUPS))
    sums = {name: [v for v, g in zip(VALUES, GROUPS, strict=True) if g == name] for name in names}
    mean = np.mean(VALUES)

    def error(drawn, centre):
        excess = [sum(sums[name]) - centre * len(sums[name]) for name in drawn]
        return np.sqrt(np.square(excess).sum() * 7 / 6) / sum(len(sums[name]) for name in drawn)

    told = []
    for row in np.random.default_rng(3).integers(7, size=(1000, 7)):
        drawn = [names[number] for number in row]
        centre = np.mean([value for name in drawn for value in sums[name]])
        if error(drawn, centre) > 1e-6 * error(names, mean):
            told.append((centre - mean) / error(drawn, centre))
    high, low = mean - np.quantile(told, [0.025, 0.975]) * error(names, mean)
    assert len(told) > 975
    assert ends(interval(VALUES, GROUPS, seed=3)) == pytest.approx((high, low)[::-1])
    assert 0.4 < low < mean < high < 0.9


def test_one_spike_takes_the_percentile_interval_widened_by_student():
    values = [0.0] * 9 + [1.0]
    shares = np.random.default_rng(0).integers(10, size=(1000, 10)) == 9
    tail = stats.norm.cdf(np.sqrt(10 / 9) * stats.t.ppf(0.025, 9))
    expected = np.quantile(shares.mean(axis=1), [tail, 1 - tail])
    assert ends(interval(values, list("abcdefghij"))) == pytest.approx(tuple(expected))


def test_it_never_leaves_what_the_cases_scored():
    found = interval([1.0, 0.99, 0.98, 0.97, 0.5], list("abcde"))
    assert (found.low, found.high) == (0.5, 1.0)


@pytest.mark.parametrize("value", [0.0, 0.1, 0.97])
def test_cases_alike_leave_no_width(value):
    assert ends(interval([value] * 7, list("abcdefg"))) == pytest.approx((value, value), abs=1e-15)


def test_four_groups_are_too_few_and_five_are_not():
    assert ends(interval([0.1, 0.2, 0.3, 0.4, 0.5], list("aabcd"))) == (None, None)
    assert None not in ends(interval([0.1, 0.2, 0.3, 0.4, 0.5], list("abcde")))


def test_order_scale_and_seed():
    found = interval(VALUES, GROUPS)
    assert interval(VALUES, GROUPS) == found
    assert ends(interval(VALUES, GROUPS, seed=1)) != ends(found)
    order = np.random.default_rng(0).permutation(len(VALUES))
    mixed = interval([VALUES[i] for i in order], [GROUPS[i] for i in order])
    assert ends(mixed) == pytest.approx(ends(found))
    moved = interval([3 - 2 * value for value in VALUES], GROUPS)
    mirrored = (3 - 2 * found.high, 3 - 2 * found.low)
    assert ends(moved) == pytest.approx(mirrored)


def test_cases_of_one_group_count_as_one_witness():
    rng = np.random.default_rng(5)
    values = np.repeat(rng.uniform(size=12), 6).tolist()
    together = interval(values, [str(i // 6) for i in range(72)])
    alone = interval(values, [str(i) for i in range(72)])
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_intervals_hold_the_truth():
    """30 groups of 1 to 12 cases; `benchmarks/intervals` does it with more repetitions."""
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(400):
        index = np.repeat(np.arange(30), rng.integers(1, 13, 30))
        score = rng.normal(0, 0.1, 30)[index] + rng.normal(0.7, 0.1, len(index))
        found = interval(score.tolist(), index.astype(str).tolist())
        held += found.low <= 0.7 <= found.high
    assert 0.92 <= held / 400 <= 0.98


def test_a_difference_by_hand():
    found = paired(VALUES, OTHERS, GROUPS)
    # means of the groups' differences, a to g: .05 .2 -.05 .15 .1 .4 .05; ranks of their sizes:
    # 2 6 2 5 4 7 2, so 26 of 28 for the model
    assert found.difference.mean == pytest.approx(0.125)
    assert found.effect == pytest.approx((26 - 2) / 28)
    means = [0.05, 0.2, -0.05, 0.15, 0.1, 0.4, 0.05]
    assert found.p_value == pytest.approx(stats.wilcoxon(np.round(means, 9)).pvalue)
    assert (found.num_improved, found.improved) == (8, 0.8)
    assert found.verdict == "better"
    assert found.to_dict()["difference"] == found.difference.to_dict()


def test_five_groups_all_better_by_hand():
    found = paired([0.5, 0.6, 0.7, 0.8, 0.9], [0.4, 0.4, 0.4, 0.4, 0.4], list("abcde"))
    assert found.p_value == 2 / 2**5
    assert found.effect == 1


def test_the_cut_makes_no_difference_clear():
    gains, groups = [0.001, 0.002, 0.001, 0.002, 0.5], list("abcde")
    assert interval(gains, groups).low == 0.001
    for sign in (1, -1):
        found = paired([sign * gain for gain in gains], [0.0] * 5, groups)
        assert 0.0 in ends(found.difference)
        assert (found.num_improved, found.verdict) == (5 * (sign > 0), "no clear difference")


def test_turning_the_sides_turns_the_answer():
    one, two = paired(VALUES, OTHERS, GROUPS), paired(OTHERS, VALUES, GROUPS)
    assert ends(two.difference) == pytest.approx((-one.difference.high, -one.difference.low))
    assert (two.effect, two.p_value) == (pytest.approx(-one.effect), one.p_value)
    assert (one.verdict, two.verdict) == ("better", "worse")
    assert two.num_improved == 1  # one case is alike


def test_lower_is_better_for_distances():
    found = paired(VALUES, OTHERS, GROUPS, better="lower")
    assert found.difference == paired(VALUES, OTHERS, GROUPS).difference
    assert (found.verdict, found.num_improved) == ("worse", 1)
    assert found.effect == pytest.approx(-24 / 28)


def test_no_clear_difference_is_said():
    mixed = [0.1, -0.1, 0.2, -0.2, 0.05, -0.03, 0.0]
    found = paired(mixed, [0.0] * 7, list("abcdefg"))
    assert found.verdict == "no clear difference"
    assert found.difference.low < 0 < found.difference.high
    few = paired([0.9, 0.9], [0.1, 0.1], ["a", "b"])
    assert (few.verdict, few.p_value, few.effect) == ("no clear difference", None, None)
    same = paired(VALUES, VALUES, GROUPS)
    assert (same.verdict, same.p_value, same.improved) == ("no clear difference", None, 0)
    assert ends(same.difference) == (0, 0)


def test_what_is_left_of_a_plus_and_a_minus_is_a_tie():
    values, others = [0.1 + 0.2, 0.0] + [0.5] * 4, [0.0, 0.3] + [0.5] * 4
    assert paired(values, others, list("aabcde")).p_value is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: interval([], []), "one value at least"),
        (lambda: interval([0.5], ["a", "b"]), "1 values and 2 groups"),
        (lambda: interval([0.5, float("inf")], ["a", "b"]), "got inf"),
        (lambda: paired([0.5], [], ["a"]), "1 values, but 0 of the other"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_whole_evaluation_takes_a_moment():
    rng = np.random.default_rng(0)
    scores, groups = rng.uniform(size=(16, 244)), [str(i) for i in range(244)]
    start = time.process_time()
    for row in scores:
        interval(row.tolist(), groups)
    assert time.process_time() - start < 1
