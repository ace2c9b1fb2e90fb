"""What `evaluation.json` and `cases.csv` say: means with intervals, comparisons, groups, cases.

A mean runs over the cases for which its metric is defined; its interval comes from drawing whole
groups, because images of one patient are alike. A comparison pairs the same cases. The sweep of
thresholds is written for validation images only: a threshold chosen on a test part flatters it.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, Literal

from vasculora.core.io import write_json, write_text
from vasculora.core.report import Report
from vasculora.engine.evaluator import HALF
from vasculora.engine.scores import CaseScore, Evaluation
from vasculora.metrics.mask import SWEEP
from vasculora.metrics.panel import METRICS
from vasculora.metrics.statistics import interval, paired

EVALUATION_NAME = "evaluation.json"
CASES_NAME = "cases.csv"

Kind = Literal["untouched", "baseline", "plain", "observer"]


@dataclass(frozen=True, kw_only=True)
class About:
    """What was scored, and how it was asked.

    Attributes:
        model: The model; None where masks are scored that no model was asked for.
        against: Where such masks lie; None of a model.
        data: The data, or that it is private.
        split: The part of it.
        threshold: Probability above which a pixel counts; None of masks.
        options: How answers were averaged and cleaned.
        num_trained_on: Cases whose names are among those that the model was trained on.
    """

    model: str | None
    against: str | None = None
    data: str
    split: str
    threshold: float | None
    options: Mapping[str, Any]
    num_trained_on: int = 0

    @property
    def is_cleaned(self) -> bool:
        """Whether masks are more than probabilities above a threshold."""
        return bool(self.options["min_size"]) or self.options["hysteresis"] is not None


def scorecard(
    evaluation: Evaluation, about: About, comparisons: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """Return what `evaluation.json` holds.

    Args:
        evaluation: All cases.
        about: What was scored.
        comparisons: Rows of `compared` and `beside`.
    """
    cases = evaluation.cases
    mean = evaluation.mean()
    asked = about.model is not None
    groups = sorted({case.group for case in cases})
    total = evaluation.reliability()
    return {
        "model": about.model,
        "against": about.against,
        "data": about.data,
        "split": about.split,
        "num_cases": len(cases),
        "num_groups": len(groups),
        "threshold": about.threshold,
        "options": dict(about.options),
        "num_trained_on": about.num_trained_on,
        "seg_rate": evaluation.seg_rate if asked else None,
        "num_absent": sum(case.absent for case in cases),
        "false_mask_rate": evaluation.false_mask_rate,
        "prompt_sensitivity": evaluation.prompt_sensitivity,
        "truth_sensitivity": evaluation.truth_sensitivity,
        "is_deaf": evaluation.is_deaf,
        "mean": mean,
        "num_defined": {
            name: sum(value is not None for value in evaluation.values(name)) for name in mean
        },
        "interval": {name: _interval(evaluation, name) for name in mean},
        # cleaning up goes by the model's own threshold, so at others nothing compares with it
        "at_half": None if about.is_cleaned else evaluation.mean_at_half(),
        "teacher_forced": _forced(evaluation),
        "sweep": _sweep(evaluation) if about.split == "val" and not about.is_cleaned else None,
        "reliability": None if total is None else total.to_dict(),
        "comparisons": [dict(row) for row in comparisons],
        "groups": [_group(group, evaluation) for group in groups],
        "cases": [_row(case, is_cleaned=about.is_cleaned) for case in cases],
    }


def compared(
    name: str,
    kind: Kind,
    evaluation: Evaluation,
    other: Evaluation,
    *,
    threshold: float | None,
    num_draws: int = 1000,
) -> dict[str, Any]:
    """Return how the cases of an evaluation stand to the same cases of another one.

    Args:
        name: What the other one is called.
        kind: What it is.
        evaluation: The model's.
        other: The one it is compared with, on the same cases in the same order.
        threshold: The other one's.
        num_draws: Of the bootstrap.
    """
    found = {}
    for metric in other.cases[0].scores:
        pairs = [
            (case.group, mine, theirs)
            for case, mine, theirs in zip(
                evaluation.cases, evaluation.values(metric), other.values(metric), strict=True
            )
            if mine is not None and theirs is not None
        ]
        if pairs:
            groups, mine, theirs = zip(*pairs, strict=True)
            better = METRICS[metric].better
            found[metric] = paired(
                mine, theirs, groups, better=better, num_draws=num_draws
            ).to_dict()
    return beside(name, kind, other, threshold=threshold) | {"paired": found}


def beside(
    name: str, kind: Kind, other: Evaluation, *, threshold: float | None = None
) -> dict[str, Any]:
    """Return the means of another evaluation and how sure they are, to stand beside a model's."""
    return {
        "name": name,
        "kind": kind,
        "mean": other.mean(),
        "interval": {metric: _interval(other, metric) for metric in other.mean()},
        "threshold": threshold,
        "paired": None,
    }


def write_scorecard(out: Path, card: Mapping[str, Any]) -> None:
    """Write `evaluation.json` and `cases.csv` into a folder."""
    rows = card["cases"]
    text = StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    write_json(out / EVALUATION_NAME, card)
    write_text(out / CASES_NAME, text.getvalue())


def show_scorecard(card: Mapping[str, Any], report: Report) -> None:
    """Show the means of an evaluation with their intervals, and its comparisons."""
    name = card["model"] or card["against"]
    about = f"{card['num_cases']} cases of {card['num_groups']} groups"
    if card["threshold"] is not None:
        about += f", threshold {card['threshold']:g}"
    others = card["comparisons"]
    at_half = None if card["threshold"] == HALF else card["at_half"]
    columns = ["", "mean", "95 % interval"]
    columns += [] if at_half is None else [f"at {HALF:g}"]
    columns += [_headed(other, card["threshold"]) for other in others]
    report.table(
        f"{name} on {card['split']} ({about})",
        columns,
        [
            _line(key, card, [row for row in (at_half, *(o["mean"] for o in others)) if row])
            for key, value in card["mean"].items()
            if value is not None
        ],
    )
    for other in others:
        if other["paired"] and "dice" in other["paired"]:
            report.note(_difference(other, card["threshold"]))


def _headed(other: Mapping[str, Any], threshold: float | None) -> str:
    name, own = str(other["name"]), other["threshold"]
    return name if own is None or own == threshold else f"{name} (at {own:g})"


def _line(key: str, card: Mapping[str, Any], means: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    return (
        METRICS[key].title.removesuffix(" error"),  # a word that people search a log for
        told(card["mean"][key]),
        span(card["interval"][key]),
        *(told(mean.get(key)) for mean in means),
    )


def _difference(other: Mapping[str, Any], threshold: float | None) -> str:
    found = other["paired"]["dice"]
    gap = found["difference"]
    p_value = "" if found["p_value"] is None else f", Wilcoxon p {found['p_value']:.2g}"
    return (
        f"Dice{_where(other, threshold)} against {_called(other)}: {gap['mean']:+.4f} "
        f"{span(gap, signed=True)}{p_value}; "
        f"{found['num_improved']} of {gap['num_cases']} cases improved: {found['verdict']}."
    )


def _where(other: Mapping[str, Any], threshold: float | None) -> str:
    """Return at which thresholds two are compared, where that is not plain from the table."""
    if other["threshold"] == threshold:
        return ""
    if other["kind"] == "untouched":
        return f", both at {HALF:g},"
    return f" (at {threshold:g}, the other at {other['threshold']:g})"


def _called(other: Mapping[str, Any]) -> str:
    return f"the answers {other['name']}" if other["kind"] == "plain" else str(other["name"])


def told(value: float | None) -> str:
    """Return a score as it is shown; a dash where it is undefined."""
    return "-" if value is None else f"{value:.4f}"


def span(spread: Mapping[str, Any] | None, *, signed: bool = False) -> str:
    """Return an interval as it is shown; a dash where there is none."""
    if spread is None or spread["low"] is None:
        return "-"
    sign = "+" if signed else ""
    return f"[{spread['low']:{sign}.3f}, {spread['high']:{sign}.3f}]"


def _interval(evaluation: Evaluation, metric: str) -> dict[str, Any] | None:
    known = [
        (value, case.group)
        for case, value in zip(evaluation.cases, evaluation.values(metric), strict=True)
        if value is not None
    ]
    if not known:
        return None
    values, groups = zip(*known, strict=True)
    return interval(values, groups).to_dict()


def _forced(evaluation: Evaluation) -> dict[str, Any] | None:
    mean = evaluation.mean_forced()
    if mean is None:
        return None
    others = sum(case.as_trained is False for case in evaluation.cases)
    return {"num_other_answers": others, "mean": mean}


def _sweep(evaluation: Evaluation) -> dict[str, Any] | None:
    dice = evaluation.mean_sweep()
    if dice is None:
        return None
    return {"thresholds": list(SWEEP), "dice": dice, "best": evaluation.best_threshold()}


def _group(group: str, evaluation: Evaluation) -> dict[str, Any]:
    members = Evaluation(cases=tuple(c for c in evaluation.cases if c.group == group))
    return {"group": group, "num_cases": len(members.cases), "mean": members.mean()}


def _row(case: CaseScore, *, is_cleaned: bool) -> dict[str, Any]:
    at_half = None if is_cleaned else case.at_half
    return {
        "case_id": case.case_id,
        "group": case.group,
        "seg_found": case.seg_found,
        "absent": case.absent,
        **case.scores,
        "dice_at_half": None if at_half is None else at_half["dice"],
        "dice_teacher_forced": None if case.forced is None else case.forced["dice"],
    }


def _cell(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else value
