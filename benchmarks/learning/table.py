"""The runs of a label, or of several: means, differences with intervals; of one, a picture."""

import argparse
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from benchmarks.learning.picture import draw_picture
from benchmarks.learning.sets import SETS

from vasculora.core.io import read_json, write_json, write_text
from vasculora.metrics.statistics import interval, paired

RESULTS = Path(__file__).parent / "results"
NAMES = {"dice": "Dice", "cldice": "clDice"}
ORDER = ("nano", "everything", "unet", "basicunet")

Run = dict
Scores = dict[str, dict[str, dict[str, float]]]
"""Score by metric, method and case."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--label", nargs="+", required=True, help="several stand beside each other")
    args = parser.parse_args()
    runs = [run for label in args.label for run in read_runs(label, several=len(args.label) > 1)]
    out = RESULTS / args.label[0]
    tables = {}
    for name in (name for name in SETS if any(run["set"] == name for run in runs)):
        own = [run for run in runs if run["set"] == name]
        tables[name] = table_of(own)
        if len(args.label) == 1:  # more would not be told apart
            draw_picture(out / f"{name}.png", title=SETS[name].title, **pictured(own, tables[name]))
    write_json(out / "table.json", tables)
    text = "\n".join(markdown(name, rows) for name, rows in tables.items())
    write_text(out / "table.md", text)
    print(text)


def read_runs(label: str, *, several: bool) -> list[Run]:
    """Return the finished runs of a label."""
    runs = [read_json(path) for path in sorted((RESULTS / label / "runs").glob("*.json"))]
    if not runs:
        raise FileNotFoundError(f"{RESULTS / label}: no finished run. Make some with run.py.")
    for run in runs:
        run["method"] += f" ({label})" if several else ""
    return runs


def table_of(runs: Sequence[Run]) -> list[dict[str, object]]:
    """Return a row for each number of images: each method, and the first against every other."""
    rows = []
    for num in sorted({run["n"] for run in runs}):
        own = [run for run in runs if run["n"] == num]
        methods = methods_of(own)
        scores, groups = case_scores(own)
        # only cases that all methods have been tested on
        cases = sorted(set.intersection(*(set(scores["dice"][m]) for m in methods)))
        row: dict[str, object] = {"n": num, "cases": len(cases)}
        if cases:
            row["groups"] = len({groups[case] for case in cases})
            row["methods"] = {m: method_row(own, scores, m, cases, groups) for m in methods}
            row["differences"] = differences(scores, methods, cases, groups)
        rows.append(row)
    return rows


def methods_of(runs: Iterable[Run]) -> list[str]:
    """Return the methods there are, nano's before the U-Nets', labels in the order given."""
    found = dict.fromkeys(run["method"] for run in runs)
    return sorted(found, key=lambda method: ORDER.index(method.split()[0]))


def case_scores(runs: Iterable[Run]) -> tuple[Scores, dict[str, str]]:
    """Return the score of every case, the mean over seeds, and the group of each."""
    found: dict = {name: defaultdict(lambda: defaultdict(list)) for name in NAMES}
    groups: dict[str, str] = {}
    for run in runs:
        for case in run["cases"]:
            groups[case["case_id"]] = case["group"]
            for name in NAMES:
                found[name][run["method"]][case["case_id"]].append(case[name])
    scores = {
        name: {m: {c: float(np.mean(v)) for c, v in of.items()} for m, of in by_method.items()}
        for name, by_method in found.items()
    }
    return scores, groups


def method_row(
    runs: Iterable[Run],
    scores: Scores,
    method: str,
    cases: Sequence[str],
    groups: dict[str, str],
) -> dict[str, object]:
    """Return a method's scores and what they took."""
    own = [run for run in runs if run["method"] == method]
    named = [groups[case] for case in cases]
    row: dict[str, object] = {
        name: interval([scores[name][method][case] for case in cases], named).to_dict()
        for name in NAMES
    }
    minutes = sum(run["minutes"] for run in own)
    row["runs"] = len(own)
    row["minutes"] = round(minutes / len(own), 2)
    row["steps_a_minute"] = round(sum(run["steps"] for run in own) / minutes, 1)
    row["images_a_minute"] = round(sum(run["images_seen"] for run in own) / minutes, 1)
    row["parameters_trained"] = own[0]["parameters_trained"]
    row["file_kib"] = own[0]["file_kib"]
    return row


def differences(
    scores: Scores, methods: Sequence[str], cases: Sequence[str], groups: dict[str, str]
) -> dict[str, dict[str, object]]:
    """Return what lies between the first method and every other, case by case."""
    first, *others = methods
    named = [groups[case] for case in cases]
    return {
        f"{first} - {other}": {
            name: paired(
                [of[first][case] for case in cases], [of[other][case] for case in cases], named
            ).to_dict()
            for name, of in scores.items()
        }
        for other in others
    }


def markdown(name: str, rows: Sequence[dict]) -> str:
    """Return a set's tables."""
    lines = [f"## {SETS[name].title}", ""]
    lines += [
        "| images | method | Dice | clDice | minutes | images a minute | trained weights | file |"
    ]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for row in rows:
        for method, own in row.get("methods", {}).items():
            scores = " | ".join(ranged(own[key]) for key in NAMES)
            lines.append(
                f"| {row['n']} | {method} | {scores} | {own['minutes']:.1f} | "
                f"{own['images_a_minute']:.0f} | "
                f"{own['parameters_trained']:,} | {own['file_kib'] / 1024:.1f} MiB |"
            )
    lines += [
        "",
        "| images | difference | Dice | clDice | cases | groups |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        for pair, own in row.get("differences", {}).items():
            gaps = " | ".join(
                f"{ranged(own[key]['difference'], sign='+')}, {own[key]['verdict']}"
                for key in NAMES
            )
            lines.append(f"| {row['n']} | {pair} | {gaps} | {row['cases']} | {row['groups']} |")
    return "\n".join([*lines, ""])


def ranged(value: dict, sign: str = "") -> str:
    """Return a mean with its interval."""
    if value["low"] is None:
        return f"{value['mean']:{sign}.3f}"
    return f"{value['mean']:{sign}.3f} ({value['low']:{sign}.3f} to {value['high']:{sign}.3f})"


def pictured(runs: Sequence[Run], rows: Sequence[dict]) -> dict[str, object]:
    """Return the points of the picture: Dice against images, and against minutes."""
    points: dict[str, list] = {method: [] for method in methods_of(runs)}
    for row in rows:
        for method, own in row.get("methods", {}).items():
            dice = own["dice"]
            points[method].append((row["n"], dice["mean"], dice["low"], dice["high"]))
    unseen = {run["n"] for run in runs if "val_dice" not in run["curve"][0]}
    watched = sorted({run["n"] for run in runs} - unseen)
    courses = {}
    for num in dict.fromkeys([*watched[:1], *watched[-1:]]):
        for method in points:
            own = [run for run in runs if run["n"] == num and run["method"] == method]
            if own:
                courses[method, num] = mean_course(own)
    return {"points": {m: p for m, p in points.items() if p}, "courses": courses}


def mean_course(runs: Sequence[Run]) -> list[tuple[float, float]]:
    """Return minutes and Dice of each look, the mean over runs that looked as often as most."""
    least = min(len(run["curve"]) for run in runs)
    curves = [[*run["curve"][: least - 1], run["curve"][-1]] for run in runs]
    return [
        (float(np.mean([r["minutes"] for r in at])), float(np.mean([r["val_dice"] for r in at])))
        for at in zip(*curves, strict=True)
    ]


if __name__ == "__main__":
    main()
