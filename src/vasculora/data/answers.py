"""Masks that somebody else made, one an image: a person's, another program's, an earlier run's.

They are found by name in one folder, `DIR` or `DIR:SUFFIX`: an answer is called like its image with
the suffix behind, as `CHASEDB1:_2ndHO` for a second observer or `out:_mask` for what `predict`
wrote. In folders below `DIR` an answer lies as its image does below the data. What `predict` writes
of DICOM files is called by their pseudonyms, so the name of a case counts too. Every image must
have its answer and no file is taken twice: a score over those that happen to be there is none.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Bool, UInt8

from vasculora.core.io import IMAGE_SUFFIXES, read_mask_image
from vasculora.core.types import Record
from vasculora.data.dataset import check_size
from vasculora.data.sources.catalog import without_suffix
from vasculora.data.sources.files import list_files

_MAX_LISTED = 10


def find_answers(where: str, records: Sequence[Record]) -> dict[str, Path]:
    """Return the answer to each record, by case id, in the records' order; none is opened.

    Args:
        where: `DIR` or `DIR:SUFFIX`; the suffix is what their names have more than the images',
            with or without `.png` and the like.
        records: The images that are asked for, each with one target at most.

    Raises:
        FileNotFoundError: If there is no such folder, or images have no answer in it.
        ValueError: If an image has several answers or masks, or two images the same answer.
    """
    _check_single(records)
    folder, suffix = split_folder(where)
    ending = next((end for end in IMAGE_SUFFIXES if suffix.lower().endswith(end)), "")
    suffix = suffix[: len(suffix) - len(ending)]
    files: dict[str, list[str]] = {}
    for name in list_files(folder).plain:
        if name.lower().endswith(ending):
            files.setdefault(without_suffix(name), []).append(name)
    found = {r.case_id: _answer(r, folder, suffix, files) for r in records}
    missing = [record for record in records if found[record.case_id] is None]
    if missing:
        raise _none_for(missing, len(records), folder, suffix + ending, files)
    answers = {case_id: path for case_id, path in found.items() if path is not None}
    _check_different(records, answers)
    return answers


def split_folder(where: str) -> tuple[Path, str]:
    """Return the folder and the suffix of `DIR:SUFFIX`; a colon may be part of the folder's name.

    Raises:
        FileNotFoundError: If there is no such folder.
    """
    folder, _, suffix = where.rpartition(":")
    # What exists as a whole is meant as a whole, and behind a drive's colon stands a path.
    if not folder or Path(where).exists() or "/" in suffix or "\\" in suffix:
        folder, suffix = where, ""
    if not Path(folder).is_dir():
        what = "is a file, not a folder" if Path(folder).exists() else "no such folder"
        raise FileNotFoundError(
            f"{folder}: {what}. Give the folder of the masks to be scored, as DIR or DIR:SUFFIX."
        )
    return Path(folder), suffix


def read_answer(path: Path, image: UInt8[np.ndarray, "h w 3"]) -> Bool[np.ndarray, "h w"]:
    """Return an answer: True where it says that the thing is.

    Args:
        path: The file.
        image: The image it answers to.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, is no mask, or is not of the image's size.
    """
    mask = read_mask_image(path)
    check_size(mask, image, f"{path}: mask")
    return mask


def _check_single(records: Sequence[Record]) -> None:
    several = [record for record in records if len(record.targets) > 1]
    if several:
        raise ValueError(
            f"{len(several)} of {len(records)} images have several masks (first: "
            f"{several[0].case_id}, {len(several[0].targets)}), and a folder of answers holds one "
            "an image. Write a manifest (vasculora data import) and keep the lines of one phrase."
        )


def _answer(
    record: Record, folder: Path, suffix: str, files: Mapping[str, Sequence[str]]
) -> Path | None:
    names = dict.fromkeys(f"{name}{suffix}" for name in _names(record))
    found = [folder / file for name in names for file in files.get(name, ())]
    image = record.image_path.resolve()
    found = [path for path in found if path.resolve() != image]
    if len(found) > 1:
        listed = ", ".join(path.relative_to(folder).as_posix() for path in found)
        raise ValueError(
            f"{folder}: image {_own_name(record)} has {len(found)} answers: {listed}. Keep one of "
            "them there, or say which by the end of its name: DIR:SUFFIX, as DIR:_mask.png."
        )
    return found[0] if found else None


def _names(record: Record) -> Iterator[str]:
    """Yield what an answer may be called, but for suffixes: paths below the folder of answers."""
    yield record.case_id
    if record.frame is None:  # else all frames of a file would share its name
        parts = record.image_path.absolute().with_suffix("").parts[1:]
        yield from ("/".join(parts[start:]) for start in range(len(parts)))


def _own_name(record: Record) -> str:
    """Return the user's own name of an image, for errors alone; a frame's is its case's."""
    return record.image_path.stem if record.frame is None else record.case_id


def _none_for(
    missing: Sequence[Record],
    num_images: int,
    folder: Path,
    ending: str,
    files: Mapping[str, Sequence[str]],
) -> FileNotFoundError:
    names = ", ".join(_own_name(record) for record in missing[:_MAX_LISTED])
    more = " ..." if len(missing) > _MAX_LISTED else ""
    wanted = f"{PurePosixPath(_own_name(missing[0])).name}{ending}"
    kind = "" if ending.lower().endswith(IMAGE_SUFFIXES) else f" ({' '.join(IMAGE_SUFFIXES)})"
    there = sorted(name for listed in files.values() for name in listed)
    held = f"{len(there)} images, as {there[0]}" if there else "no image"
    return FileNotFoundError(
        f"{folder}: {len(missing)} of {num_images} images have no answer there: {names}{more}. "
        f"Looked for '{wanted}'{kind}; it holds {held}. Say what the names of the answers have "
        "more than the images' as DIR:SUFFIX, or score a part of the data with --split."
    )


def _check_different(records: Sequence[Record], answers: Mapping[str, Path]) -> None:
    seen: dict[Path, Record] = {}
    for record in records:
        path = answers[record.case_id]
        other = seen.setdefault(path, record)
        if other is not record:
            raise ValueError(
                f"{path}: would be the answer to {other.image_path} and to {record.image_path}. "
                "Put the answers into folders like those of the images."
            )
