"""Which pictures of a cine are wanted: all, the one of a number, or the one that is filled best.

The choice is made among records: those of frames that are not annotated are chosen from, all others
are kept. Frames count from 0, as pydicom counts them.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from vasculora.core.dicom import frames_of
from vasculora.core.dicom_file import is_dicom
from vasculora.core.types import Record
from vasculora.data.peak import find_peak

Frames = int | Literal["all", "peak"]


def parse_frames(text: str) -> Frames:
    """Return the choice that a word or number stands for.

    Raises:
        ValueError: If it is none.
    """
    if text == "all":
        return "all"
    if text == "peak":
        return "peak"
    if text.isascii() and text.isdigit():
        return int(text)
    raise ValueError(
        f"frames {text!r}: expected all, peak (the frame of best contrast filling) or the number "
        "of a frame, counted from 0."
    )


def cines(records: Sequence[Record]) -> dict[Path, list[Record]]:
    """Return the frames of DICOM files that can be chosen from, by file."""
    found: dict[Path, list[Record]] = {}
    for record in records:
        if record.frame is not None and not record.targets:
            found.setdefault(record.image_path, []).append(record)
    return {path: own for path, own in found.items() if is_dicom(path)}


def choose_frames(
    records: Sequence[Record],
    frames: Frames,
    *,
    on_cine: Callable[[Record], None] = lambda _: None,
) -> tuple[Record, ...]:
    """Return the records without the frames that are not wanted.

    Args:
        records: All frames of all files, as a source lists them.
        frames: Which are wanted.
        on_cine: Called with the frame that was chosen of each file, one after the other.

    Raises:
        ValueError: If a file has no such frame, or cannot be read.
    """
    if frames == "all":
        return tuple(records)
    kept = set()
    files = cines(records)
    for path, own in files.items():
        chosen = _peak(path, own) if frames == "peak" else _numbered(path, own, frames)
        kept.add((path, chosen.frame))
        on_cine(chosen)
    return tuple(
        record
        for record in records
        if record.targets
        or record.image_path not in files
        or (record.image_path, record.frame) in kept
    )


def _peak(path: Path, own: Sequence[Record]) -> Record:
    if len(own) == 1:
        return own[0]
    peak = find_peak(frames_of(path))
    # Of a list of some frames, the nearest one to the peak.
    return min(own, key=lambda record: abs((record.frame or 0) - peak))


def _numbered(path: Path, own: Sequence[Record], frame: int) -> Record:
    for record in own:
        if record.frame == frame:
            return record
    numbers = [record.frame or 0 for record in own]
    raise ValueError(
        f"{path}: has no frame {frame} to choose; there are {len(own)}, from {min(numbers)} to "
        f"{max(numbers)}. Frames count from 0."
    )
