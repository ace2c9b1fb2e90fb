"""Compare runs on the cases they share: their scores, the differences, and what was set otherwise.

    read every run's scores -> the cases that all have -> means with intervals, and each run
    against the first, case by case -> a table, a picture, comparison.json

A difference counts as clear where its 95 % interval leaves out 0 (`metrics/statistics.py`). The
means are taken over the shared cases, so they may differ from a run's own report.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from vasculora.core.io import write_json
from vasculora.core.report import Report
from vasculora.core.tables import counted
from vasculora.metrics.panel import METRICS
from vasculora.metrics.statistics import LEAST_GROUPS, Interval, Paired, interval, paired
from vasculora.recipes.comparing.comparison import Comparison, draw, show
from vasculora.recipes.comparing.contender import Contender, read_contenders
from vasculora.recipes.run_folder import refuse_loss

COMPARISON_NAME = "comparison.json"
CHART_NAME = "comparison.png"

_DATA = "provenance.data_fingerprint"


def compare(paths: Sequence[Path], out: Path | None = None, *, report: Report) -> Comparison:
    """Show how runs differ, and return it; with a folder also write a picture and a file.

    Args:
        paths: Runs' folders, or folders that `evaluate` wrote; the others are held against the
            first.
        out: Folder for `comparison.png` and `comparison.json`; an older pair is replaced.
        report: Where the tables go.

    Raises:
        ValueError: If there are fewer than two, they share no case, one cannot be read, or a
            picture of another origin would be written over.
        FileNotFoundError: If one has no scores.
    """
    if out is not None:
        refuse_loss((out / COMPARISON_NAME, out / CHART_NAME))
    found = find_differences(read_contenders(list(paths)))
    show(found, report)
    if out is not None:
        write_json(out / COMPARISON_NAME, found.to_dict())
        draw(found, out / CHART_NAME)
        report.note(f"Picture: {out / CHART_NAME}")
    return found


def find_differences(runs: Sequence[Contender]) -> Comparison:
    """Return how runs differ on the cases that all of them were scored on.

    Raises:
        ValueError: If there is no such case.
    """
    first, *others = runs
    case_ids = [name for name in first.scores if all(name in run.scores for run in others)]
    if not case_ids:
        counts = ", ".join(f"{run.name} {counted(len(run.scores), 'case')}" for run in runs)
        raise ValueError(
            f"these runs were scored on different cases ({counts}), and none is in all of them. "
            "Score each on the same images: vasculora evaluate RUN --data DATA --out OUT"
        )
    return Comparison(
        runs=runs,
        case_ids=case_ids,
        num_groups=len({first.groups[name] for name in case_ids}),
        intervals={run.name: _intervals(run, first, case_ids) for run in runs},
        differences={run.name: _differences(run, first, case_ids) for run in others},
        settings=_unlike(runs),
        warnings=list(_warnings(runs, case_ids)),
    )


def _intervals(run: Contender, first: Contender, case_ids: Sequence[str]) -> dict[str, Interval]:
    found = {}
    for metric in METRICS:
        scores = {name: run.scores[name][metric] for name in case_ids}
        known = {name: score for name, score in scores.items() if score is not None}
        if known:
            groups = [first.groups[name] for name in known]
            found[metric] = interval(list(known.values()), groups)
    return found


def _differences(run: Contender, first: Contender, case_ids: Sequence[str]) -> dict[str, Paired]:
    found = {}
    for metric, kind in METRICS.items():
        values, others, groups = [], [], []
        for name in case_ids:
            mine, theirs = run.scores[name][metric], first.scores[name][metric]
            if mine is not None and theirs is not None:
                values.append(mine)
                others.append(theirs)
                groups.append(first.groups[name])
        if values:
            found[metric] = paired(values, others, groups, better=kind.better)
    return found


def _unlike(runs: Sequence[Contender]) -> dict[str, dict[str, object]]:
    """Return the settings that are not the same in all runs whose settings are known."""
    known = [run for run in runs if run.has_run]
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    found = {}
    for key in sorted(keys, key=_of_scoring):
        told = runs if _of_scoring(key) else known
        values = {run.name: run.settings[key] for run in told if key in run.settings}
        alike = len(values) == len(told) and all(
            value == next(iter(values.values())) for value in values.values()
        )
        if not alike:
            found[key] = values
    return found


def _of_scoring(key: str) -> bool:
    return key.startswith("scoring.")


def _warnings(runs: Sequence[Contender], case_ids: Sequence[str]) -> Iterator[str]:
    """Yield what to mind before believing the differences."""
    first = runs[0]
    if any(len(run.scores) > len(case_ids) for run in runs):
        counts = ", ".join(f"{run.name} {len(run.scores)}" for run in runs)
        yield (
            f"the runs were scored on different cases ({counts}), so only what all of them share "
            f"is compared: {counted(len(case_ids), 'case')}. For more, score each on the same "
            "images: vasculora evaluate RUN --data DATA --out OUT"
        )
    fingerprints = {run.settings[_DATA] for run in runs if _DATA in run.settings}
    if len(fingerprints) > 1:
        yield (
            "the runs were trained on different data. Cases are matched by name: make sure that "
            "one name means one image."
        )
    for run in runs:
        learnt = sum(run.learnt_from(name) for name in case_ids)
        if learnt:
            yield (
                f"{run.name} was trained on {learnt} of the {len(case_ids)} compared cases: there "
                "its scores say what it remembers. Compare on cases that no run has learnt from."
            )
        if any(run.groups[name] != first.groups[name] for name in case_ids):
            yield (
                f"{run.name} and {first.name} group the cases differently. The groups of "
                f"{first.name} count."
            )
    parts = {run.trained_on for run in runs if run.trained_on}
    if len(parts) > 1:
        yield (
            "the runs were trained on different cases, so not only their settings differ, and "
            "their curves may be of different val cases. Another seed divides the data otherwise; "
            "a split.json beside the data keeps one split."
        )
    if len({first.groups[name] for name in case_ids}) < LEAST_GROUPS:
        yield (
            f"the cases belong to fewer than {LEAST_GROUPS} groups: too few for an interval, so "
            "no difference can be clear."
        )
