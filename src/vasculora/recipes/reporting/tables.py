"""The tables of a report, as the words that stand in their cells.

One row a metric, in the panel's order and by its labels; one column a way of asking. Lists of
groups and cases begin with the worst: that is where a reader should look.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vasculora.core.tables import counted
from vasculora.metrics.panel import METRICS
from vasculora.recipes.reporting.verdict import bounds, number

TILES = ("dice", "cldice", "sensitivity", "precision", "small_vessel_recall")
SHORT = ("dice", "cldice", "sensitivity", "precision", "hd95")
"""Metrics of the lists of groups and cases; the CSV holds all."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: What it says.
        detail: Said smaller behind it.
        mood: `better`, `worse`, `none` where there is no value, or nothing.
    """

    text: str
    detail: str = ""
    mood: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table with one name in front of each row.

    Attributes:
        head: The head of the first column.
        columns: The other columns: head and what stands smaller under it.
        rows: Name, what stands smaller behind it, cells.
    """

    head: str
    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[str, str, tuple[Cell, ...]], ...]


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One key figure.

    Attributes:
        label: What it is.
        value: The figure.
        detail: Its interval, or what it is a share of.
    """

    label: str
    value: str
    detail: str


def tiles(evaluation: Mapping[str, Any]) -> list[Tile]:
    """Return the key figures."""
    shown = [
        Tile(
            label=METRICS[name].label,
            value=number(evaluation["mean"][name]),
            detail=bounds(evaluation["interval"].get(name)),
        )
        for name in TILES
        if evaluation["mean"].get(name) is not None
    ]
    if evaluation["seg_rate"] is not None:
        shown.append(
            Tile(
                label="[SEG] rate",
                value=_percent(evaluation["seg_rate"]),
                detail=f"of {counted(len(evaluation['cases']), 'answer')}",
            )
        )
    if evaluation["num_absent"] and evaluation["false_mask_rate"] is not None:
        shown.append(
            Tile(
                label="False masks",
                value=_percent(evaluation["false_mask_rate"]),
                detail=f"of {counted(evaluation['num_absent'], 'absent target')}",
            )
        )
    return shown


def metrics_table(evaluation: Mapping[str, Any]) -> Table:
    """Return every metric by every way of asking, and against every other model."""
    columns = list(_columns(evaluation))
    rows = []
    for name in METRICS:
        cells = tuple(cell(name) for _, cell in columns)
        if any(cell.mood != "none" for cell in cells):
            rows.append((*_named(name, evaluation), cells))
    return Table(head="Metric", columns=tuple(head for head, _ in columns), rows=tuple(rows))


def groups_table(evaluation: Mapping[str, Any]) -> Table | None:
    """Return the scores by group, worst first; None where each case is a group of its own."""
    groups = evaluation["groups"]
    if len(groups) == evaluation["num_cases"]:
        return None
    names = _short(evaluation)
    rows = tuple(
        (
            group["group"],
            "",
            (
                Cell(text=f"{group['num_cases']:,}"),
                *(_cell(name, group["mean"].get(name)) for name in names),
            ),
        )
        for group in sorted(groups, key=lambda group: _rank(group["mean"]["dice"]))
    )
    return Table(head="Group", columns=(("Cases", ""), *map(_head, names)), rows=rows)


def cases_table(evaluation: Mapping[str, Any]) -> Table:
    """Return the scores by case, worst first."""
    cases = sorted(evaluation["cases"], key=lambda case: _rank(case["dice"]))
    names = _short(evaluation)
    other = [
        (key, head)
        for key, head in (
            ("dice_at_half", ("Dice", "at 0.5")),
            ("dice_teacher_forced", ("Dice", "trained answer given")),
        )
        if any(case.get(key) is not None for case in cases)
    ]
    rows = tuple(
        (
            case["case_id"],
            _marks(case),
            (
                *(_cell(name, case.get(name)) for name in names),
                *(_cell("dice", case.get(key)) for key, _ in other),
            ),
        )
        for case in cases
    )
    columns = (*map(_head, names), *(head for _, head in other))
    return Table(head="Case", columns=columns, rows=rows)


def _columns(evaluation: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], Any]]:
    """Yield head and cells of each column, a cell as a function of a metric's name."""
    threshold = evaluation["threshold"]
    own = "these masks" if evaluation["model"] is None else "this model"
    yield (
        (own, _at(threshold)),
        lambda name: _cell(name, evaluation["mean"].get(name), evaluation["interval"].get(name)),
    )
    if evaluation["at_half"] is not None and threshold != 0.5:
        yield (own, "at threshold 0.5"), _means(evaluation["at_half"])
    if evaluation["teacher_forced"] is not None:
        yield ("trained answer given", _at(threshold)), _means(evaluation["teacher_forced"]["mean"])
    for other in evaluation["comparisons"]:
        detail = _at(other["threshold"])
        yield (other["name"], detail), _means(other["mean"], other["interval"])
        if other["paired"] is not None:
            untouched = other["kind"] == "untouched"
            detail = "both at threshold 0.5" if untouched else "from the column before"
            yield ("difference", detail), _differences(other["paired"])


def _means(mean: Mapping[str, Any], intervals: Mapping[str, Any] | None = None) -> Any:
    return lambda name: _cell(name, mean.get(name), (intervals or {}).get(name))


def _differences(paired: Mapping[str, Any]) -> Any:
    def cell(name: str) -> Cell:
        found = paired.get(name)
        if found is None:
            return Cell(text=number(None), mood="none")
        difference, digits = found["difference"], _digits(name)
        verdict = found["verdict"]
        span = bounds(difference, digits, sign=True)
        return Cell(
            text=number(difference["mean"], digits, sign=True),
            detail=f"{span} {verdict}".strip(),
            mood=verdict if verdict in ("better", "worse") else "",
        )

    return cell


def _cell(name: str, value: float | None, interval: Mapping[str, Any] | None = None) -> Cell:
    digits = _digits(name)
    if value is None:
        return Cell(text=number(None), mood="none")
    return Cell(text=number(value, digits), detail=bounds(interval, digits))


def _percent(share: float) -> str:
    # Never rounded to a whole it is not.
    return f"{share:.0%}" if share in (0, 1) else f"{share:.1%}"


def _digits(name: str) -> int:
    return 3 if METRICS[name].unit == "" and "betti" not in name else 1


def _named(name: str, evaluation: Mapping[str, Any]) -> tuple[str, str]:
    defined = evaluation["num_defined"].get(name, evaluation["num_cases"])
    some = f", {counted(defined, 'case')}" if defined < evaluation["num_cases"] else ""
    return METRICS[name].title, f"{METRICS[name].better} is better{some}"


def _head(name: str) -> tuple[str, str]:
    return METRICS[name].title, ""


def _short(evaluation: Mapping[str, Any]) -> Sequence[str]:
    in_mm = evaluation["mean"].get("hd95_mm") is not None
    return [f"{name}_mm" if name == "hd95" and in_mm else name for name in SHORT]


def _rank(value: float | None) -> float:
    return -1.0 if value is None else value


def _marks(case: Mapping[str, Any]) -> str:
    marks = []
    if case.get("group") not in (None, case["case_id"]):
        marks.append(f"group {case['group']}")
    if case.get("absent"):
        marks.append("absent")
    if case.get("seg_found") is False:
        marks.append("no [SEG]")
    return ", ".join(marks)


def _at(threshold: float | None) -> str:
    return "" if threshold is None else f"at threshold {threshold:g}"
