"""DICOM in recipes: which frames are taken, and frames as plain pictures that name nobody."""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from vasculora.core.dicom import num_frames, shown_by
from vasculora.core.dicom_file import is_dicom
from vasculora.core.io import (
    IMAGE_SUFFIXES,
    read_image,
    read_mask_image,
    write_image,
    write_text,
)
from vasculora.core.report import Report
from vasculora.core.types import Record, Target
from vasculora.data.frames import Frames, choose_frames, cines
from vasculora.data.sources.pairs import FOV_DIR, SECOND_DIR

DEFAULT_FRAMES: Frames = "peak"
"""What is taken of a cine where nothing is said: the frame that is measured and annotated."""

_MAX_TOLD = 10


def wanted_frames(
    records: Sequence[Record], frames: Frames | None, *, report: Report
) -> tuple[Record, ...]:
    """Return the records without the frames of DICOM files that are not wanted, and say which are.

    Args:
        records: All frames of all files.
        frames: What the user asked for; None takes the default.
        report: Where progress and the choice go.

    Raises:
        ValueError: If there is nothing to choose from, or a file has no such frame.
    """
    found = cines(records)
    if frames is not None and not found:
        _check_single(records, frames)
    frames = DEFAULT_FRAMES if frames is None else frames
    chosen: list[Record] = []
    if not found:
        return tuple(records)
    with report.progress(len(found), "Choosing frames", unit="files") as bar:

        def take(record: Record) -> None:
            chosen.append(record)
            bar.advance()

        kept = choose_frames(records, frames, on_cine=take)
    why = ", the best filled one" if frames == "peak" else ""
    for record in chosen[:_MAX_TOLD]:
        total = num_frames(record.image_path)
        report.note(f"{record.case_id}: frame {record.frame} of {total} (from 0){why}.")
    if len(chosen) > _MAX_TOLD:
        report.note(f"... and {len(chosen) - _MAX_TOLD} more files.")
    return kept


def _check_single(records: Sequence[Record], frames: Frames) -> None:
    """Refuse a choice of frames where no file holds several.

    Raises:
        ValueError: If there is no DICOM file at all, or none has a frame of that number.
    """
    if not any(map(_is_dicom, records)):
        raise ValueError(
            f"frames '{frames}' is asked for, but there are no DICOM files to choose from. Leave "
            "--frames out."
        )
    if isinstance(frames, int) and frames > 0:
        raise ValueError(
            f"frame {frames} is asked for, but no DICOM file to choose from holds several; frames "
            "count from 0. Leave --frames out."
        )


def tell_greys(records: Sequence[Record], report: Report) -> None:
    """Say what decides the greys of the DICOM files among some records."""
    paths = dict.fromkeys(record.image_path for record in records if _is_dicom(record))
    if paths:
        counts = Counter(shown_by(path) for path in paths)
        told = ", ".join(f"{how} ({count})" for how, count in counts.most_common())
        files = "1 file" if len(paths) == 1 else f"{len(paths)} files, each"
        report.note(f"DICOM: {files} shown by {told}.")


def write_pictures(
    records: Sequence[Record], folder: Path, *, report: Report
) -> tuple[Record, ...]:
    """Write images and masks as PNG files called by their cases, and return records of these.

    The folder is a data set as soon as there are masks: `images/`, `masks/` and `groups.csv`, with
    `fov/` and `second_masks/` where there are such. A PNG file holds pixels and nothing else.

    Args:
        records: The cases, none of them named after anybody.
        folder: A new or empty folder.
        report: Where progress goes.

    Raises:
        ValueError: If the folder holds something, or a picture cannot be read.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder}: is there already. Choose another --out, or remove it first.")
    written = []
    with report.progress(len(records), "Writing pictures") as bar:
        for record in records:
            written.append(_write_case(record, folder))
            bar.advance()
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(("image", "group"))
    rows.writerows((record.image_path.name, record.group) for record in written)
    write_text(folder / "groups.csv", table.getvalue())
    return tuple(written)


def _write_case(record: Record, folder: Path) -> Record:
    name = f"{record.case_id}.png"
    image_path = folder / "images" / name
    write_image(image_path, _as_grey(read_image(record.image_path, record.frame)))
    targets = tuple(
        _write_target(
            target,
            record.frame,
            folder / "masks" / f"{record.case_id}{f'_{k}' if k else ''}.png",
        )
        for k, target in enumerate(record.targets)
    )
    return replace(
        record,
        image_path=image_path,
        targets=targets,
        fov_path=_write_mask(record.fov_path, record.frame, folder / FOV_DIR / name),
        second_path=_write_mask(record.second_path, record.frame, folder / SECOND_DIR / name),
        frame=None,
    )


def _write_target(target: Target, frame: int | None, path: Path) -> Target:
    return replace(target, mask_path=_write_mask(target.mask_path, frame, path))


def _write_mask(mask: Path | None, frame: int | None, path: Path) -> Path | None:
    if mask is None:
        return None
    write_image(path, read_mask_image(mask, frame).astype(np.uint8) * 255)
    return path


def _as_grey(
    image: UInt8[np.ndarray, "h w 3"],
) -> UInt8[np.ndarray, "h w"] | UInt8[np.ndarray, "h w 3"]:
    return image[..., 0].copy() if (image == image[..., :1]).all() else image


def _is_dicom(record: Record) -> bool:
    path = record.image_path
    return path.suffix.lower() not in IMAGE_SUFFIXES and is_dicom(path)
