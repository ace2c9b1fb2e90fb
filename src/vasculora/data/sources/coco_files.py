"""Where a data set in COCO's form keeps its annotation files, and each of those its images.

An annotation file lies in the data folder, in `annotations/`, or one folder deeper, one file a
part: `train/annotations/train.json` (ARCADE), `annotations/instances_train2017.json` (COCO),
`train/_annotations.coco.json` (Roboflow). It is recognised by what it holds, not by its name.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from vasculora.core.arrays import ARCHIVE_SUFFIX
from vasculora.data.splits import Part

_PATTERNS = ("*.json", "annotations/*.json", "*/*.json", "*/annotations/*.json")
_MAX_FILES = 50
_KEYS = (b'"images"', b'"annotations"', b'"categories"')
_PART = re.compile(r"(?:^|[^a-z])(train|val|test)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class AnnotationFile:
    """One annotation file of a data set.

    Attributes:
        path: The file.
        prefix: Put before its images' names where there are several files; else empty.
        part: The part it is named after where there are several, or None.
        image_dirs: Folders in which an image may lie, the first that has it counts.
    """

    path: Path
    prefix: str
    part: Part | None
    image_dirs: tuple[Path, ...]


def is_coco_file(path: Path) -> bool:
    """Return whether a file names images, annotations and categories, as COCO's do.

    A damaged file is one all the same: its reader says what is wrong with it.
    """
    if not path.is_file():
        return False
    data = path.read_bytes()
    return data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{" and all(key in data for key in _KEYS)


def find_annotation_files(data: Path) -> tuple[AnnotationFile, ...]:
    """Return the annotation files of a data set: one file given, or those in a folder."""
    if data.is_file() and data.suffix.lower() == ARCHIVE_SUFFIX:
        return ()
    if data.is_file():
        return (_annotation_file(data, data.parent, several=False),)
    paths: list[Path] = []
    for pattern in _PATTERNS:
        found = sorted(path for path in data.glob(pattern) if path.name[0] != ".")
        # More than that are one file an image, in another format.
        if len(found) <= _MAX_FILES:
            paths += [path for path in found if path not in paths and is_coco_file(path)]
    # COCO keeps outlines in instances_*.json, beside key points and captions of the same images.
    instances = {path.parent for path in paths if path.name.startswith("instances_")}
    paths = [p for p in paths if p.parent not in instances or p.name.startswith("instances_")]
    return tuple(_annotation_file(path, data, several=len(paths) > 1) for path in paths)


def _annotation_file(path: Path, data_dir: Path, *, several: bool) -> AnnotationFile:
    base = path.parent.parent if path.parent.name == "annotations" else path.parent
    label = path.stem.removeprefix("instances_")
    folders = (base / "images", base / "images" / label, base / label, base, path.parent)
    prefix = label if base == data_dir or data_dir not in base.parents else base.name
    found = _PART.search(prefix)
    part: Part | None = None
    if found is not None:
        name = found[1].lower()
        part = "train" if name == "train" else "val" if name == "val" else "test"
    return AnnotationFile(
        path=path,
        prefix=prefix if several else "",
        part=part if several else None,
        image_dirs=tuple(dict.fromkeys(folders)),
    )
