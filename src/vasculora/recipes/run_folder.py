"""The folder of a fine-tuning run: claimed once, filled epoch by epoch, usable at any time.

adapter/            best epoch by Val Dice: peft's two files and vasculora.json
config.yaml         every setting, and where the run came from
split.json          case ids of train, val and test
audit.json          what the gradient reached on the first batch, before the first step
metrics.json        scores by epoch; the same as TensorBoard events in tensorboard/
report/             report.html, evaluation.json, cases.csv: validation, scored with what was saved
curve.png overlays/ pictures
resume.pt           what `--resume` needs
cases_private.csv   from pseudonyms to the user's own names, where names are patients' (0600)

Where the data is DICOM, its path and the names in it are not written at all.
"""

import hashlib
import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from vasculora.core.config import dump_config, load_config
from vasculora.core.io import read_image, read_json, read_mask_image, write_json, write_text
from vasculora.core.report import Report
from vasculora.core.types import Record, Sample
from vasculora.data.dataset import check_records
from vasculora.data.sources import Catalog, read_source, write_private_names
from vasculora.data.splits import Split, read_split
from vasculora.engine.checkpoint import CHECKPOINT_NAME
from vasculora.engine.tracker import EVENTS_NAME, METRICS_NAME
from vasculora.model.pretrained import ADAPTER_NAME
from vasculora.model.prompts import PromptConfig, build_turns
from vasculora.recipes.config import DataConfig, FinetuneConfig

CONFIG_NAME = "config.yaml"
SPLIT_NAME = "split.json"
AUDIT_NAME = "audit.json"
REPORT_DIR = "report"
CURVE_NAME = "curve.png"
OVERLAYS_NAME = "overlays"
PRIVATE_NAME = "cases_private.csv"
HIDDEN = "PRIVATE"
"""What is written for the path of data that is private itself."""
RUN_NAMES = (
    ADAPTER_NAME,
    CONFIG_NAME,
    SPLIT_NAME,
    AUDIT_NAME,
    METRICS_NAME,
    EVENTS_NAME,
    REPORT_DIR,
    CURVE_NAME,
    OVERLAYS_NAME,
    CHECKPOINT_NAME,
    PRIVATE_NAME,
)
"""Everything that a run leaves in its folder."""
_UNBORN_NAMES = (CONFIG_NAME, SPLIT_NAME, AUDIT_NAME, PRIVATE_NAME)
"""What a run leaves whose audit stopped it; a new one may take their place."""
FREE_TO_CHANGE = (
    "provenance",
    "gpu",
    "eval_batch_size",
    "sentinel",
    "data.path",
    "data.leaks",
    "data.cache_gb",
    "trainer.num_workers",
)
"""Settings that a resumed run may have otherwise: they change nothing that is learnt. Data may have
moved; its digest is compared."""


def claim(out: Path, *, data: Path, resume: bool) -> None:
    """Make sure that `out` is a folder this run may write to.

    Args:
        out: The run's folder.
        data: The data, which alone may lie in it already.
        resume: Whether there should be a run in it.

    Raises:
        FileNotFoundError: If there is no run to resume.
        ValueError: If there is something in the folder and nothing to resume, or it is in the data.
        OSError: If the folder cannot be made.
    """
    if resume:
        find_settings(out)
        return
    refuse_inside(data, out)
    if out.is_file() or (out.is_dir() and _is_taken(out, data)):
        raise ValueError(
            f"{out} is not empty. Take up the run in it with --resume, or choose another --out."
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise type(error)(
            f"{out}: this folder cannot be made: {error.strerror or error}. Choose an --out that "
            "you may write to."
        ) from error


def _is_taken(out: Path, data: Path) -> bool:
    """Return whether a folder holds something that a new run must not start beside.

    Hidden files and the data may stay, and a run that could not learn has left nothing to keep.
    """
    audit = read_json(out / AUDIT_NAME) if (out / AUDIT_NAME).is_file() else None
    unborn = isinstance(audit, dict) and audit.get("ok") is False
    names = _UNBORN_NAMES if unborn else ()
    return any(
        not path.name.startswith(".") and path.resolve() != data.resolve()
        for path in out.iterdir()
        if path.name not in names
    )


def find_settings(out: Path) -> Path:
    """Return the settings of the run in a folder.

    Raises:
        FileNotFoundError: If there is no run in it.
    """
    path = out / CONFIG_NAME
    if not path.is_file():
        raise FileNotFoundError(f"{out}: no run to resume (no {CONFIG_NAME}). Check --out.")
    return path


def refuse_report_of_run(out: Path) -> None:
    """Make sure that a run keeps the report it ended with.

    Raises:
        ValueError: If `out` is the report's folder of a run.
    """
    if out.name == REPORT_DIR and (out.parent / CONFIG_NAME).is_file():
        raise ValueError(
            f"{out} holds the report that the run in {out.parent} ended with. Choose another --out."
        )


def refuse_audit_of_run(out: Path) -> None:
    """Make sure that a run keeps the audit it began with.

    Raises:
        ValueError: If `out` is the folder of a run.
    """
    if (out / CONFIG_NAME).is_file():
        raise ValueError(
            f"{out / AUDIT_NAME} is what the run in {out} began with. Choose another --out."
        )


def refuse_loss(files: Iterable[Path]) -> None:
    """Make sure that no file of another origin is written over.

    What was written before may be written anew: each of its files has the one before it beside it.
    The first is known by its name alone, which nobody else is likely to give.

    Args:
        files: What is going to be written, in this order.

    Raises:
        ValueError: If one is there without the one before it.
    """
    is_ours = True
    for path in files:
        is_there = path.exists()
        if is_there and not is_ours:
            raise ValueError(
                f"{path} is there already and is none of an earlier output's files, so it would be "
                "lost. Choose another --out."
            )
        is_ours = is_there


def refuse_inside(data: Path, out: Path) -> None:
    """Make sure that nothing is written into the data.

    Raises:
        ValueError: If `out` is the data folder or below it.
    """
    # Unlike `Path.resolve`, this ends at a loop of links.
    folder, place = Path(os.path.realpath(data)), Path(os.path.realpath(out))
    if place.is_relative_to(folder):
        raise ValueError(
            f"{out} lies inside the data folder {data}, which is only read. Choose an --out "
            "elsewhere."
        )


def read_data(
    config: DataConfig,
    *,
    phrase: str,
    report: Report,
    on_sample: Callable[[Sample], None] | None = None,
) -> Catalog:
    """Return the images of a data folder, every one of them opened and found usable.

    Args:
        config: Where they are.
        phrase: Name of targets for which the data set has none.
        report: Where progress and warnings go.
        on_sample: Called with each case while it is open.
    """
    if config.path == Path(HIDDEN) and not config.path.exists():
        raise ValueError(
            "the path of this run's data was not written down, as it is DICOM and may name "
            "patients. Give it with --data."
        )
    catalog = read_source(config.path, group_regex=config.group_regex)
    for note in catalog.notes:
        (report.warn if note.startswith("Warning: ") else report.note)(
            note.removeprefix("Warning: ")
        )
    check_annotated(config.path, catalog.records)
    _check_phrases(catalog.records)
    with report.progress(len(catalog.records), "Opening every image") as bar:

        def opened(sample: Sample) -> None:
            bar.advance()
            if on_sample is not None:
                on_sample(sample)

        check_records(catalog.records, phrase, allow_empty=config.allow_empty, on_sample=opened)
    return catalog


def check_annotated(path: Path, records: Sequence[Record]) -> None:
    """Make sure that there is something to learn from or to score in every image.

    Raises:
        ValueError: If there are images without any target.
    """
    bare = [record.case_id for record in records if not record.targets]
    if bare:
        raise ValueError(
            f"{path}: {len(bare)} of {len(records)} images are not annotated (first: {bare[0]}). "
            "Draw their masks, or take them out; `vasculora data import` writes frames of DICOM "
            "files as pictures to draw on."
        )


def _check_phrases(records: Sequence[Record]) -> None:
    """Make sure that the data's own phrases can be asked for: a run may reach a bad one late."""
    first = {target.phrase: record for record in reversed(records) for target in record.targets}
    for phrase, record in first.items():
        if phrase is None:
            continue
        try:
            build_turns((phrase,), PromptConfig(), image_block="")
        except ValueError as error:
            raise ValueError(f"{record.case_id}: {error}") from error


def fingerprint(records: tuple[Record, ...]) -> str:
    """Return a short digest of every image, every mask, and where it is scored."""
    digest = hashlib.sha256()
    for record in records:
        digest.update(record.case_id.encode("utf-8", "surrogateescape"))
        if record.frame is None:
            digest.update(record.image_path.read_bytes())
        else:  # a cine or stack may be large, and each of its frames a record
            digest.update(read_image(record.image_path, record.frame).tobytes())
        for path in (record.fov_path, record.second_path):
            if path is not None:
                digest.update(path.read_bytes())
        for target in record.targets:
            digest.update(f"{target.phrase} {target.polygons}".encode())
            if target.runs is not None or target.absent:
                digest.update(f"{target.runs} {target.absent}".encode())
            if target.mask_path is not None:
                whole = record.frame is None or target.mask_path != record.image_path
                mask = target.mask_path
                digest.update(
                    mask.read_bytes() if whole else read_mask_image(mask, record.frame).tobytes()
                )
    return digest.hexdigest()[:16]


def write_settings(out: Path, config: FinetuneConfig, catalog: Catalog, split: Split) -> None:
    """Write split, settings and, where names are hidden, the user's own table of them."""
    if catalog.secret:
        config = _without_path(config)
    elif catalog.private_names:
        write_private_names(out / PRIVATE_NAME, catalog.private_names)
    write_json(out / SPLIT_NAME, split.to_dict())
    # last: where there are settings, there is a run to take up
    write_text(out / CONFIG_NAME, dump_config(config))


def settled_before(out: Path, config: FinetuneConfig) -> FinetuneConfig:
    """Return a resumed run's settings with what it settled itself where they leave it open."""
    before = load_config(FinetuneConfig, out / CONFIG_NAME)
    if config.target == "auto":
        config = config.model_copy(update={"target": before.target})
    if config.data.modality == "auto" and config.data.augment == before.data.augment:
        data = config.data.model_copy(update={"modality": before.data.modality})
        config = config.model_copy(update={"data": data})
    return config


def _without_path(config: FinetuneConfig) -> FinetuneConfig:
    """Return settings that do not say where the data is."""
    path, provenance = config.data.path, config.provenance
    if provenance is not None:
        command = hidden_command(shlex.split(provenance.command), path)
        provenance = provenance.model_copy(update={"command": command})
    data = config.data.model_copy(update={"path": Path(HIDDEN)})
    return config.model_copy(update={"data": data, "provenance": provenance})


def hidden_command(command: Sequence[str], path: Path) -> str:
    """Return a command as one line that does not say where the data is."""
    return shlex.join(_hidden(word, path) for word in command)


def _hidden(word: str, path: Path) -> str:
    """Return a word of a command without the path in it."""
    head, mark, tail = word.rpartition("=")
    # the same folder may be named in another way than by --data
    whole, folder = Path(os.path.realpath(tail)), Path(os.path.realpath(path))
    if os.sep in tail and path.parts and whole.is_relative_to(folder):
        return f"{head}{mark}{HIDDEN}"
    if Path(tail) == path or (path.parts and Path(tail).is_relative_to(path)):
        return f"{head}{mark}{HIDDEN}"
    return word.replace(str(path), HIDDEN) if len(path.parts) > 1 else word


def check_unchanged(out: Path, config: FinetuneConfig) -> Split:
    """Return a resumed run's split, after making sure that it goes on as it began.

    Raises:
        ValueError: If a setting, the data or the base is another one now.
    """
    before = load_config(FinetuneConfig, out / CONFIG_NAME)
    then, now = (dict(_leaves(c.model_dump(mode="json"))) for c in (before, config))
    changed = [
        f"{key} was {then.get(key)} and is {now.get(key)} now"
        for key in sorted(then.keys() | now.keys())
        if then.get(key) != now.get(key) and not key.startswith(FREE_TO_CHANGE)
    ]
    if changed:
        raise ValueError(
            f"{out}: a resumed run keeps its settings, but {'; '.join(changed)}. Resume it with "
            f"--out {out} --resume alone, or start another run (--model {out} goes on from this "
            "one's best epoch)."
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


def _leaves(tree: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield every setting under its dotted key."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
