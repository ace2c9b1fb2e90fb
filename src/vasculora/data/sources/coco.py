"""The source `coco`: images, annotations and categories in COCO's JSON.

All annotations of one category on one image are one mask, their union, because a phrase means one
thing on an image; regions of a crowd belong to it too. Categories are the phrases. The image is
found by `file_name` alone: ids are only links within the file, and need not be the number in the
name. Images that are listed but not there are counted and left out, as long as some are there:
public sets are passed on in parts.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vasculora.core.io import IMAGE_SUFFIXES, read_json
from vasculora.core.types import Polygon, RunLengths, Target
from vasculora.data.sources.catalog import Case, Listing
from vasculora.data.sources.coco_files import AnnotationFile, find_annotation_files
from vasculora.data.sources.outlines import inner_name, parse_outline, parse_phrase

_FORMAT = 'Expected COCO\'s {"images": [...], "annotations": [...], "categories": [...]}.'
_MAX_PHRASES = 5


@dataclass(kw_only=True)
class _Found:
    """What was read so far, under the names of the images."""

    cases: list[Case] = field(default_factory=list)
    unused: dict[str, list[str]] = field(default_factory=dict)
    phrases: Counter[str] = field(default_factory=Counter)
    num_crowds: int = 0
    num_repeated: int = 0

    def leave_out(self, reason: str, name: str) -> None:
        self.unused.setdefault(reason, []).append(name)


Outlines = dict[str, tuple[list[Polygon], list[RunLengths]]]
"""The rings and run lengths of each phrase of one image."""


def looks_like_coco(data: Path) -> bool:
    """Return whether there is an annotation file in COCO's form, or the path is one."""
    return bool(find_annotation_files(data))


def category_names(data: Path) -> frozenset[str]:
    """Return the names of all categories, as far as they can be read without complaint."""
    names = set()
    for file in find_annotation_files(data):
        try:
            value = read_json(file.path)
        except ValueError:  # said by `read_coco`, which reads it next
            continue
        listed = value.get("categories") if isinstance(value, dict) else None
        for entry in listed if isinstance(listed, list) else ():
            if isinstance(entry, dict) and isinstance(entry.get("name"), str):
                names.add(entry["name"])
    return frozenset(names)


def read_coco(data: Path, phrases: Mapping[str, str] | None = None) -> Listing:
    """Return the annotated images of all annotation files.

    Args:
        data: The data folder, or one annotation file.
        phrases: What a category is called instead of its name.

    Raises:
        FileNotFoundError: If none of the listed images is there.
        ValueError: If a file is not in COCO's form, or two of them annotate one image; says where.
    """
    found = _Found()
    for file in find_annotation_files(data):
        _read_file(file, phrases or {}, found)
    seen: dict[Path, str] = {}
    for case in found.cases:
        other = seen.setdefault(case.image_path.resolve(), case.file_name)
        if other != case.file_name:
            raise ValueError(
                f"{data}: {other} and {case.file_name} are the same image, annotated in two files. "
                "Give the one annotation file that counts."
            )
    if not found.cases:
        raise ValueError(f"{data}: no image has an outline. {_FORMAT}")
    unused = {reason: tuple(names) for reason, names in found.unused.items()}
    return Listing(cases=tuple(found.cases), unused=unused, notes=_notes(found))


def _read_file(file: AnnotationFile, phrases: Mapping[str, str], found: _Found) -> None:
    value = read_json(file.path)
    if not isinstance(value, dict):
        raise ValueError(f"{file.path}: is no object. {_FORMAT}")
    names = _image_names(file.path, _entries(value, "images", file.path))
    categories = _categories(file.path, _entries(value, "categories", file.path), phrases)
    annotations = _entries(value, "annotations", file.path)
    outlines: dict[int | str, Outlines] = {image_id: {} for image_id in names}
    ids = Counter(str(entry.get("id")) for entry in annotations if "id" in entry)
    found.num_repeated += sum(count - 1 for count in ids.values())
    for number, entry in enumerate(annotations):
        where = f"{file.path}: annotation {number}"
        of_image = outlines[_link(entry, "image_id", outlines, where)]
        phrase = categories[_link(entry, "category_id", categories, where)]
        rings, runs = parse_outline(entry.get("segmentation") or [], where)
        found.num_crowds += entry.get("iscrowd") in (1, True)
        mine = of_image.setdefault(phrase, ([], []))
        mine[0].extend(rings)
        mine[1].extend(runs)
    _add_cases(file, names, outlines, found)


def _entries(value: dict[str, Any], key: str, path: Path) -> list[dict[str, Any]]:
    entries = value.get(key)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f'{path}: "{key}" must be a list of objects. {_FORMAT}')
    return entries


def _identity(entry: dict[str, Any], where: str) -> int | str:
    identity = entry.get("id")
    if not isinstance(identity, int | str) or isinstance(identity, bool):
        raise ValueError(f'{where}: "id" must be a number, got {identity!r}. {_FORMAT}')
    return identity


def _link(entry: dict[str, Any], key: str, known: Mapping[int | str, object], where: str) -> Any:
    value = entry.get(key)
    if isinstance(value, bool) or not isinstance(value, int | str) or value not in known:
        listed = key.removesuffix("_id")
        raise ValueError(
            f'{where}: "{key}" is {value!r}, but no such {listed} is listed. Export the file again.'
        )
    return value


def _image_names(path: Path, entries: list[dict[str, Any]]) -> dict[int | str, str]:
    names: dict[int | str, str] = {}
    taken: set[str] = set()
    for number, entry in enumerate(entries):
        where = f"{path}: image {number}"
        identity, name = _identity(entry, where), inner_name(entry.get("file_name"), where)
        if identity in names or name in taken:
            what = f"id {identity}" if identity in names else f"file '{name}'"
            raise ValueError(
                f"{where}: {what} is listed twice, so its annotations cannot be told apart. "
                "Export the file again."
            )
        names[identity] = name
        taken.add(name)
    return names


def _categories(
    path: Path, entries: list[dict[str, Any]], phrases: Mapping[str, str]
) -> dict[int | str, str]:
    categories: dict[int | str, str] = {}
    for number, entry in enumerate(entries):
        where = f"{path}: category {number}"
        identity, name = _identity(entry, where), parse_phrase(entry.get("name"), where)
        if identity in categories:
            raise ValueError(f"{where}: id {identity} is listed twice. Export the file again.")
        categories[identity] = phrases.get(name, name)
    return categories


def _add_cases(
    file: AnnotationFile,
    names: Mapping[int | str, str],
    outlines: Mapping[int | str, Outlines],
    found: _Found,
) -> None:
    places = {i: _place(file, name) for i, name in names.items()}
    if not any(places.values()):
        folders = " or ".join(str(folder) for folder in file.image_dirs[:2])
        first = next(iter(names.values()), "")
        raise FileNotFoundError(
            f"{file.path} lists {len(names)} images{f' (first: {first})' if first else ''}, but "
            f"none of them is there. Put them into {folders}."
        )
    for image_id, name in names.items():
        own_name = f"{file.prefix}/{name}" if file.prefix else name
        place, of_image = places[image_id], outlines[image_id]
        targets = tuple(
            Target(phrase=phrase, polygons=tuple(rings) or None, runs=tuple(runs) or None)
            for phrase, (rings, runs) in of_image.items()
            if rings or runs
        )
        if place is None:
            found.leave_out("images that are listed but not there", own_name)
        elif not targets:
            found.leave_out("images without an annotation", own_name)
        else:
            if len(targets) < len(of_image):
                reason = "images where a phrase has no outline (only that phrase is left out)"
                found.leave_out(reason, own_name)
            case = Case(file_name=own_name, image_path=place, targets=targets, part=file.part)
            found.cases.append(case)
            found.phrases.update(str(target.phrase) for target in targets)
    _leave_out_unlisted(file, places, names, found)


def _place(file: AnnotationFile, name: str) -> Path | None:
    return next((d / name for d in file.image_dirs if (d / name).is_file()), None)


def _leave_out_unlisted(
    file: AnnotationFile,
    places: Mapping[int | str, Path | None],
    names: Mapping[int | str, str],
    found: _Found,
) -> None:
    there = {path for path in places.values() if path is not None}
    num_parts = {i: len(Path(name).parts) for i, name in names.items()}
    roots = {path.parents[num_parts[i] - 1] for i, path in places.items() if path is not None}
    for folder in sorted({path.parent for path in there}):
        root = next(root for root in roots if root == folder or root in folder.parents)
        for path in sorted(folder.iterdir()):
            is_image = path.suffix.lower() in IMAGE_SUFFIXES and path.name[0] != "."
            if is_image and path not in there:
                name = path.relative_to(root).as_posix()
                found.leave_out(
                    "images that are not listed", f"{file.prefix}/{name}" if file.prefix else name
                )


def _notes(found: _Found) -> tuple[str, ...]:
    most = sorted(found.phrases.items(), key=lambda item: (-item[1], item[0]))
    listed = ", ".join(f"{name} ({num} images)" for name, num in most[:_MAX_PHRASES])
    more = " ..." if len(most) > _MAX_PHRASES else "."
    notes = [f"{len(most)} phrase{'s' * (len(most) > 1)}: {listed}{more}"]
    if found.num_crowds:
        notes.append(f"{found.num_crowds} regions of a crowd are part of their category's mask.")
    if found.num_repeated:
        notes.append(
            f"{found.num_repeated} annotations have the id of another; all of them are used."
        )
    return tuple(notes)
