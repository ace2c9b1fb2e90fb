"""Data sets written by the program: drawn ones, and any other as a manifest."""

import os
from pathlib import Path

from vasculora.core.report import Report
from vasculora.data.frames import Frames
from vasculora.data.sources import check_manifest_name, read_source, write_manifest
from vasculora.data.synthetic.export import write_dataset
from vasculora.recipes.frames import tell_greys, wanted_frames, write_pictures


def synthesise(out: Path, *, style: str, num: int, size: int, seed: int, report: Report) -> None:
    """Draw a data set of images and masks in the `folder` layout.

    Args:
        out: A new or empty folder.
        style: xray, fundus or octa.
        num: Number of images.
        size: Their side in pixels.
        seed: Seed; the same one draws the same images.
        report: Where progress goes.

    Raises:
        ValueError: If the style is unknown or the folder is not empty.
    """
    write_dataset(out, style=style, num=num, size=size, seed=seed)
    report.note(f"{num} drawn images in style '{style}' with their masks: {out}")


def import_data(
    source: Path,
    out: Path,
    *,
    group_regex: str | None,
    keep_names: bool,
    frames: Frames | None = None,
    report: Report,
) -> None:
    """Write a data set of any layout as one manifest, which is read wherever a folder is.

    Pictures stay where they are and are not opened; the manifest names them. Of DICOM files, whose
    names are private, the wanted frames are written as PNG files beside the manifest, which names
    these.

    Args:
        source: The data set; it is only read.
        out: The manifest, NAME.jsonl; it must not be there yet, nor lie in the data.
        group_regex: Pattern whose first capture group, searched in a file's name, is its group.
        keep_names: Write file names that are names of patients, for the owner's eyes only; DICOM
            files are then named themselves.
        frames: Which frames of DICOM files are taken; None takes the default.
        report: Where the notes of the source go.

    Raises:
        FileNotFoundError: If there is no data set.
        ValueError: If it is wrong, `out` cannot take it, or names of patients would be written.
    """
    if out.exists():
        raise ValueError(f"{out}: is there already. Choose another --out, or remove it first.")
    # Unlike `Path.resolve`, this ends at a loop of links.
    folder, place = Path(os.path.realpath(source)), Path(os.path.realpath(out))
    if folder.is_dir() and place.is_relative_to(folder):
        raise ValueError(
            f"{out} lies inside the data folder {source}, which is only read. Choose an --out "
            "elsewhere."
        )
    check_manifest_name(out)
    catalog = read_source(source, group_regex=group_regex)
    for note in catalog.notes:
        told = note.removeprefix("Warning: ")
        (report.note if told == note else report.warn)(told)
    records = wanted_frames(catalog.records, frames, report=report)
    written = catalog.secret and not keep_names
    if written:
        tell_greys(records, report)
        records = write_pictures(records, _pictures_dir(out), report=report)
    write_manifest(
        out,
        records,
        catalog.split,
        private=bool(catalog.private_names) and not written,
        keep_names=keep_names,
    )
    num_targets = sum(len(record.targets) for record in records)
    report.note(f"{len(records)} images with {num_targets} targets: {out}")
    if written and num_targets < len(records):
        report.note(
            f"To annotate: draw {_pictures_dir(out)}/masks/NAME.png for each images/NAME.png "
            f"there, then use --data {_pictures_dir(out)}"
        )


def _pictures_dir(out: Path) -> Path:
    return out.with_name(f"{out.stem}_frames")
