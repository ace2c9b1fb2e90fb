"""The source `manifest`: one JSON Lines file that any data set can be written to and read from.

    {"image": "images/a.png", "phrase": "artery", "mask": "masks/a.png", "group": "p1"}

A line is one target; lines of the same image belong together, in the order of the file. Only
`image` and `mask` are needed. `mask` is a file, run lengths, rings, a list of both, or null where
the image does not show what the phrase says. `group`, `fov`, `split` and `case` (the name of the
case) are said alike in all lines of an image. Paths are relative to the manifest's folder and stay
in it, or absolute.

A manifest of the user's own making is read like any folder: as soon as one name of a case in it is
a patient's, every case gets a pseudonym. One that was written here has pseudonyms already.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from vasculora.core.types import Target
from vasculora.data.sources.catalog import Case, Listing
from vasculora.data.sources.outlines import inner_name, parse_outline, parse_phrase, plain_name
from vasculora.data.splits import Part

SUFFIX = ".jsonl"

KEYS = ("case", "image", "phrase", "mask", "group", "fov", "split")
_OF_IMAGE = ("case", "group", "fov", "split")
_FORMAT = 'Expected a line such as {"image": "a.png", "phrase": "artery", "mask": "a_mask.png"}.'
_PARTS = tuple(part for part in get_args(Part) if part != "all")


@dataclass(kw_only=True)
class _Image:
    """The lines of one image.

    Attributes:
        where: File and number of its first line.
        said: What that line says of the image.
        targets: The target of each phrase.
    """

    where: str
    said: dict[str, Any]
    targets: dict[str | None, Target] = field(default_factory=dict)


def looks_like_manifest(data: Path) -> bool:
    """Return whether the path is a manifest."""
    return data.suffix.lower() == SUFFIX and data.is_file()


def read_manifest(path: Path) -> Listing:
    """Return the images that a manifest lists, in its order.

    Raises:
        FileNotFoundError: If files it names are not there.
        ValueError: If a line is wrong; says which.
    """
    images: dict[str, _Image] = {}
    lines = path.read_bytes().decode("utf-8-sig", "surrogateescape").split("\n")
    for number, line in enumerate(lines, start=1):
        if line.strip():
            where = f"{path}, line {number}"
            _add(images, _entry(line, where), path.parent, where)
    if not images:
        raise ValueError(f"{path}: lists no image. {_FORMAT}")
    names = _case_names(images)
    cases = tuple(
        Case(
            file_name=names[image],
            image_path=path.parent / image,
            targets=tuple(lines_of.targets.values()),
            group=lines_of.said["group"],
            part=lines_of.said["split"],
            fov_path=path.parent / fov if (fov := lines_of.said["fov"]) else None,
        )
        for image, lines_of in images.items()
    )
    _check_cases(path, cases)
    return Listing(cases=cases, unused={}, group_rule="from the manifest", in_order=True)


def _entry(line: str, where: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{where}: not valid JSON at column {error.colno}: {error.msg}. {_FORMAT}"
        ) from error
    except (ValueError, RecursionError) as error:  # a number or a nesting beyond Python's limits
        raise ValueError(f"{where}: no JSON that can be read: {error}. Rewrite it.") from error
    if not isinstance(entry, dict) or "image" not in entry:
        raise ValueError(f"{where}: names no image. {_FORMAT}")
    unknown = [key for key in entry if key not in KEYS]
    if unknown:
        raise ValueError(f"{where}: unknown key '{unknown[0]}'. Known: {', '.join(KEYS)}.")
    if "mask" not in entry:
        raise ValueError(
            f"{where}: says nothing of a mask. Give one, or null where the image does not show it."
        )
    return entry


def _add(images: dict[str, _Image], entry: dict[str, Any], folder: Path, where: str) -> None:
    name = _file_name(entry["image"], where)
    said = _said_of_image(entry, where)
    image = images.setdefault(name, _Image(where=where, said=said))
    for key in _OF_IMAGE:
        if said[key] != image.said[key]:
            raise ValueError(
                f"{where}: '{key}' is {said[key]!r}, but {image.said[key]!r} for the same image in "
                f"{image.where}. Say the same in all lines of an image."
            )
    target = _target(entry, folder, where)
    if target.phrase in image.targets:
        what = f"'{target.phrase}'" if target.phrase else "no phrase"
        raise ValueError(
            f"{where}: a second mask with {what} for image '{name}'. Put its outlines into one "
            "line, or name what it shows."
        )
    image.targets[target.phrase] = target


def _said_of_image(entry: dict[str, Any], where: str) -> dict[str, Any]:
    said = {key: entry.get(key) for key in _OF_IMAGE}
    part = said["split"]
    if part is not None and part not in _PARTS:
        raise ValueError(f"{where}: unknown split {part!r}. Known: {', '.join(_PARTS)}.")
    if said["case"] is not None:
        said["case"] = inner_name(said["case"], where)
    if said["fov"] is not None:
        said["fov"] = _file_name(said["fov"], where)
    group = said["group"]
    if group is not None and (not isinstance(group, str) or not group.strip()):
        raise ValueError(f"{where}: 'group' must be a text, got {group!r}. Put it in quotes.")
    return said


def _target(entry: dict[str, Any], folder: Path, where: str) -> Target:
    phrase, mask = entry.get("phrase"), entry["mask"]
    if phrase is not None:
        phrase = parse_phrase(phrase, where)
    if mask is None:
        return Target(phrase=phrase, absent=True)
    if isinstance(mask, str):
        return Target(phrase=phrase, mask_path=folder / _file_name(mask, where))
    rings, runs = parse_outline(mask, where)
    if not rings and not runs:
        raise ValueError(
            f"{where}: its mask is empty. Write null where the image does not show it, or take the "
            "line out."
        )
    return Target(phrase=phrase, polygons=rings or None, runs=runs or None)


def _file_name(value: Any, where: str) -> str:
    name = plain_name(value, where)
    return name if Path(name).is_absolute() else inner_name(name, where)


def _case_names(images: dict[str, _Image]) -> dict[str, str]:
    """Return the name of each image's case: what the manifest says, else its path."""
    absolute = [str(Path(image).parent) for image in images if Path(image).is_absolute()]
    above = os.path.commonpath(absolute) if absolute else ""
    names = {}
    for image, lines in images.items():
        case = lines.said["case"]
        path = Path(image)
        own = (path.relative_to(above) if path.is_absolute() else path).as_posix()
        # The suffix is taken off again when the case is named.
        names[image] = own if case is None else case + (path.suffix or ".png")
    return names


def _check_cases(path: Path, cases: Sequence[Case]) -> None:
    seen: dict[str, Path] = {}
    for case in cases:
        other = seen.setdefault(case.name, case.image_path)
        if other != case.image_path:
            raise ValueError(
                f"{path}: {other} and {case.image_path} are both case '{case.name}'. Name them "
                'apart with "case".'
            )
    grouped = [case for case in cases if case.group is not None]
    if grouped and len(grouped) < len(cases):
        alone = next(case for case in cases if case.group is None)
        raise ValueError(
            f"{path}: {len(cases) - len(grouped)} of {len(cases)} images have no group (first: "
            f"{alone.name}). Give one to all, or to none."
        )
    files = [file for case in cases for file in _files(case)]
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise FileNotFoundError(
            f"{path} names {len(missing)} files that are not there: "
            f"{', '.join(map(str, missing[:3]))}{' ...' if len(missing) > 3 else ''}. Paths are "
            "relative to the manifest's folder."
        )


def _files(case: Case) -> list[Path]:
    masks = [target.mask_path for target in case.targets]
    return [file for file in (case.image_path, case.fov_path, *masks) if file is not None]
