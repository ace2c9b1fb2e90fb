"""The folder of a fine-tuning run: claimed once, filled epoch by epoch, usable at any time.

adapter/            best epoch by Val Dice: peft's two files and vasculora.json
config.yaml         every setting, and where the run came from
split.json          case ids of train, val and test
metrics.json        scores by epoch; the same as TensorBoard events in tensorboard/
evaluation.json     every validation case, scored with what was saved
curve.png overlays/ pictures
resume.pt           what `--resume` needs
cases_private.csv   from pseudonyms to the user's own names, where names are patients' (0600)
"""

import hashlib
from pathlib import Path

from vasculora.core.config import dump_config, load_config
from vasculora.core.io import write_json, write_text
from vasculora.core.report import Report
from vasculora.core.types import Record
from vasculora.data.dataset import check_records
from vasculora.data.sources import Catalog, read_source, write_private_names
from vasculora.data.splits import (
    Split,
    leaking_groups,
    read_split,
    split_by_group,
    split_sorted,
)
from vasculora.recipes.config import DataConfig, FinetuneConfig

CONFIG_NAME = "config.yaml"
SPLIT_NAME = "split.json"
EVALUATION_NAME = "evaluation.json"
CURVE_NAME = "curve.png"
OVERLAYS_NAME = "overlays"
PRIVATE_NAME = "cases_private.csv"
FREE_TO_CHANGE = ("provenance", "gpu", "eval_batch_size")
"""Settings that a resumed run may have otherwise: they change nothing that is learnt."""


def claim(out: Path, *, data: Path, resume: bool) -> None:
    """Make sure that `out` is a folder this run may write to.

    Args:
        out: The run's folder.
        data: The data, which alone may lie in it already.
        resume: Whether there should be a run in it.

    Raises:
        FileNotFoundError: If there is no run to resume.
        ValueError: If there is something in the folder and nothing to resume.
    """
    if resume:
        if not (out / CONFIG_NAME).is_file():
            raise FileNotFoundError(f"{out}: no run to resume (no {CONFIG_NAME}). Check --out.")
        return
    if out.is_file() or (
        out.is_dir() and any(path.resolve() != data.resolve() for path in out.iterdir())
    ):
        raise ValueError(
            f"{out} is not empty. Take up the run in it with --resume, or choose another --out."
        )
    out.mkdir(parents=True, exist_ok=True)


def read_data(config: DataConfig, *, phrase: str, report: Report) -> Catalog:
    """Return the images of a data folder, every one of them opened and found usable."""
    catalog = read_source(config.path, group_regex=config.group_regex)
    for note in catalog.notes:
        (report.warn if note.startswith("Warning: ") else report.note)(
            note.removeprefix("Warning: ")
        )
    check_records(catalog.records, phrase, allow_empty=config.allow_empty)
    return catalog


def choose_split(catalog: Catalog, config: DataConfig, *, seed: int, report: Report) -> Split:
    """Return the data's own split, or the one the settings ask for."""
    if catalog.split is not None:
        return catalog.split
    if config.split_by == "sorted":
        split = split_sorted(catalog.records, config.train_share)
    else:
        split = split_by_group(catalog.records, seed=seed, train_share=config.train_share)
    report.note(f"Split by {config.split_by}: {len(split.train)} train, {len(split.val)} val.")
    leaking = leaking_groups(catalog.records, split)
    if leaking:
        report.warn(
            f"{len(leaking)} groups have images in train and val, so Val Dice looks better than it "
            "is. Leave out --split-by sorted."
        )
    return split


def fingerprint(records: tuple[Record, ...]) -> str:
    """Return a short digest of every image and mask."""
    digest = hashlib.sha256()
    for record in records:
        digest.update(record.case_id.encode())
        digest.update(record.image_path.read_bytes())
        for target in record.targets:
            digest.update(f"{target.phrase} {target.polygons}".encode())
            if target.mask_path is not None:
                digest.update(target.mask_path.read_bytes())
    return digest.hexdigest()[:16]


def write_settings(out: Path, config: FinetuneConfig, catalog: Catalog, split: Split) -> None:
    """Write settings, split and, where names are hidden, the user's own table of them."""
    write_text(out / CONFIG_NAME, dump_config(config))
    write_json(out / SPLIT_NAME, split.to_dict())
    if catalog.private_names:
        write_private_names(out / PRIVATE_NAME, catalog.private_names)


def check_unchanged(out: Path, config: FinetuneConfig) -> Split:
    """Return a resumed run's split, after making sure that it goes on as it began.

    Raises:
        ValueError: If a setting, the data or the base is another one now.
    """
    before = load_config(FinetuneConfig, out / CONFIG_NAME)
    then, now = (c.model_dump(mode="json", exclude=set(FREE_TO_CHANGE)) for c in (before, config))
    changed = [key for key in now if now[key] != then[key]]
    if changed:
        raise ValueError(
            f"{out}: a resumed run keeps its settings, but {', '.join(changed)} differ now. "
            f"Resume it with --out {out} --resume alone, or start another run."
        )
    if before.provenance is None or config.provenance is None:
        raise ValueError(f"{out / CONFIG_NAME}: the section 'provenance' is missing. Start again.")
    for what in ("data_fingerprint", "base_fingerprint"):
        if getattr(before.provenance, what) != getattr(config.provenance, what):
            raise ValueError(
                f"{out}: the {what.partition('_')[0]} has changed since the run was started, so it "
                "cannot be taken up again. Restore it, or start another run."
            )
    return read_split(out / SPLIT_NAME)
