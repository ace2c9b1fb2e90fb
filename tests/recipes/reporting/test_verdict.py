import pytest

from vasculora.recipes.reporting.verdict import bounds, limits, number, remarks, verdict, warnings


def against(kind, outcome, *, mean=0.612, gain=0.211, name="untouched model"):
    spread = {"num_cases": 32, "num_groups": 16}
    paired = {
        "difference": {"mean": gain, "low": gain - 0.02, "high": gain + 0.02, **spread},
        "p_value": 0.001,
        "effect": 0.9,
        "improved": 28 / 32,
        "num_improved": 28,
        "verdict": outcome,
    }
    return {
        "name": name,
        "kind": kind,
        "threshold": 0.5,
        "mean": {"dice": mean},
        "interval": {"dice": {"mean": mean, "low": 0.58, "high": 0.64, **spread}},
        "paired": {"dice": paired},
    }


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (
            "better",
            "Val Dice rose from 0.612 [0.58, 0.64] to 0.823 [0.82, 0.82] in 15 epochs; "
            "28 of 32 cases improved.",
        ),
        (
            "worse",
            "Val Dice fell from 0.612 [0.58, 0.64] to 0.823 [0.82, 0.82] in 15 epochs; "
            "28 of 32 cases improved.",
        ),
        (
            "no clear difference",
            "Val Dice did not clearly change in 15 epochs: 0.612 [0.58, 0.64] before, "
            "0.823 [0.82, 0.82] after; 28 of 32 cases improved.",
        ),
    ],
)
def test_a_run_is_told_by_its_paired_difference_not_by_its_means(make_card, outcome, said):
    card = make_card(comparisons=[against("untouched", outcome)])
    assert verdict(card, num_epochs=15) == said
    assert remarks(card) == [
        "Both at threshold 0.5. At the model's own threshold, 0.45, Dice is 0.830 [0.80, 0.84].",
        "The difference is +0.211 [+0.191, +0.231]; Wilcoxon's test over groups gives p = 0.001, "
        "effect size 0.90.",
    ]


def test_an_evaluation_is_told_by_its_score_and_its_baseline(make_card):
    score = "Dice 0.830 [0.80, 0.84] on 32 validation cases of 16 groups"
    assert verdict(make_card(), num_epochs=15) == f"{score}."
    card = make_card(comparisons=[against("baseline", "better", name="nano")])
    assert verdict(card, num_epochs=None) == (
        f"{score}: clearly above nano (0.612; difference +0.211 [+0.191, +0.231]; "
        "28 of 32 cases better)."
    )
    assert remarks(card) == [
        "Wilcoxon's test over groups gives p = 0.001, effect size 0.90.",
        "Each at its own threshold: 0.45, and 0.5 for nano.",
    ]
    assert len(remarks(card | {"threshold": 0.5})) == 1
    card = make_card(
        comparisons=[against("baseline", "no clear difference", gain=-0.01, name="nano")]
    )
    assert verdict(card, num_epochs=None).endswith(
        ": no clear difference from nano (0.612; difference −0.010 [−0.030, +0.010])."  # noqa: RUF001
    )
    masks = make_card(model=None, against="masks:_2", threshold=None, split="all")
    assert verdict(masks, num_epochs=None) == (
        "The masks of masks:_2 reach Dice 0.830 [0.80, 0.84] on 32 cases of 16 groups."
    )


def test_other_ways_of_asking_stand_beside_the_verdict(make_card):
    plain = against("plain", "better", gain=0.006, mean=0.824, name="without cleaning up")
    observer = against("observer", "better", mean=0.777) | {"paired": None}
    assert remarks(make_card(comparisons=[plain, observer])) == [
        "A second observer's masks reach Dice 0.777 on the same cases: people disagree by as much.",
        "Without cleaning up, Dice is 0.824; what it adds is +0.006 [−0.014, +0.026]: better.",  # noqa: RUF001
    ]
    own = make_card(model=None, against="masks:_2")
    assert remarks(own | {"comparisons": [observer | {"mean": own["mean"]}]}) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"is_deaf": True, "prompt_sensitivity": 0.01, "truth_sensitivity": 0.5},
            "one mask to every phrase",
        ),
        ({"seg_rate": 0.75}, "25.0% of the answers have no [SEG]"),
        ({"teacher_forced": {"num_other_answers": 3, "mean": {"dice": 0.9}}}, "lost in the words"),
        ({"num_groups": 4}, "Only 4 groups"),
        ({"num_trained_on": 3}, "3 of "),
        ({"num_absent": 8, "false_mask_rate": 0.25}, "25% of 8 answers show a mask"),
    ],
)
def test_what_spoils_a_score_is_said(make_card, changed, said):
    assert warnings(make_card(), {"ok": True}) == []
    [warning] = warnings(make_card(**changed), {"ok": True})
    assert said in warning


def test_a_failed_audit_is_said_and_a_model_that_hears_is_not_called_deaf(make_card):
    card = make_card(prompt_sensitivity=0.03, truth_sensitivity=0.5)
    assert warnings(card, None) == []
    assert "found fault: dead" in warnings(card, {"ok": False, "verdict": "dead"})[0]


def test_limits_depend_on_what_was_scored(make_card):
    said = {
        part: " ".join(limits(make_card(split=part))) for part in ("val", "test", "train", "all")
    }
    assert all("no medical device" in text for text in said.values())
    own = make_card()
    assert "scores flatter" in " ".join(limits(own))
    elsewhere = make_card(sweep=own["sweep"] | {"best": 0.95})
    assert "scores flatter" not in " ".join(limits(elsewhere))
    assert "scores flatter" not in " ".join(limits(make_card(sweep=None)))


def test_numbers_that_are_not_there_are_dashes():
    assert number(None) == "–"  # noqa: RUF001
    assert number(-0.5, 1, sign=True) == "−0.5"  # noqa: RUF001
    assert bounds(None) == bounds({"low": None, "high": None}) == ""
