"""The source `folder`: images and mask files that find each other by name.

Two arrangements: `images/` beside `masks/`, subfolders mirrored, or everything in one folder
(`7.png` beside `7_gt.png`). A mask has its image's name or that name with one of a few suffixes, as
public data sets use them.

A second observer's masks are no second truth: scores are set beside them. They have a suffix of
their own (`7_2ndHO.png`) or lie in `second_masks/`; fields of view likewise (`7_fov.png`, `fov/`).

Images may be DICOM files. Where one holds several frames, each frame is an image of its own, called
`NAME_f031` for frame 31 (they count from 0), and has a mask or none.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vasculora.core.io import IMAGE_SUFFIXES
from vasculora.core.types import Target
from vasculora.data.sources.catalog import Case, Listing, without_suffix
from vasculora.data.sources.dicom import (
    NO_IMAGES,
    DicomFile,
    dicom_case,
    dicom_file,
    frame_tag,
    frames_in,
    group_rule,
    is_dicom_image,
)
from vasculora.data.sources.files import ODD, list_files

MASK_SUFFIXES = ("_mask", "_gt", "_manual1", "_1stHO", "_label", "_seg")
SECOND_SUFFIXES = ("_manual2", "_2ndHO")
FOV_SUFFIXES = ("_fov",)
SECOND_DIR, FOV_DIR = "second_masks", "fov"

_Found = dict[str, list[Path]]
"""Files by the name of the image that each belongs to."""


@dataclass(frozen=True, kw_only=True)
class _Picture:
    """An image that may have a mask.

    Attributes:
        file_name: Its file, below the images folder.
        dicom: That file, where it is DICOM.
        frame: Which picture of it.
    """

    file_name: str
    dicom: DicomFile | None = None
    frame: int | None = None


def looks_like_pairs(data_dir: Path) -> bool:
    """Return whether there are `images/` and `masks/`, or masks beside their images."""
    if not data_dir.is_dir():
        return False
    if _has_two_folders(data_dir):
        return True
    files = list_files(data_dir, deep=False).plain
    masks = [_image_name(without_suffix(name), MASK_SUFFIXES) for name in files]
    if not any(masks):
        return False
    names = {without_suffix(name) for name in files}
    dicom = _dicom_files(data_dir, deep=False) if names.isdisjoint(masks) else []
    pictures = [file for file in dicom if file.header.num_frames]
    names.update(f"{file.name}{frame_tag(frame)}" for file in pictures for frame in frames_in(file))
    return not names.isdisjoint(masks)


def read_pairs(data_dir: Path) -> Listing:
    """Return the images and masks of a folder, matched by name.

    Raises:
        ValueError: If two files claim the same place, or nothing matches.
    """
    if _has_two_folders(data_dir):
        image_dir, mask_dir = data_dir / "images", data_dir / "masks"
        files, of_masks = list_files(image_dir), list_files(mask_dir)
        images, masks = files.plain, of_masks.plain
        every_dicom = _dicom_files(image_dir)
        odd = [*files.odd, *(f"masks/{name}" for name in of_masks.odd)]
    else:
        image_dir = mask_dir = data_dir
        files = list_files(data_dir, deep=False)
        suffixes = MASK_SUFFIXES + SECOND_SUFFIXES + FOV_SUFFIXES
        masks = [name for name in files.plain if _image_name(without_suffix(name), suffixes)]
        images, odd = sorted(set(files.plain) - set(masks)), files.odd
        every_dicom = _dicom_files(image_dir, deep=False)
    dicom = [file for file in every_dicom if file.header.num_frames]
    by_name = _by_name(images, dicom, image_dir)
    _check_cines(dicom, masks, mask_dir)
    found, rest = _match(by_name, mask_dir, masks, ("", *MASK_SUFFIXES))
    if not found:
        raise _no_pairs(image_dir, [p.file_name for p in by_name.values()], mask_dir, masks)
    second, rest = _match(found, mask_dir, rest, SECOND_SUFFIXES)
    fov, orphans = _match(found, mask_dir, rest, FOV_SUFFIXES)
    no_first = _more(second, found, data_dir / SECOND_DIR, (*SECOND_SUFFIXES, *MASK_SUFFIXES))
    no_image = _more(fov, found, data_dir / FOV_DIR, (*FOV_SUFFIXES, *MASK_SUFFIXES))
    cases = tuple(
        replace(
            _case(by_name[name], image_dir, Target(mask_path=_only(name, files, "masks"))),
            second_path=_only(name, second.get(name, []), "masks of a second observer"),
            fov_path=_only(name, fov.get(name, []), "fields of view"),
        )
        for name, files in found.items()
    )
    annotated = {by_name[name].file_name for name in found}
    alone = [p.file_name for p in by_name.values() if p.file_name not in annotated]
    used = [file for file in dicom if any(case.image_path == file.path for case in cases)]
    unused = {
        "images without a mask": tuple(dict.fromkeys(alone)),
        "masks without an image": tuple(orphans),
        "masks of a second observer without a first": tuple(no_first),
        "fields of view without an image and its mask": tuple(no_image),
        NO_IMAGES: tuple(file.name for file in every_dicom if not file.header.num_frames),
        ODD: tuple(odd),
    }
    return Listing(
        cases=cases,
        unused=unused,
        notes=_frame_notes(used, cases),
        group_rule=group_rule(used),
        private=bool(every_dicom),
    )


def _dicom_files(folder: Path, *, deep: bool = True) -> list[DicomFile]:
    """Return the DICOM files of a folder; some may be no images."""
    names = list_files(folder, suffixes=("",), deep=deep).plain
    return [dicom_file(folder / name, name) for name in names if is_dicom_image(folder / name)]


def _case(picture: _Picture, image_dir: Path, target: Target) -> Case:
    if picture.dicom is not None:
        return dicom_case(picture.dicom, picture.frame, targets=(target,))
    path = image_dir / picture.file_name
    return Case(file_name=picture.file_name, image_path=path, targets=(target,))


def _check_cines(dicom: list[DicomFile], masks: list[str], mask_dir: Path) -> None:
    """Refuse a mask that is called like a file of several frames, and says not of which.

    Raises:
        ValueError: If there is one.
    """
    cines = {file.name: file.header.num_frames for file in dicom if file.header.num_frames > 1}
    for file_name in masks if cines else ():
        name = without_suffix(file_name)
        for cine in (name, _image_name(name, MASK_SUFFIXES)):
            if cine in cines:
                raise ValueError(
                    f"{mask_dir}: {file_name} does not say which of the {cines[cine]} frames of "
                    f"{cine} it belongs to. Call the mask of frame 31 {cine}{frame_tag(31)}.png; "
                    "frames count from 0."
                )


def _frame_notes(used: list[DicomFile], cases: tuple[Case, ...]) -> tuple[str, ...]:
    num_frames = sum(file.header.num_frames for file in used)
    num_annotated = sum(bool(case.identity) for case in cases)
    if num_frames == num_annotated:
        return ()
    return (f"Not used: {num_frames - num_annotated} frames of DICOM files without a mask.",)


def _has_two_folders(data_dir: Path) -> bool:
    return (data_dir / "images").is_dir() and (data_dir / "masks").is_dir()


def _image_name(name: str, suffixes: tuple[str, ...]) -> str | None:
    """Return the name a mask's image has when the mask's carries one of `suffixes`, else None."""
    for suffix in suffixes:
        if suffix and name.lower().endswith(suffix.lower()) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return None


def _by_name(images: list[str], dicom: list[DicomFile], image_dir: Path) -> dict[str, _Picture]:
    pictures = [(without_suffix(name), _Picture(file_name=name)) for name in images]
    for file in dicom:
        own = file.path.relative_to(image_dir).as_posix()
        pictures += [
            (f"{file.name}{frame_tag(frame)}", _Picture(file_name=own, dicom=file, frame=frame))
            for frame in frames_in(file)
        ]
    by_name: dict[str, _Picture] = {}
    for name, picture in pictures:
        if name in by_name:
            raise ValueError(
                f"{image_dir}: {by_name[name].file_name} and {picture.file_name} have the same "
                "name but for the suffix, so their masks cannot be told apart. Rename or remove "
                "one."
            )
        by_name[name] = picture
    return by_name


def _match(
    images: Collection[str], folder: Path, files: Sequence[str], suffixes: tuple[str, ...]
) -> tuple[_Found, list[str]]:
    """Return the files that are called like an image and one of some suffixes, and the others."""
    found: _Found = {}
    rest = []
    for file_name in files:
        name = without_suffix(file_name)
        image = name if "" in suffixes and name in images else _image_name(name, suffixes)
        if image in images:
            found.setdefault(str(image), []).append(folder / file_name)
        else:
            rest.append(file_name)
    return found, rest


def _more(
    found: _Found, images: Collection[str], folder: Path, suffixes: tuple[str, ...]
) -> list[str]:
    """Add the files of a folder, where it is there, and return those that belong to no image."""
    if not folder.is_dir():
        return []
    beside, rest = _match(images, folder, list_files(folder).plain, ("", *suffixes))
    for name, files in beside.items():
        found.setdefault(name, []).extend(files)
    return [f"{folder.name}/{file_name}" for file_name in rest]


def _only(name: str, files: Sequence[Path], what: str) -> Path | None:
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise ValueError(
            f"{files[0].parent}: image {name} has {len(files)} {what}: {names}. Keep one of them "
            "there."
        )
    return files[0] if files else None


def _no_pairs(image_dir: Path, images: list[str], mask_dir: Path, masks: list[str]) -> ValueError:
    def example(files: list[str]) -> str:
        return f"{len(files)} files" + (f" (as {files[0]})" if files else "")

    return ValueError(
        f"no image has a mask: {image_dir} holds {example(images)}, {mask_dir} holds "
        f"{example(masks)}. Give every mask its image's name, or that name and one of "
        f"{' '.join(MASK_SUFFIXES)}; suffixes read: {' '.join(IMAGE_SUFFIXES)}."
    )
