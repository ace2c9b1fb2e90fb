"""`report.html`: what a run or an evaluation came to, on one page that needs nothing else.

It repeats what `evaluation.json` and the run's other files hold, in the order in which a reader
asks: what came out, can I believe it, what does it look like, where does it fail, what was done.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from jaxtyping import Bool, UInt8

from vasculora.core.io import read_json, write_text
from vasculora.core.runtime import versions
from vasculora.core.tables import counted
from vasculora.engine.tracker import METRICS_NAME
from vasculora.recipes.reporting.tables import cases_table, groups_table, metrics_table, tiles
from vasculora.recipes.reporting.verdict import limits, number, remarks, verdict, warnings
from vasculora.recipes.run_folder import AUDIT_NAME, CONFIG_NAME, SPLIT_NAME
from vasculora.viz.figures import cases_figure, epochs_figure, reliability_figure, sweep_figure
from vasculora.viz.layers import Layers, case_layers
from vasculora.viz.page import render_page

REPORT_NAME = "report.html"
GALLERY_BYTES = 4_400_000
"""Of all pictures together: a report must fit an e-mail, whatever it shows."""
MOST_OF_A_CASE = 400_000
RANKS = ("best", "median", "worst")


@dataclass(frozen=True, kw_only=True)
class GalleryCase:
    """One case to be looked at.

    Attributes:
        case_id: Its name.
        group: Patient, eye or run.
        rank: Why it is shown.
        dice: Its Dice, at the threshold of `pred`.
        image: RGB.
        mask: The truth.
        pred: The prediction.
    """

    case_id: str
    group: str
    rank: Literal["best", "median", "worst"]
    dice: float
    image: UInt8[np.ndarray, "h w 3"]
    mask: Bool[np.ndarray, "h w"]
    pred: Bool[np.ndarray, "h w"]


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What a run's folder tells about how the model came to be.

    Attributes:
        metrics: What `metrics.json` holds.
        audit: What `audit.json` holds; None where there is none.
        config: The text of `config.yaml`.
        parts: How many cases each part of its split has.
    """

    metrics: Mapping[str, Any]
    audit: Mapping[str, Any] | None
    config: str
    parts: Mapping[str, int]


def read_run_facts(run_dir: Path) -> RunFacts | None:
    """Return what a run's folder tells; None where it is no run's (a base, say).

    Args:
        run_dir: A folder.

    Raises:
        ValueError: If one of its files cannot be read.
    """
    if not all((run_dir / name).is_file() for name in (METRICS_NAME, CONFIG_NAME, SPLIT_NAME)):
        return None
    audit_path = run_dir / AUDIT_NAME
    return RunFacts(
        metrics=read_json(run_dir / METRICS_NAME),
        audit=read_json(audit_path) if audit_path.is_file() else None,
        config=(run_dir / CONFIG_NAME).read_text(encoding="utf-8"),
        parts={part: len(ids) for part, ids in read_json(run_dir / SPLIT_NAME).items()},
    )


def write_report(
    out: Path,
    evaluation: Mapping[str, Any],
    gallery: Sequence[GalleryCase],
    *,
    run: RunFacts | None,
    command: str,
    data: Mapping[str, Any] | None,
) -> Path:
    """Write the report into the folder `out` and return its path.

    Args:
        out: The folder; made where it is not there.
        evaluation: What `evaluation.json` holds.
        gallery: Cases to show, in any order.
        run: How the model came to be; None where that is not known.
        command: What the user typed, fit to be shown.
        data: Summary of the data; None leaves it out.
    """
    path = out / REPORT_NAME
    write_text(
        path, render_page(_context(evaluation, gallery, run=run, command=command, data=data))
    )
    return path


def _context(
    evaluation: Mapping[str, Any],
    gallery: Sequence[GalleryCase],
    *,
    run: RunFacts | None,
    command: str,
    data: Mapping[str, Any] | None,
) -> dict[str, Any]:
    audit = None if run is None else run.audit
    epochs = [] if run is None else run.metrics["epochs"]
    return {
        "title": _title(evaluation),
        "verdict": verdict(evaluation, num_epochs=len(epochs) or None),
        "remarks": remarks(evaluation),
        "warnings": warnings(evaluation, audit),
        "tiles": tiles(evaluation),
        "metrics": metrics_table(evaluation),
        "forced": evaluation["teacher_forced"],
        "figures": _figures(evaluation, run),
        "gallery": _gallery(gallery),
        "groups": groups_table(evaluation),
        "cases": cases_table(evaluation),
        "audit": audit,
        "data": None if data is None else _data_facts(data),
        "facts": _facts(evaluation, run),
        "config": None if run is None else run.config,
        "versions": versions(),
        "command": command,
        "limits": limits(evaluation),
    }


def _title(evaluation: Mapping[str, Any]) -> str:
    what = evaluation["model"] or evaluation["against"]
    return f"{what} on {evaluation['data']}"


def _figures(evaluation: Mapping[str, Any], run: RunFacts | None) -> list[dict[str, str]]:
    """Return the drawings there is something for, each with what to see in it."""
    figures = []
    if run is not None and run.metrics["epochs"]:
        baseline = run.metrics.get("baseline") or {}
        svg = epochs_figure(run.metrics["epochs"], baseline=baseline.get("dice"))
        figures.append(
            _figure("Learning", svg, "Dice by epoch at threshold 0.5; the ring is what was kept.")
        )
    sweep = evaluation["sweep"]
    if sweep is not None:
        svg = sweep_figure(sweep["thresholds"], sweep["dice"], chosen=evaluation["threshold"])
        text = f"Mean Dice by threshold on the validation cases; the best is {sweep['best']:g}."
        figures.append(_figure("Threshold", svg, text))
    reliability = evaluation["reliability"]
    if reliability is not None:
        svg = reliability_figure(reliability["bins"], ece=reliability["ece"])
        text = (
            "How often pixels of a given probability are vessel. Below the dashed line the model "
            f"is too sure; expected calibration error {number(reliability['ece'])}."
        )
        figures.append(_figure("Calibration", svg, text))
    scored = [case["dice"] for case in evaluation["cases"] if case["dice"] is not None]
    if len(scored) > 1:
        svg = cases_figure(scored, mean=float(np.mean(scored)))
        figures.append(_figure("Cases", svg, "Dice of every case, from the worst to the best."))
    return figures


def _figure(title: str, svg: str, caption: str) -> dict[str, str]:
    return {"title": title, "svg": svg, "caption": caption}


def _gallery(gallery: Sequence[GalleryCase]) -> list[dict[str, Any]]:
    """Return the cases by rank, with pictures that all together keep to the budget."""
    budget = min(GALLERY_BYTES // max(len(gallery), 1), MOST_OF_A_CASE)
    return [
        {
            "rank": rank,
            "cases": [
                {"case": case, "layers": _layers(case, budget), "dice": number(case.dice)}
                for case in gallery
                if case.rank == rank
            ],
        }
        for rank in RANKS
        if any(case.rank == rank for case in gallery)
    ]


def _layers(case: GalleryCase, budget: int) -> Layers:
    return case_layers(case.image, case.mask, case.pred, budget=budget)


def _facts(evaluation: Mapping[str, Any], run: RunFacts | None) -> list[tuple[str, str]]:
    """Return what was done, as names and values."""
    scored = (
        f"{evaluation['split']}: {counted(evaluation['num_cases'], 'case')} of "
        f"{counted(evaluation['num_groups'], 'group')}"
    )
    if evaluation["model"] is None:
        return [
            ("Masks", evaluation["against"]),
            ("Data", evaluation["data"]),
            ("Scored", scored),
        ]
    options = evaluation["options"]
    specks, low = options["min_size"], options["hysteresis"]
    facts = [
        ("Model", evaluation["model"]),
        ("Data", evaluation["data"]),
        ("Scored", scored),
        ("Threshold", f"{evaluation['threshold']:g}"),
        ("Test-time augmentation", str(options["tta"])),
        ("Specks removed", f"below {counted(specks, 'pixel')}" if specks else "none"),
        ("Hysteresis", "none" if low is None else f"{low:g}"),
    ]
    if run is None:
        return facts
    parts = ", ".join(f"{name} {count:,}" for name, count in run.parts.items() if count)
    facts.append(("Split", parts))
    origin = (yaml.safe_load(run.config) or {}).get("provenance") or {}
    named = {
        "command": "Trained by",
        "base_fingerprint": "Digest of the base",
        "data_fingerprint": "Digest of the data",
    }
    return facts + [(text, str(origin[key])) for key, text in named.items() if origin.get(key)]


def _data_facts(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the summary of the data as names and values; what it does not know is left out."""
    facts = [(part.capitalize(), _extent(row)) for part, row in data["parts"].items()]
    if len(facts) > 1:
        facts.insert(0, ("In all", _extent(data)))
    if data["sizes"]:
        facts.append((f"Sizes of {counted(data['num_looked'], 'image')}", ", ".join(data["sizes"])))
    if data["vessel_share"]:
        low, middle, high = data["vessel_share"]
        facts.append(("Share that is vessel", f"median {middle:.1%}, {low:.1%} to {high:.1%}"))
    if data["ceiling"]:
        facts.append(("Ceiling", _ceiling(data["ceiling"])))
    return facts


def _extent(row: Mapping[str, Any]) -> str:
    return f"{counted(row['num_images'], 'image')} of {counted(row['num_groups'], 'group')}"


def _ceiling(ceiling: Mapping[str, Any]) -> str:
    return (
        f"Dice {number(ceiling['dice'])}, clDice {number(ceiling['cldice'])}: what a perfect "
        f"model could reach on its grid of cells (target rule {ceiling['rule']}, measured on "
        f"{counted(ceiling['num_masks'], 'mask')})"
    )
