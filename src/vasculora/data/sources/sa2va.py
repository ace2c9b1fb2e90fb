"""The source `sa2va`: `annotations.json` with polygons, as Sa2VA's own fine-tuning reads it.

The file is a list of `{"image": "x.jpg", "mask": ..., "text": ["blood vessel"]}`. `mask` exists in
two nestings: one list of rings for each phrase (`[[[x1, y1, ...], ...], ...]`), and plain rings
(`[[x1, y1, ...], ...]`) that belong to one phrase together, or one by one where there are as many
as phrases. Several entries or rings for the same phrase of the same image are one mask: their
union. The official code adds overlapping rings up, and trains each entry as a target of its own; a
phrase that means two things on one image cannot be learnt.
"""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from vasculora.core.io import IMAGE_SUFFIXES, read_json
from vasculora.core.types import Polygon, Target
from vasculora.data.sources.catalog import Case, Listing
from vasculora.data.sources.outlines import inner_name, is_number, parse_phrase, parse_ring

ANNOTATIONS = "annotations.json"

_FORMAT = (
    'Expected {"image": "x.jpg", "mask": [[x1, y1, x2, y2, ...], ...], "text": ["blood vessel"]}, '
    "or one list of such rings for each phrase."
)

Rings = dict[str | None, list[Polygon]]
"""The rings of each phrase of one image."""


def looks_like_sa2va(data_dir: Path) -> bool:
    """Return whether the folder holds `annotations.json`."""
    return (data_dir / ANNOTATIONS).is_file()


def read_sa2va(data_dir: Path) -> Listing:
    """Return the annotated images that `annotations.json` lists.

    Raises:
        FileNotFoundError: If images it names are not there.
        ValueError: If it is not in the format above; says which entry.
    """
    path = data_dir / ANNOTATIONS
    entries = read_json(path)
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{path}: must be a list with an entry for each image. {_FORMAT}")
    by_image: dict[str, Rings] = {}
    for number, entry in enumerate(entries):
        where = f"{path}: entry {number}"
        name = _image_name(entry, where)
        rings = by_image.setdefault(name, {})
        for phrase, new in _rings_by_phrase(entry, where):
            rings.setdefault(phrase, []).extend(new)
    places = _find_images(data_dir, list(by_image))
    cases = tuple(
        Case(file_name=name, image_path=places[name], targets=_targets(rings))
        for name, rings in by_image.items()
        if any(rings.values())
    )
    if not cases:
        raise ValueError(f"{path}: all {len(by_image)} images have empty masks. {_FORMAT}")
    unused = {
        "images without an annotation": _unannotated(data_dir, by_image),
        "images with an empty mask": tuple(n for n, r in by_image.items() if not any(r.values())),
        "images where a phrase has no mask (only that phrase is left out)": tuple(
            n for n, r in by_image.items() if any(r.values()) and not all(r.values())
        ),
    }
    return Listing(cases=cases, unused=unused, notes=_notes(data_dir, len(entries), len(by_image)))


def _image_name(entry: Any, where: str) -> str:
    if (
        not isinstance(entry, dict)
        or not isinstance(entry.get("image"), str)
        or "mask" not in entry
    ):
        raise ValueError(f"{where} is not an annotated image. {_FORMAT}")
    name = PurePosixPath(inner_name(entry["image"], where))
    below_images = len(name.parts) > 1 and name.parts[0] == "images"
    return str(name.relative_to("images") if below_images else name)


def _rings_by_phrase(entry: dict[str, Any], where: str) -> list[tuple[str | None, list[Polygon]]]:
    phrases = _phrases(entry.get("text"), where)
    mask = entry["mask"]
    if _is_list_of(mask, _is_ring):
        per_phrase = [[ring] for ring in mask]
    elif _is_list_of(mask, lambda item: _is_list_of(item, _is_ring)):
        per_phrase = mask
    else:
        raise ValueError(f"{where}: its mask holds something else than rings of numbers. {_FORMAT}")
    if len(phrases) == 1 or not mask:
        every_ring = [ring for rings in per_phrase for ring in rings]
        per_phrase = [every_ring] + [[] for _ in phrases[1:]]
    if len(per_phrase) != len(phrases):
        raise ValueError(
            f"{where}: {len(phrases)} phrases but {len(per_phrase)} masks. Give one list of rings "
            "for each phrase."
        )
    return [
        (phrase, [parse_ring(ring, where) for ring in rings if ring])
        for phrase, rings in zip(phrases, per_phrase, strict=True)
    ]


def _phrases(text: Any, where: str) -> list[str | None]:
    if text is None or text == []:
        return [None]
    phrases = [text] if isinstance(text, str) else text
    if not _is_list_of(phrases, lambda item: isinstance(item, str) and bool(item.strip())):
        raise ValueError(f'{where}: "text" must be a list of phrases, got {text!r}. {_FORMAT}')
    return [parse_phrase(phrase, where) for phrase in phrases]


def _is_list_of(value: Any, accepts: Any) -> bool:
    return isinstance(value, list) and all(accepts(item) for item in value)


def _is_ring(value: Any) -> bool:
    return _is_list_of(value, is_number)


def _targets(rings: Rings) -> tuple[Target, ...]:
    return tuple(
        Target(phrase=phrase, polygons=tuple(of_phrase))
        for phrase, of_phrase in rings.items()
        if of_phrase
    )


def _find_images(data_dir: Path, names: Sequence[str]) -> dict[str, Path]:
    places = {}
    missing = []
    for name in names:
        found = [p for p in (data_dir / "images" / name, data_dir / name) if p.is_file()]
        if found:
            places[name] = found[0]
        else:
            missing.append(name)
    if missing:
        raise FileNotFoundError(
            f"{data_dir / ANNOTATIONS} names {len(missing)} images that are not there: "
            f"{', '.join(missing[:3])}{' ...' if len(missing) > 3 else ''}. Put them beside it or "
            "under images/, or take their entries out."
        )
    return places


def _unannotated(data_dir: Path, annotated: Rings | dict[str, Rings]) -> tuple[str, ...]:
    image_dir = data_dir / "images"
    paths = image_dir.rglob("*") if image_dir.is_dir() else data_dir.iterdir()
    root = image_dir if image_dir.is_dir() else data_dir
    names = [p.relative_to(root).as_posix() for p in paths if p.suffix.lower() in IMAGE_SUFFIXES]
    hidden = [name for name in names if any(part[0] == "." for part in name.split("/"))]
    return tuple(sorted(set(names) - set(hidden) - set(annotated)))


def _notes(data_dir: Path, num_entries: int, num_images: int) -> tuple[str, ...]:
    notes = []
    if num_entries > num_images:
        notes.append(
            f"{num_entries} entries for {num_images} images: masks of one phrase on one image are "
            "united."
        )
    if (data_dir / "masks").is_dir():
        notes.append(f"The masks in masks/ are not used, because {ANNOTATIONS} is there.")
    return tuple(notes)
