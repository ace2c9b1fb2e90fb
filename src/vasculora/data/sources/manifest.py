"""The source `manifest`: one JSON Lines file that any data set can be written to and read from.

    {"image": "images/a.png", "phrase": "artery", "mask": "masks/a.png", "group": "p1"}

A line is one target; lines of the same image belong together, in the order of the file. Only
`image` is needed, and its `frame` (from 0 on) where that is DICOM of several. `mask` is a file, run
lengths, rings, a list of both, or null where the image does not show what the phrase says; an image
whose one line has none is not annotated. `group`, `fov`, `second_mask` (a second observer's file,
for the one mask of an image), `spacing` (millimetres from row to row and from column to column),
`split` and `case` (the name of the case) are said alike in all lines of an image. Paths are
relative to the manifest's folder and stay in it, or absolute.

A manifest of the user's own making is read like any folder: as soon as one name of a case in it is
a patient's, or a DICOM file is not given a case and a group, every case gets a pseudonym. One that
was written here has pseudonyms already.
"""

import codecs
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from vasculora.core.arrays import ARCHIVE_SUFFIX
from vasculora.core.io import check_file
from vasculora.core.spacing import LEAST, MOST, Spacing, as_spacing
from vasculora.core.types import Target
from vasculora.data.sources.catalog import Case, Listing, without_suffix
from vasculora.data.sources.dicom import (
    check_frame,
    dicom_case,
    dicom_file,
    dicom_stem,
    frame_tag,
    is_dicom_image,
)
from vasculora.data.sources.outlines import (
    check_letters,
    inner_name,
    parse_outline,
    parse_phrase,
    plain_name,
)
from vasculora.data.splits import Part

SUFFIX = ".jsonl"

KEYS = (
    "case",
    "image",
    "frame",
    "phrase",
    "mask",
    "second_mask",
    "group",
    "fov",
    "spacing",
    "split",
)
_OF_IMAGE = ("case", "group", "fov", "second_mask", "spacing", "split")
_FORMAT = 'Expected a line such as {"image": "a.png", "phrase": "artery", "mask": "a_mask.png"}.'
_PARTS = tuple(part for part in get_args(Part) if part != "all")


@dataclass(kw_only=True)
class _Image:
    """The lines of one image.

    Attributes:
        where: File and number of its first line.
        said: What that line says of the image.
        name: What they call it.
        frame: Which picture of it they mean.
        targets: The target of each phrase; none where it is not annotated.
    """

    where: str
    said: dict[str, Any]
    name: str
    frame: int | None
    targets: dict[str | None, Target] = field(default_factory=dict)


_Images = dict[tuple[str, int | None], _Image]
"""The images by name and frame, in the order of their first lines."""


def looks_like_manifest(data: Path) -> bool:
    """Return whether the path is a manifest."""
    return data.suffix.lower() == SUFFIX and data.is_file()


def read_manifest(path: Path) -> Listing:
    """Return the images that a manifest lists, in its order.

    Raises:
        FileNotFoundError: If files it names are not there.
        ValueError: If a line is wrong; says which.
    """
    images: _Images = {}
    data = path.read_bytes()
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ValueError(f"{path}: is in UTF-16. Save it as UTF-8.")
    lines = data.decode("utf-8-sig", "surrogateescape").split("\n")
    for number, line in enumerate(lines, start=1):
        if line.strip():
            where = f"{path}, line {number}"
            _add(images, _entry(line, where), path.parent, where)
    if not images:
        raise ValueError(f"{path}: lists no image. {_FORMAT}")
    _check_seconds(images)
    above = _common_folder(images)
    cases = [
        Case(
            file_name=_case_name(image, above),
            image_path=path.parent / image.name,
            targets=tuple(image.targets.values()),
            group=image.said["group"],
            part=image.said["split"],
            fov_path=path.parent / fov if (fov := image.said["fov"]) else None,
            second_path=path.parent / second if (second := image.said["second_mask"]) else None,
            spacing=image.said["spacing"],
            frame=image.frame,
        )
        for image in images.values()
    ]
    _check_files(path, cases)
    for index, image in enumerate(images.values()):
        cases[index] = _checked_picture(cases[index], image)
    _check_cases(path, cases)
    return Listing(
        cases=tuple(cases),
        unused={},
        group_rule="from the manifest",
        in_order=True,
        private=any(case.identity for case in cases),
    )


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
    return entry


def _add(images: _Images, entry: dict[str, Any], folder: Path, where: str) -> None:
    name, frame = _file_name(entry["image"], where), _frame(entry, where)
    said = _said_of_image(entry, where)
    known = (name, frame) in images
    image = images.setdefault((name, frame), _Image(where=where, said=said, name=name, frame=frame))
    for key in _OF_IMAGE:
        if said[key] != image.said[key]:
            raise ValueError(
                f"{where}: '{key}' is {said[key]!r}, but {image.said[key]!r} for the same image in "
                f"{image.where}. Say the same in all lines of an image."
            )
    if known and ("mask" not in entry or not image.targets):
        raise ValueError(
            f"{where}: several lines are about image '{name}', and not each has a mask. Give one, "
            "or null where the image does not show it."
        )
    if "mask" not in entry:
        return
    target = _target(entry, folder, where)
    if target.phrase in image.targets:
        what = f"'{target.phrase}'" if target.phrase else "no phrase"
        raise ValueError(
            f"{where}: a second mask with {what} for image '{name}'. Put its outlines into one "
            "line, or name what it shows."
        )
    image.targets[target.phrase] = target


def _frame(entry: dict[str, Any], where: str) -> int | None:
    frame = entry.get("frame")
    if frame is None:
        return None
    if not isinstance(frame, int) or isinstance(frame, bool) or frame < 0:
        raise ValueError(f"{where}: 'frame' must be a number from 0 on, got {frame!r}. Correct it.")
    return frame


def _said_of_image(entry: dict[str, Any], where: str) -> dict[str, Any]:
    said = {key: entry.get(key) for key in _OF_IMAGE}
    part = said["split"]
    if part is not None and part not in _PARTS:
        raise ValueError(f"{where}: unknown split {part!r}. Known: {', '.join(_PARTS)}.")
    if said["case"] is not None:
        said["case"] = inner_name(said["case"], where)
    for key in ("fov", "second_mask"):
        if said[key] is not None:
            said[key] = _file_name(said[key], where)
    if said["spacing"] is not None:
        said["spacing"] = _spacing(said["spacing"], where)
    group = said["group"]
    if group is not None and (not isinstance(group, str) or not group.strip()):
        raise ValueError(f"{where}: 'group' must be a text, got {group!r}. Put it in quotes.")
    if group is not None:
        check_letters(group, f"{where}: 'group'")
    return said


def _spacing(value: Any, where: str) -> Spacing:
    numbers = isinstance(value, list) and all(type(number) in (int, float) for number in value)
    spacing = as_spacing(value) if numbers else None
    if spacing is None:
        raise ValueError(
            f"{where}: 'spacing' must be two numbers of millimetres a pixel from {LEAST} to "
            f"{MOST:g}, [row to row, column to column], got {value!r}. Correct it, or take it out."
        )
    return spacing


def _check_seconds(images: _Images) -> None:
    for image in images.values():
        if image.said["second_mask"] and len(image.targets) != 1:
            raise ValueError(
                f"{image.where}: a second_mask for image '{image.name}', which has "
                f"{len(image.targets)} masks, and it stands beside one. Take it out, or keep the "
                "line it belongs to alone."
            )


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


def _common_folder(images: _Images) -> str:
    """Return the folder above all images that are named with their whole path."""
    absolute = [str(Path(name).parent) for name, _ in images if Path(name).is_absolute()]
    return os.path.commonpath(absolute) if absolute else ""


def _case_name(image: _Image, above: str) -> str:
    """Return the name of an image's case: what the manifest says, else its path."""
    path, case = Path(image.name), image.said["case"]
    own = (path.relative_to(above) if path.is_absolute() else path).as_posix()
    if path.suffix.lower() == ARCHIVE_SUFFIX:
        own = f"{without_suffix(own)}{frame_tag(image.frame)}{path.suffix}"
    # The suffix is taken off again when the case is named.
    return own if case is None else case + (path.suffix or ".png")


def _checked_picture(case: Case, image: _Image) -> Case:
    """Return a case with the frame that is meant, and, where nothing else is said, DICOM's groups.

    Raises:
        ValueError: If a DICOM file has no such frame, or another file is said to have one.
    """
    if not is_dicom_image(case.image_path):
        if image.frame is not None and case.image_path.suffix.lower() != ARCHIVE_SUFFIX:
            raise ValueError(
                f"{image.where}: frame {image.frame} of '{image.name}', but only DICOM files and "
                'NumPy archives have frames. Leave "frame" out.'
            )
        return case
    own = without_suffix(case.file_name) if image.said["case"] else dicom_stem(case.file_name)
    file = dicom_file(case.image_path, own)
    frame = check_frame(file, image.frame, image.where, 'Say which with "frame", from 0 on.')
    made = dicom_case(file, frame)
    case = replace(case, spacing=case.spacing or made.spacing)
    if image.said["case"] and case.group:
        return replace(case, frame=frame)
    return replace(
        case,
        file_name=case.file_name if image.said["case"] else made.file_name,
        group=case.group or made.group,
        frame=frame,
        identity=made.identity,
    )


def _check_cases(path: Path, cases: Sequence[Case]) -> None:
    seen: dict[str, tuple[Path, int | None]] = {}
    for case in cases:
        picture = (case.image_path, case.frame)
        other = seen.setdefault(case.name, picture)
        if other != picture:
            raise ValueError(
                f"{path}: {_told(*other)} and {_told(*picture)} are both case '{case.name}'. Name "
                'them apart with "case".'
            )
    grouped = [case for case in cases if case.group is not None]
    if grouped and len(grouped) < len(cases):
        alone = next(case for case in cases if case.group is None)
        raise ValueError(
            f"{path}: {len(cases) - len(grouped)} of {len(cases)} images have no group (first: "
            f"{alone.name}). Give one to all, or to none."
        )


def _told(path: Path, frame: int | None) -> str:
    return str(path) if frame is None else f"{path} (frame {frame})"


def _check_files(path: Path, cases: Sequence[Case]) -> None:
    files = [file for case in cases for file in _files(case)]
    missing = [file for file in files if not file.is_file()]
    for file in missing:
        if file.exists() or file.is_symlink():
            check_file(file, "image file")
    if missing:
        raise FileNotFoundError(
            f"{path} names {len(missing)} files that are not there: "
            f"{', '.join(map(str, missing[:3]))}{' ...' if len(missing) > 3 else ''}. Paths are "
            "relative to the manifest's folder."
        )


def _files(case: Case) -> list[Path]:
    masks = [target.mask_path for target in case.targets]
    return [
        file
        for file in (case.image_path, case.fov_path, case.second_path, *masks)
        if file is not None
    ]
