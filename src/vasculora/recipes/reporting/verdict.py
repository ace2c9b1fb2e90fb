"""What an evaluation comes to, in sentences: the verdict, what stands beside it, what to mind.

The verdict claims a rise or a fall only where the paired interval over groups does; otherwise it
says that there is no clear change, however the two means lie.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from vasculora.core.tables import counted
from vasculora.metrics.statistics import LEAST_GROUPS, interval

PARTS = {"val": "validation ", "test": "test ", "train": "training ", "all": ""}
_VERBS = {"better": "rose", "worse": "fell"}

_FORCED_GAP = 0.02
"""Dice by which the trained answer may be better than the model's own without a word about it."""


def verdict(evaluation: Mapping[str, Any], *, num_epochs: int | None) -> str:
    """Return the outcome in one sentence.

    Args:
        evaluation: What `evaluation.json` holds.
        num_epochs: Epochs the model was trained for; None where that is not known.
    """
    untouched = comparison_of(evaluation, "untouched")
    if untouched is not None:
        return _change(evaluation, untouched, num_epochs)
    score = number_with_interval(evaluation["mean"]["dice"], evaluation["interval"].get("dice"))
    where = f"on {_extent(evaluation)}"
    baseline = comparison_of(evaluation, "baseline")
    if evaluation["model"] is None:
        return f"The masks of {evaluation['against']} reach Dice {score} {where}."
    if baseline is None:
        return f"Dice {score} {where}."
    return f"Dice {score} {where}: {_against(baseline)}."


def remarks(evaluation: Mapping[str, Any]) -> list[str]:
    """Return what belongs beside the verdict: thresholds, a second observer, options."""
    lines = []
    threshold = evaluation["threshold"]
    untouched = comparison_of(evaluation, "untouched")
    baseline = comparison_of(evaluation, "baseline")
    if untouched is not None and threshold not in (None, 0.5):
        score = number_with_interval(evaluation["mean"]["dice"], evaluation["interval"].get("dice"))
        lines.append(
            f"Both at threshold 0.5. At the model's own threshold, {threshold:g}, Dice is {score}."
        )
    if untouched is not None:
        gain = difference_with_interval(untouched["paired"]["dice"])
        lines.append(f"The difference is {gain}{_test(untouched)}.")
    if baseline is not None and untouched is not None:
        lines.append(f"Dice is {_against(baseline)}{_test(baseline)}.")
    elif baseline is not None and _test(baseline):
        lines.append(f"{_test(baseline).removeprefix('; ')}.")
    if baseline is not None and baseline["threshold"] != threshold:
        lines.append(
            f"Each at its own threshold: {threshold:g}, and {baseline['threshold']:g} for "
            f"{baseline['name']}."
        )
    observer = comparison_of(evaluation, "observer")
    # masks that are the second observer's own need no second line
    if observer is not None and observer["mean"] != evaluation["mean"]:
        lines.append(
            f"A second observer's masks reach Dice {number(observer['mean']['dice'])} on the "
            "same cases: people disagree by as much."
        )
    plain = comparison_of(evaluation, "plain")
    if plain is not None:
        found = plain["paired"]["dice"]
        lines.append(
            f"{_capital(plain['name'])}, Dice is {number(plain['mean']['dice'])}; what it adds is "
            f"{difference_with_interval(found)}: {found['verdict']}."
        )
    return lines


def warnings(evaluation: Mapping[str, Any], audit: Mapping[str, Any] | None) -> list[str]:
    """Return what a reader must know before believing the verdict; none where nothing is amiss.

    Args:
        evaluation: What `evaluation.json` holds.
        audit: What `audit.json` holds; None where there is none.
    """
    return [text for text in _warnings(evaluation, audit) if text]


def limits(evaluation: Mapping[str, Any]) -> list[str]:
    """Return what these figures do not say."""
    lines = ["A research tool, no medical device: nothing here is fit to diagnose or treat by."]
    learnt = evaluation["model"] is not None
    swept = evaluation["sweep"]
    if learnt and swept is not None and swept["best"] == evaluation["threshold"]:
        lines.append(
            "Threshold and best epoch were chosen on these very cases, so the scores flatter. A "
            "test split that nobody has looked at gives the honest figure."
        )
    lines += [
        "Intervals are 95 %, by drawing whole groups again and again. They tell how far the "
        "choice of patients matters, not that of the seed, the annotator or the hospital.",
        "Many measures are compared at once and not corrected for; one clear difference among "
        "them may be chance.",
        "The pictures were chosen by their Dice: best, median and worst.",
    ]
    return lines


def comparison_of(evaluation: Mapping[str, Any], kind: str) -> Mapping[str, Any] | None:
    """Return the first comparison of a kind; None where there is none."""
    found = [row for row in evaluation["comparisons"] if row["kind"] == kind]
    return found[0] if found else None


def number(value: float | None, digits: int = 3, *, sign: bool = False) -> str:
    """Return a score as text; a dash where there is none."""
    if value is None:
        return "\N{EN DASH}"
    text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    return text.replace("-", "\N{MINUS SIGN}")


def bounds(spread: Mapping[str, Any] | None, digits: int = 2, *, sign: bool = False) -> str:
    """Return an interval in brackets; nothing where there is none."""
    if spread is None or spread["low"] is None:
        return ""
    low, high = (number(spread[end], digits, sign=sign) for end in ("low", "high"))
    return f"[{low}, {high}]"


def number_with_interval(value: float | None, spread: Mapping[str, Any] | None) -> str:
    """Return a score, with its interval where there is one."""
    return f"{number(value)} {bounds(spread)}".rstrip()


def difference_with_interval(paired: Mapping[str, Any]) -> str:
    """Return a difference with its sign, and its interval where there is one."""
    found = paired["difference"]
    return f"{number(found['mean'], sign=True)} {bounds(found, 3, sign=True)}".rstrip()


def _change(evaluation: Mapping[str, Any], other: Mapping[str, Any], num_epochs: int | None) -> str:
    before, after = _before_and_after(evaluation, other)
    paired = other["paired"]["dice"]
    num_cases = paired["difference"]["num_cases"]
    span = f" in {counted(num_epochs, 'epoch')}" if num_epochs else ""
    improved = f"{paired['num_improved']} of {counted(num_cases, 'case')} improved"
    name = {"val": "Val Dice", "test": "Test Dice", "train": "Train Dice"}.get(
        evaluation["split"], "Dice"
    )
    if paired["verdict"] in _VERBS:
        return f"{name} {_VERBS[paired['verdict']]} from {before} to {after}{span}; {improved}."
    return f"{name} did not clearly change{span}: {before} before, {after} after; {improved}."


def _before_and_after(evaluation: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[str, str]:
    # Both at 0.5: the untouched model never had a threshold chosen for it.
    half = evaluation["at_half"] or evaluation["mean"]
    cases = [case for case in evaluation["cases"] if case["dice_at_half"] is not None]
    own = None
    if cases:
        dice, groups = zip(*((c["dice_at_half"], c["group"]) for c in cases), strict=True)
        own = interval(dice, groups).to_dict()
    return (
        number_with_interval(other["mean"]["dice"], other["interval"].get("dice")),
        number_with_interval(half["dice"], own),
    )


def _against(other: Mapping[str, Any]) -> str:
    paired = other["paired"]["dice"]
    amount = difference_with_interval(paired)
    score = number(other["mean"]["dice"])
    if paired["verdict"] == "no clear difference":
        return f"no clear difference from {other['name']} ({score}; difference {amount})"
    word = "above" if paired["verdict"] == "better" else "below"
    better = (
        f"{paired['num_improved']} of {counted(paired['difference']['num_cases'], 'case')} better"
    )
    return f"clearly {word} {other['name']} ({score}; difference {amount}; {better})"


def _test(other: Mapping[str, Any]) -> str:
    """Return what the paired test says, to be put behind a difference; nothing if it says none."""
    paired = other["paired"]["dice"]
    if paired["p_value"] is None:
        return ""
    effect = "" if paired["effect"] is None else f", effect size {number(paired['effect'], 2)}"
    return f"; Wilcoxon's test over groups gives p = {paired['p_value']:.2g}{effect}"


def _extent(evaluation: Mapping[str, Any]) -> str:
    cases = counted(evaluation["num_cases"], f"{PARTS.get(evaluation['split'], '')}case")
    return f"{cases} of {counted(evaluation['num_groups'], 'group')}"


def _warnings(
    evaluation: Mapping[str, Any], audit: Mapping[str, Any] | None
) -> Iterator[str | None]:
    yield _deaf(evaluation)
    if evaluation["num_trained_on"]:
        yield (
            f"{evaluation['num_trained_on']} of {counted(evaluation['num_cases'], 'case')} are "
            "called as cases the model was trained on. If they are the same ones, the score tells "
            "what it remembers, not what it can do."
        )
    if evaluation["seg_rate"] is not None and evaluation["seg_rate"] < 1:
        yield (
            f"{1 - evaluation['seg_rate']:.1%} of the answers have no [SEG], and so an empty "
            "mask: the model did not learn everywhere to point."
        )
    yield _forced(evaluation)
    if evaluation["num_groups"] < LEAST_GROUPS:
        yield (
            f"Only {counted(evaluation['num_groups'], 'group')}: too few patients for an "
            "interval, and for much trust in a mean."
        )
    if evaluation["num_absent"] and evaluation["false_mask_rate"]:
        yield (
            f"Where there is nothing to find, {evaluation['false_mask_rate']:.0%} of "
            f"{counted(evaluation['num_absent'], 'answer')} show a mask all the same."
        )
    if audit is not None and not audit["ok"]:
        yield f"The gradient audit found fault: {audit['verdict']}"


def _deaf(evaluation: Mapping[str, Any]) -> str | None:
    if not evaluation["is_deaf"]:
        return None
    said, true = evaluation["prompt_sensitivity"], evaluation["truth_sensitivity"]
    return (
        "The model gives one mask to every phrase, however good that mask is: between phrases "
        f"its masks differ by {said:.3f}, the true ones by {true:.3f}. The phrases have not been "
        "learnt."
    )


def _forced(evaluation: Mapping[str, Any]) -> str | None:
    forced, own = evaluation["teacher_forced"], evaluation["mean"]["dice"]
    if forced is None or own is None or forced["mean"]["dice"] - own <= _FORCED_GAP:
        return None
    return (
        f"Given the trained answer, Dice is {forced['mean']['dice']:.3f}; by its own answers, "
        f"{own:.3f}. What is lost between them is lost in the words."
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
