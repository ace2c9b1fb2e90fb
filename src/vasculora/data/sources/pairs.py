"""The source `folder`: images and mask files that find each other by name.

Two arrangements: `images/` beside `masks/`, subfolders mirrored, or everything in one folder
(`7.png` beside `7_gt.png`). A mask has its image's name or that name with one of a few suffixes, as
public data sets use them. A second observer's masks are not a second truth: they are counted and
left aside.
"""

from collections.abc import Mapping
from pathlib import Path

from vasculora.core.io import IMAGE_SUFFIXES
from vasculora.core.types import Target
from vasculora.data.sources.catalog import Case, Listing, without_suffix
from vasculora.data.sources.files import ODD, list_files

MASK_SUFFIXES = ("_mask", "_gt", "_manual1", "_1stHO", "_label", "_seg")
SECOND_OBSERVER_SUFFIXES = ("_manual2", "_2ndHO")


def looks_like_pairs(data_dir: Path) -> bool:
    """Return whether there are `images/` and `masks/`, or masks beside their images."""
    if not data_dir.is_dir():
        return False
    if _has_two_folders(data_dir):
        return True
    names = {without_suffix(name) for name in list_files(data_dir, deep=False).plain}
    return any(_image_name(name, MASK_SUFFIXES) in names for name in names)


def read_pairs(data_dir: Path) -> Listing:
    """Return the images and masks of a folder, matched by name.

    Raises:
        ValueError: If two files claim the same place, or nothing matches.
    """
    if _has_two_folders(data_dir):
        image_dir, mask_dir = data_dir / "images", data_dir / "masks"
        files, of_masks = list_files(image_dir), list_files(mask_dir)
        images, masks = files.plain, of_masks.plain
        odd = [*files.odd, *(f"masks/{name}" for name in of_masks.odd)]
    else:
        image_dir = mask_dir = data_dir
        files = list_files(data_dir, deep=False)
        suffixes = MASK_SUFFIXES + SECOND_OBSERVER_SUFFIXES
        masks = [name for name in files.plain if _image_name(without_suffix(name), suffixes)]
        images, odd = sorted(set(files.plain) - set(masks)), files.odd
    by_name = _by_name(images, image_dir)
    found, orphans, second = _match(by_name, masks)
    if not found:
        raise _no_pairs(image_dir, images, mask_dir, masks)
    cases = tuple(
        Case(
            file_name=by_name[name],
            image_path=image_dir / by_name[name],
            targets=(Target(mask_path=mask_dir / _only(name, mask_names, mask_dir)),),
        )
        for name, mask_names in found.items()
    )
    unused = {
        "images without a mask": tuple(by_name[name] for name in by_name if name not in found),
        "masks without an image": tuple(orphans),
        "masks of a second observer": tuple(second),
        ODD: tuple(odd),
    }
    return Listing(cases=cases, unused=unused)


def _has_two_folders(data_dir: Path) -> bool:
    return (data_dir / "images").is_dir() and (data_dir / "masks").is_dir()


def _image_name(name: str, suffixes: tuple[str, ...]) -> str | None:
    """Return the name a mask's image has when the mask's carries one of `suffixes`, else None."""
    for suffix in suffixes:
        if name.lower().endswith(suffix.lower()) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return None


def _by_name(images: list[str], image_dir: Path) -> dict[str, str]:
    by_name: dict[str, str] = {}
    for file_name in images:
        name = without_suffix(file_name)
        if name in by_name:
            raise ValueError(
                f"{image_dir}: {by_name[name]} and {file_name} have the same name but for the "
                "suffix, so their masks cannot be told apart. Rename or remove one."
            )
        by_name[name] = file_name
    return by_name


def _match(
    images: Mapping[str, str], masks: list[str]
) -> tuple[dict[str, list[str]], list[str], list[str]]:
    """Return the masks of each image, those without an image, and those of second observers."""
    found: dict[str, list[str]] = {}
    orphans, second = [], []
    for file_name in masks:
        name = without_suffix(file_name)
        image = name if name in images else _image_name(name, MASK_SUFFIXES)
        if image is not None and image in images:
            found.setdefault(image, []).append(file_name)
        elif _image_name(name, SECOND_OBSERVER_SUFFIXES) in images:
            second.append(file_name)
        else:
            orphans.append(file_name)
    return found, orphans, second


def _only(name: str, mask_names: list[str], mask_dir: Path) -> str:
    if len(mask_names) > 1:
        raise ValueError(
            f"{mask_dir}: image {name} has {len(mask_names)} masks: {', '.join(mask_names)}. Keep "
            "one of them there."
        )
    return mask_names[0]


def _no_pairs(image_dir: Path, images: list[str], mask_dir: Path, masks: list[str]) -> ValueError:
    def example(files: list[str]) -> str:
        return f"{len(files)} files" + (f" (as {files[0]})" if files else "")

    return ValueError(
        f"no image has a mask: {image_dir} holds {example(images)}, {mask_dir} holds "
        f"{example(masks)}. Give every mask its image's name, or that name and one of "
        f"{' '.join(MASK_SUFFIXES)}; suffixes read: {' '.join(IMAGE_SUFFIXES)}."
    )
