"""One side of a comparison: what a run's folder, or a folder of scores, tells about a model.

Scores are read from `evaluation.json` alone. Where they are those of a run that can be found, its
settings, its epochs and what it was trained on are told too; without them scores are compared all
the same.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vasculora.core.io import read_json
from vasculora.engine.tracker import METRICS_NAME
from vasculora.metrics.panel import METRICS
from vasculora.recipes.reporting.scorecard import EVALUATION_NAME
from vasculora.recipes.run_folder import CONFIG_NAME, REPORT_DIR, SPLIT_NAME

_SCORED = ("split", "threshold", "options")
"""What is a setting of the scoring, and not of the run."""
_UNTOLD = "provenance.command"
"""Differs always and says nothing that the settings do not."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A model with its scores.

    Attributes:
        name: What it is called here.
        folder: Where its scores are.
        split: Part of the data it was scored on.
        groups: The group of each case, by case id.
        scores: Its score in every metric by case id; None where it is not defined.
        settings: Settings by dotted key, of its run and of the scoring.
        has_run: Whether its run was found.
        metrics: Its run's epochs and the best of them; None where they are not known.
        trained_on: Images that its run learnt from; none where they are not known.
    """

    name: str
    folder: Path
    split: str
    groups: Mapping[str, str]
    scores: Mapping[str, Mapping[str, float | None]]
    settings: Mapping[str, object]
    has_run: bool
    metrics: Mapping[str, Any] | None
    trained_on: frozenset[str]

    def learnt_from(self, case_id: str) -> bool:
        """Return whether a case's image is one that the run learnt from."""
        # a case of an image with several phrases is called IMAGE: PHRASE
        return case_id in self.trained_on or case_id.partition(": ")[0] in self.trained_on


def read_contenders(paths: list[Path]) -> list[Contender]:
    """Return what is to be compared, each under a name of its own.

    Args:
        paths: Runs' folders, or folders with an `evaluation.json`, or such files.

    Raises:
        FileNotFoundError: If there is no evaluation in one of them.
        ValueError: If there are fewer than two, one is given twice, or one cannot be read.
    """
    folders = [_folder(path) for path in paths]
    if len(folders) < 2:
        raise ValueError("a comparison needs two runs at least. Name another one.")
    for folder, count in Counter(folder.resolve() for folder in folders).items():
        if count > 1:
            raise ValueError(f"{folder} is given {count} times. Name each run once.")
    named = zip(folders, _names(folders), strict=True)
    return [read_contender(folder, name) for folder, name in named]


def read_contender(folder: Path, name: str) -> Contender:
    """Return what one folder tells, under the name it shall have.

    Raises:
        FileNotFoundError: If there is no evaluation in it.
        ValueError: If a file in it cannot be read.
    """
    path = _evaluation_path(folder)
    evaluation = read_json(path)
    cases = _cases(evaluation, path)
    run_dir = _run_dir(folder, evaluation)
    return Contender(
        name=name,
        folder=folder,
        split=str(evaluation.get("split", "all")),
        groups={case["case_id"]: str(case["group"]) for case in cases},
        scores={
            case["case_id"]: {metric: _score(case, metric, path) for metric in METRICS}
            for case in cases
        },
        settings=dict(_settings(run_dir, evaluation)),
        has_run=run_dir is not None,
        metrics=None if run_dir is None else _optional(run_dir / METRICS_NAME),
        trained_on=frozenset() if run_dir is None else _trained_on(run_dir),
    )


def _folder(path: Path) -> Path:
    """Return the folder that is meant: by itself, by its report, or by the file in one of them."""
    folder = path.parent if path.name == EVALUATION_NAME else path
    return folder.parent if folder.name == REPORT_DIR else folder


def _names(folders: list[Path]) -> list[str]:
    """Return the folders' own names, or all of them as they were given where two are alike."""
    names = [folder.resolve().name for folder in folders]
    return names if len(set(names)) == len(names) else [str(folder) for folder in folders]


def _evaluation_path(folder: Path) -> Path:
    for path in (folder / REPORT_DIR / EVALUATION_NAME, folder / EVALUATION_NAME):
        if path.is_file():
            return path
    if not folder.exists():
        raise FileNotFoundError(f"{folder}: no such folder. Name runs, or folders of scores.")
    raise FileNotFoundError(
        f"{folder}: there is no {EVALUATION_NAME} in it or in its {REPORT_DIR}/. A run that is not "
        f"finished has none yet; score it: vasculora evaluate {folder} --data DATA --out OUT"
    )


def _cases(evaluation: object, path: Path) -> list[dict[str, Any]]:
    cases = evaluation.get("cases") if isinstance(evaluation, dict) else None
    whole = isinstance(cases, list) and all(
        isinstance(case, dict) and "group" in case and isinstance(case.get("case_id"), str)
        for case in cases
    )
    if not isinstance(cases, list) or not cases or not whole:
        raise ValueError(
            f"{path}: expected 'cases' with a case_id and a group each, as `vasculora evaluate` "
            "writes them. Score the model anew."
        )
    twice = [name for name, n in Counter(case["case_id"] for case in cases).items() if n > 1]
    if twice:
        raise ValueError(
            f"{path}: the case '{twice[0]}' is there more than once, so it cannot be matched. "
            "Score the model anew."
        )
    return cases


def _score(case: Mapping[str, Any], metric: str, path: Path) -> float | None:
    value = case.get(metric)
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return None if value is None else float(value)
    raise ValueError(
        f"{path}: case '{case['case_id']}': expected a number for {metric}, got {value!r}. Score "
        "the model anew."
    )


def _run_dir(folder: Path, evaluation: Mapping[str, Any]) -> Path | None:
    """Return the run's folder: this one, or the one that was scored, where it is still there."""
    model = evaluation.get("model")
    for path in (folder, *([Path(model)] if isinstance(model, str) else [])):
        if (path / CONFIG_NAME).is_file():
            return path
    return None


def _trained_on(run_dir: Path) -> frozenset[str]:
    split = _optional(run_dir / SPLIT_NAME)
    return frozenset() if split is None else frozenset(split.get("train", ()))


def _optional(path: Path) -> Mapping[str, Any] | None:
    """Return what a file of a run holds; None where the run has none."""
    if not path.is_file():
        return None
    value = read_json(path)
    if not isinstance(value, dict):
        raise ValueError(f"{path}: expected an object of JSON. Restore the run's file.")
    return value


def _settings(run_dir: Path | None, evaluation: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """Yield the run's settings as they stand there, so that other versions' are told as well."""
    if run_dir is not None:
        path = run_dir / CONFIG_NAME
        try:
            tree = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError):
            raise ValueError(f"{path}: not valid YAML. Restore the run's settings.") from None
        yield from ((key, value) for key, value in _leaves(tree) if key != _UNTOLD)
    yield from _leaves({key: evaluation.get(key) for key in _SCORED}, "scoring.")


def _leaves(tree: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield every setting under its dotted key."""
    if not isinstance(tree, dict) or not tree:
        yield prefix.removesuffix("."), tree
        return
    for name, value in tree.items():
        yield from _leaves(value, f"{prefix}{name}.")
