"""The source `npz`: NumPy archives of images and masks, one or many pictures in each.

A folder of archives is read with the folders below it; the frames of one of its stacks show one
patient, unless the archive says otherwise with an array `groups`. Of an archive given alone nobody
knows how many patients it shows. What an archive may hold is decided in `core/arrays.py`.
"""

from pathlib import Path

from vasculora.core.arrays import ARCHIVE_SUFFIX, Archive, read_archive
from vasculora.core.types import Target
from vasculora.data.sources.catalog import Case, Listing, without_suffix
from vasculora.data.sources.dicom import frame_tag
from vasculora.data.sources.files import ODD, list_files


def looks_like_npz(data: Path) -> bool:
    """Return whether the path is an archive, or a folder with one in it or below."""
    if data.is_file():
        return data.suffix.lower() == ARCHIVE_SUFFIX
    return data.is_dir() and bool(list_files(data, suffixes=(ARCHIVE_SUFFIX,)).plain)


def read_npz(data: Path) -> Listing:
    """Return the pictures of all archives.

    Raises:
        ValueError: If an archive is damaged, or none holds an image with a mask.
    """
    root = data if data.is_dir() else data.parent
    files = list_files(root, suffixes=(ARCHIVE_SUFFIX,))
    names = files.plain if data.is_dir() else [data.name]
    held = {name: read_archive(root / name) for name in names}
    cases = tuple(
        case
        for name, archive in held.items()
        if archive is not None
        for case in _cases(root, name, archive, alone=len(names) == 1)
    )
    if not cases:
        raise ValueError(
            f"{data}: no archive holds an image with a mask. Name the arrays image and mask, or "
            "imgs and gts."
        )
    unused = {
        "archives without an image and a mask": tuple(n for n, found in held.items() if not found),
        ODD: tuple(files.odd) if data.is_dir() else (),
    }
    return Listing(cases=cases, unused=unused, group_rule="one an archive, or as its groups say")


def _cases(root: Path, name: str, archive: Archive, *, alone: bool) -> list[Case]:
    frames = [None] if archive.num_frames is None else list(range(archive.num_frames))
    own = without_suffix(name)
    patient = None if alone or archive.num_frames is None else own
    return [
        Case(
            file_name=f"{own}{frame_tag(frame)}{ARCHIVE_SUFFIX}",
            image_path=root / name,
            targets=(Target(mask_path=root / name),),
            group=archive.groups[number] if archive.groups else patient,
            frame=frame,
        )
        for number, frame in enumerate(frames)
    ]
