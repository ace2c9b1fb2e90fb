import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from vasculora.metrics.panel import COUNT_METRICS, METRICS, Comparison, Rules, score, score_case

SIZE = (48, 56)
NOTHING = np.zeros(SIZE, dtype=bool)
ALL = np.ones(SIZE, dtype=bool)
HARD = tuple(name for name, metric in METRICS.items() if not metric.needs_prob)
TURNS = {
    "upside down": lambda m: m[::-1],
    "mirrored": lambda m: m[:, ::-1],
    "half a turn": lambda m: m[::-1, ::-1],
    "transposed": lambda m: m.T,
    "a quarter turn": lambda m: np.rot90(m),
}


def case(seed=0):
    """A prediction with its truth: two smooth fields that agree in part."""
    rng = np.random.default_rng(seed)
    truth, noise = (gaussian_filter(rng.standard_normal(SIZE), 2) for _ in range(2))
    logits = 60 * (truth + 0.5 * noise) - 6
    prob = (1 / (1 + np.exp(-logits))).astype(np.float32)
    return prob > 0.5, truth > 0.1, prob


def disc():
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    return (rows - 20.0) ** 2 + (columns - 30.0) ** 2 < 19**2


@pytest.mark.parametrize("fov", [None, disc()], ids=["whole", "disc"])
@pytest.mark.parametrize("turn", TURNS.values(), ids=TURNS)
def test_turning_everything_changes_nothing(turn, fov):
    pred, mask, prob = case()
    before = score_case(pred, mask, prob=prob, fov=fov, spacing=(0.3, 0.3))
    after = score_case(
        turn(pred),
        turn(mask),
        prob=turn(prob),
        fov=None if fov is None else turn(fov),
        spacing=(0.3, 0.3),
    )
    assert before == after  # to the last digit
    assert tuple(before) == tuple(METRICS)
    assert None not in before.values()
    assert 0 < before["cldice"] < 1
    assert before["hd95_mm"] == pytest.approx(0.3 * before["hd95"])


def test_transposing_pixels_that_are_not_square():
    pred, mask, _ = case()
    tall = score_case(pred, mask, spacing=(0.7, 0.3), names=["hd95_mm"])
    wide = score_case(pred.T, mask.T, spacing=(0.3, 0.7), names=["hd95_mm"])
    assert tall["hd95_mm"] == pytest.approx(wide["hd95_mm"])


def test_nothing_outside_the_field_of_view_counts():
    pred, mask, prob = case()
    fov = disc()
    inside = score_case(pred, mask, prob=prob, fov=fov)
    other_pred, other_mask, other_prob = case(seed=1)
    changed = score_case(
        np.where(fov, pred, other_pred),
        np.where(fov, mask, other_mask),
        prob=np.where(fov, prob, other_prob),
        fov=fov,
    )
    assert inside == changed
    assert inside != score_case(pred, mask, prob=prob)
    assert score_case(pred, mask, prob=prob, fov=ALL) == score_case(pred, mask, prob=prob)


def test_both_empty():
    found = score_case(NOTHING, NOTHING, prob=NOTHING.astype(np.float32), spacing=(1.0, 2.0))
    perfect = dict.fromkeys((*COUNT_METRICS, "cldice", "nsd"), 1.0)
    off = dict.fromkeys(("hd95", "hd95_mm", "betti0_error", "betti1_error", "ece"), 0.0)
    none = dict.fromkeys(("auc_roc", "average_precision", "small_vessel_recall"))
    assert found == perfect | off | none


def one_line():
    mask = NOTHING.copy()
    mask[10, 5:25] = True
    return mask


def test_a_missed_mask():
    found = score_case(NOTHING, one_line(), spacing=(1.0, 2.0), names=HARD)
    zero = dict.fromkeys(("dice", "iou", "sensitivity", "precision", "cldice", "nsd"), 0.0)
    assert found == zero | {
        "specificity": 1.0,
        "hd95": np.hypot(48, 56),
        "hd95_mm": np.hypot(48, 112),
        "betti0_error": 1.0,
        "betti1_error": 0.0,
        "small_vessel_recall": 0.0,
    }


def test_an_invented_mask():
    found = score_case(one_line(), NOTHING, names=HARD)
    zero = dict.fromkeys(("dice", "iou", "sensitivity", "precision", "cldice", "nsd"), 0.0)
    assert found == zero | {
        "specificity": 1 - 20 / (48 * 56),
        "hd95": np.hypot(48, 56),
        "hd95_mm": None,
        "betti0_error": 1.0,
        "betti1_error": 0.0,
        "small_vessel_recall": None,
    }


def test_a_missed_mask_is_worse_than_any_that_was_found():
    corner, opposite = NOTHING.copy(), NOTHING.copy()
    corner[0, 0], opposite[-1, -1] = True, True
    fov = NOTHING.copy()
    fov[5:9, 10:13] = True
    far = score_case(corner, opposite)["hd95"]
    assert far == np.hypot(47, 55) < score_case(NOTHING, opposite)["hd95"]
    assert score_case(NOTHING, ALL, fov=fov)["hd95"] == 5.0  # four rows and three columns in view


def test_one_pixel():
    dot = NOTHING.copy()
    dot[7, 9] = True
    found = score_case(dot, dot, prob=dot.astype(np.float32))
    assert {found[name] for name in METRICS if METRICS[name].better == "higher"} == {1.0}
    lower = {"hd95": 0.0, "hd95_mm": None, "betti0_error": 0.0, "betti1_error": 0.0, "ece": 0.0}
    assert {name: found[name] for name in lower} == lower


def test_a_loop_counts_where_it_is_seen_whole():
    loop = NOTHING.copy()
    loop[10:20, 10:20] = True
    loop[12:18, 12:18] = False
    cut = loop.copy()
    cut[10:12, 14] = False
    names = ["betti0_error", "betti1_error"]
    assert score_case(cut, loop, names=names) == {"betti0_error": 0, "betti1_error": 1}
    # in view it is open in both
    fov = ALL.copy()
    fov[:11] = False
    gap_out_of_view = loop.copy()
    gap_out_of_view[10, 14] = False
    assert score_case(gap_out_of_view, loop, names=names, fov=fov)["betti1_error"] == 0
    fov[:13] = False
    assert score_case(cut, loop, names=names, fov=fov)["betti1_error"] == 0
    assert score_case(NOTHING, loop, names=names, fov=fov)["betti1_error"] == 0


def test_the_edge_of_view_makes_no_vessel_narrow():
    mask = NOTHING.copy()
    mask[10:20] = True
    fov = ALL.copy()
    fov[:17] = False  # three of ten rows are in view
    names = ["small_vessel_recall"]
    assert score_case(mask, mask, fov=fov, names=names) == {"small_vessel_recall": None}


def test_rules_are_heeded():
    pred, mask, prob = case()
    strict = Rules(tolerance=0.0, num_bins=2, small_width=1.0)
    names = ["nsd", "ece", "small_vessel_recall"]
    usual = score_case(pred, mask, prob=prob, names=names)
    other = score_case(pred, mask, prob=prob, names=names, rules=strict)
    assert other["nsd"] < usual["nsd"]
    assert all(usual[name] != other[name] for name in names)


def test_hard_masks_have_no_scores_of_probabilities():
    pred, mask, _ = case()
    found = score_case(pred, mask)
    assert {name for name in METRICS if found[name] is None} == {
        "auc_roc",
        "average_precision",
        "ece",
        "hd95_mm",
    }


def test_each_has_its_own_title():
    titles = [metric.title for metric in METRICS.values()]
    assert len(set(titles)) == len(titles)
    assert METRICS["hd95_mm"].title == "HD95 (mm)"
    assert set(COUNT_METRICS) < set(METRICS)


def test_scores_share_what_they_have_in_common():
    pred, mask, prob = case()
    one = Comparison(pred=pred, mask=mask, prob=prob)
    first = score(one)
    assert one.distances is one.distances
    assert one.true_line is one.true_line
    assert score(one) == first
    assert one.reliability.ece == first["ece"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fov": NOTHING}, "the field of view is empty"),
        ({"prob": np.full(SIZE, 1.5)}, r"must lie in \[0, 1\], got 1.5 to 1.5"),
        ({"prob": np.full(SIZE, np.nan)}, "got nan"),
        ({"names": ["dice", "f1"]}, "unknown metric 'f1'. Known: dice, iou"),
    ],
)
def test_what_cannot_be_scored_is_told(change, message):
    with pytest.raises(ValueError, match=message):
        score_case(NOTHING, one_line(), **change)


def test_sizes_must_agree():
    # Shapes are checked by the signature while tests run; this is the check a user meets.
    one = Comparison(pred=NOTHING, mask=NOTHING)
    object.__setattr__(one, "prob", np.zeros((3, 4)))
    with pytest.raises(ValueError, match=r"probabilities \(3, 4\) and mask \(48, 56\)"):
        one.__post_init__()
