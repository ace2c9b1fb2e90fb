"""What `vasculora compare` finds, as a record, and how it is shown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vasculora.core.report import Report
from vasculora.core.tables import counted
from vasculora.metrics.panel import METRICS
from vasculora.metrics.statistics import Interval, Paired
from vasculora.recipes.comparing.contender import Contender
from vasculora.viz.comparison import RunScore, comparison_chart

COLUMNS = ("iou", "cldice", "hd95")
"""Metrics beside Dice in the table of runs; all are in the file."""
DIFFERENCES = ("dice", "iou", "sensitivity", "precision", "cldice", "hd95", "betti0_error")
"""Metrics in the tables of differences, likewise."""
UNSET = "-"
"""Where there is nothing to show."""

_LONGEST_VALUE = 60
_WORDS = {"True": "true", "False": "false", "None": "null"}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What comparing runs found.

    Attributes:
        runs: In the order given; the others stand against the first.
        case_ids: The cases that all of them were scored on.
        num_groups: Groups they belong to.
        intervals: By run and metric; metrics that no shared case has are left out.
        differences: Each run's but the first's, by run and metric, from the first's.
        settings: What is not the same in all: by dotted key, then by run; runs without it are left
            out.
        warnings: What to mind before believing any of it.
    """

    runs: Sequence[Contender]
    case_ids: Sequence[str]
    num_groups: int
    intervals: Mapping[str, Mapping[str, Interval]]
    differences: Mapping[str, Mapping[str, Paired]]
    settings: Mapping[str, Mapping[str, object]]
    warnings: Sequence[str]

    @property
    def about(self) -> str:
        """What the scores are taken over."""
        splits = dict.fromkeys(run.split for run in self.runs)
        part = "" if "all" in splits else f"{' and '.join(splits)} "
        return (
            f"{counted(len(self.case_ids), f'{part}case')} of {counted(self.num_groups, 'group')}"
        )

    def to_dict(self) -> dict[str, object]:
        """Return it as plain values, for JSON."""
        return {
            "num_cases": len(self.case_ids),
            "num_groups": self.num_groups,
            "warnings": list(self.warnings),
            "runs": [
                {
                    "name": run.name,
                    "folder": str(run.folder),
                    "split": run.split,
                    "num_cases": len(run.scores),
                    "best": None if run.metrics is None else run.metrics.get("best"),
                    "interval": {m: i.to_dict() for m, i in self.intervals[run.name].items()},
                }
                for run in self.runs
            ],
            "differences": [
                {
                    "name": name,
                    "against": self.runs[0].name,
                    "paired": {metric: one.to_dict() for metric, one in found.items()},
                }
                for name, found in self.differences.items()
            ],
            "settings": {key: dict(values) for key, values in self.settings.items()},
        }


def show(found: Comparison, report: Report) -> None:
    """Show scores, differences and settings; what to mind first."""
    for text in found.warnings:
        report.warn(text)
    _show_runs(found, report)
    for name, differences in found.differences.items():
        rows = [_difference_row(m, differences[m]) for m in DIFFERENCES if m in differences]
        report.table(
            f"{name} against {found.runs[0].name}, with 95 % intervals",
            ("metric", "difference", "cases better", "verdict"),
            rows,
        )
    _show_settings(found, report)


def _show_runs(found: Comparison, report: Report) -> None:
    columns = [
        name for name in COLUMNS if any(name in found.intervals[run.name] for run in found.runs)
    ]
    rows = []
    for run in found.runs:
        means = found.intervals[run.name]
        cells = [_number(name, means.get(name)) for name in columns]
        dice = means.get("dice")
        score = UNSET if dice is None else f"{dice.mean:.3f} {_ends(dice, 2)}".rstrip()
        rows.append([run.name, score, *cells, _best_epoch(run)])
    heads = [METRICS[name].title for name in columns]
    title = f"Scores on {found.about}, Dice with its 95 % interval"
    report.table(title, ("run", "Dice", *heads, "epoch"), rows)


def _show_settings(found: Comparison, report: Report) -> None:
    names = [run.name for run in found.runs]
    for run in found.runs:
        if not run.has_run:
            report.note(f"{run.name}: its run's folder is not known, so nor are its settings.")
    if not found.settings:
        report.note("Their settings are the same.")
        return
    rows = [
        [key, *(_shown(values[name]) if name in values else UNSET for name in names)]
        for key, values in found.settings.items()
    ]
    report.table("What was set otherwise", ("setting", *names), rows)


def _difference_row(metric: str, one: Paired) -> tuple[str, ...]:
    return (
        METRICS[metric].title,
        _with_ends(metric, one.difference),
        f"{one.num_improved} of {one.difference.num_cases}",
        one.verdict,
    )


def _with_ends(metric: str, one: Interval) -> str:
    """Return a difference with its sign and its interval."""
    digits = _digits(metric)
    return f"{one.mean:+.{digits}f} {_ends(one, digits, sign='+')}".rstrip()


def _ends(one: Interval, digits: int, sign: str = "") -> str:
    if one.low is None or one.high is None:
        return ""
    return f"[{one.low:{sign}.{digits}f}, {one.high:{sign}.{digits}f}]"


def _number(metric: str, one: Interval | None) -> str:
    return UNSET if one is None else f"{one.mean:.{_digits(metric)}f}"


def _digits(metric: str) -> int:
    """Return how many digits a metric's numbers are worth: shares three, lengths and counts two."""
    return 2 if METRICS[metric].unit or metric.startswith("betti") else 3


def _best_epoch(run: Contender) -> str:
    if run.metrics is None or not run.metrics.get("best"):
        return UNSET
    return f"{run.metrics['best']['epoch']:.0f}/{len(run.metrics['epochs'])}"


def _shown(value: object) -> str:
    """Return a setting as one would write it."""
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    text = _WORDS.get(text, text)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 3]}..."


def draw(found: Comparison, path: Path) -> None:
    """Draw every run that has a Dice, as a PNG."""
    runs = [_run_score(run, found) for run in found.runs if "dice" in found.intervals[run.name]]
    label = "Dice" if any(run.low is None for run in runs) else "Dice, with 95 % interval"
    comparison_chart(path, runs, title=f"Dice on {found.about}", label=label)


def _run_score(run: Contender, found: Comparison) -> RunScore:
    dice = found.intervals[run.name]["dice"]
    epochs = [] if run.metrics is None else run.metrics.get("epochs", [])
    best = None if run.metrics is None else run.metrics.get("best")
    difference = found.differences.get(run.name, {}).get("dice")
    return RunScore(
        name=run.name,
        dice=dice.mean,
        low=dice.low,
        high=dice.high,
        remark="" if difference is None else _remark(difference),
        epochs=[int(row["epoch"]) for row in epochs],
        val_dice=[row["val_dice"] for row in epochs],
        best_epoch=None if not best else int(best["epoch"]),
    )


def _remark(difference: Paired) -> str:
    if difference.verdict == "no clear difference":
        return difference.verdict
    return f"{difference.verdict}: {_with_ends('dice', difference.difference)}"
