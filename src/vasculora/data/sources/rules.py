"""Reads a public data set by rules: where its images are, and where what belongs to each.

An image's place is a pattern with named groups; the places of its masks and field of view are
filled in from them. Files belong together by name and never by their order in a folder: some sets
number fields of view or labels by rank, and one missing file would move all that follow. Suffixes
do not count, because people convert GIF and TIFF to PNG. What fits no rule is listed, not lost.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vasculora.core.io import IMAGE_SUFFIXES
from vasculora.core.types import Target
from vasculora.data.sources.catalog import Case, Listing, without_suffix
from vasculora.data.sources.files import ODD, list_files
from vasculora.data.splits import Part

_PACKED = tuple(f"{suffix}.gz" for suffix in IMAGE_SUFFIXES)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One arrangement of images and masks.

    Templates are paths below the data folder without suffix, in which `{name}` stands for the
    pattern's group of that name. Capitals do not count.

    Attributes:
        image: Pattern of an image's path without suffix.
        masks: Templates of the mask of each phrase; None is the phrase the user asks for.
        case: Template of the case's name.
        fov: Templates of the field of view.
        second: Templates of a second observer's mask, which is scored and never learnt; of a rule
            with one phrase.
        group: Template of the patient or eye; empty where the names do not tell.
        parts: Part of each value of the pattern's group `part`.
        part_of_number: Part of each number that the pattern's group `name` can be.
    """

    image: str
    masks: Mapping[str | None, tuple[str, ...]]
    case: str = "{name}"
    fov: tuple[str, ...] = ()
    second: tuple[str, ...] = ()
    group: str = ""
    parts: Mapping[str, Part] = field(default_factory=dict)
    part_of_number: Mapping[range, Part] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PublicSet:
    """A data set as its authors give it out.

    Attributes:
        name: What the catalog calls it.
        origin: Who made it and where to ask for it.
        terms: Under which terms, and whether that was verified.
        markers: Glob patterns; a folder in which one set of them is all found is taken for it.
        rules: Its arrangements.
        never: Glob patterns of which none is found in it, where another set looks alike.
        group_rule: Where groups come from, where a rule has them.
        note: What to know about its masks.
    """

    name: str
    origin: str
    terms: str
    markers: tuple[tuple[str, ...], ...]
    rules: tuple[Rule, ...]
    never: tuple[str, ...] = ()
    group_rule: str = ""
    note: str = ""


def looks_like_set(public: PublicSet, data: Path) -> bool:
    """Return whether a folder holds the files a set is known by."""

    def there(pattern: str) -> bool:
        return any(data.glob(pattern))

    return (
        data.is_dir()
        and any(all(map(there, patterns)) for patterns in public.markers)
        and not any(map(there, public.never))
    )


def read_set(public: PublicSet, data: Path) -> Listing:
    """Return the annotated images of a public set.

    Raises:
        ValueError: If files are packed, two files claim the same place, or no image has a mask.
    """
    files = list_files(data, suffixes=(*IMAGE_SUFFIXES, *_PACKED))
    packed = [name for name in files.plain if name.lower().endswith(_PACKED)]
    images = [name for name in files.plain if not name.lower().endswith(_PACKED)]
    index = _Index(data, images)
    cases = [case for rule in public.rules for case in _cases(rule, index)]
    if not cases:
        raise _nothing(public, data, images, packed)
    left = [name for name in images if name not in index.used]
    alone = [name for name in index.second if name not in index.used]
    without_mask = [name for name in left if name in index.images]
    unused = {
        "images without a mask": tuple(without_mask),
        "masks of a second observer without a first": tuple(alone),
        "packed files (unpack them with gunzip)": tuple(packed),
        ODD: tuple(files.odd),
        "other image files": tuple(sorted(set(left) - set(without_mask) - set(alone))),
    }
    phrases = Counter(target.phrase for case in cases for target in case.targets if target.phrase)
    listed = ", ".join(f"{phrase} ({num} images)" for phrase, num in phrases.items())
    notes = [f"{len(phrases)} phrases: {listed}."] if phrases else []
    notes += [public.note] if public.note else []
    return Listing(
        cases=tuple(cases), unused=unused, notes=tuple(notes), group_rule=public.group_rule
    )


class _Index:
    """The image files of a folder by their names without suffix, and what became of each."""

    def __init__(self, data: Path, files: list[str]) -> None:
        self.data = data
        self.used: set[str] = set()
        self.images: set[str] = set()
        self.second: list[str] = []
        self.by_name: dict[str, list[str]] = {}
        for file in files:
            self.by_name.setdefault(without_suffix(file).lower(), []).append(file)

    def find(self, templates: tuple[str, ...], groups: Mapping[str, str], image: str) -> str | None:
        """Return the one file that fits a template, or None."""
        names = dict.fromkeys(template.format(**groups).lower() for template in templates)
        found = [file for name in names for file in self.by_name.get(name, ())]
        if len(found) > 1:
            raise ValueError(
                f"{self.data}: image {image} has {len(found)} masks: {', '.join(found)}. Keep one "
                "of them there."
            )
        return found[0] if found else None


def _cases(rule: Rule, index: _Index) -> list[Case]:
    pattern = re.compile(rule.image, re.IGNORECASE)
    cases = []
    for files in index.by_name.values():
        match = pattern.fullmatch(without_suffix(files[0]))
        if match is None:
            continue
        if len(files) > 1:
            raise ValueError(
                f"{index.data}: {files[0]} and {files[1]} have the same name but for the suffix, "
                "so their masks cannot be told apart. Remove one."
            )
        case = _case(rule, index, files[0], match.groupdict(default=""))
        if case is not None:
            cases.append(case)
    return cases


def _case(rule: Rule, index: _Index, image: str, groups: Mapping[str, str]) -> Case | None:
    index.images.add(image)
    found = {phrase: index.find(masks, groups, image) for phrase, masks in rule.masks.items()}
    masks = {phrase: mask for phrase, mask in found.items() if mask is not None}
    second = index.find(rule.second, groups, image)
    if second is not None:
        index.second.append(second)
    if not masks:
        return None
    fov = index.find(rule.fov, groups, image)
    index.used.update((image, *masks.values(), *(name for name in (fov, second) if name)))
    return Case(
        file_name=rule.case.format(**groups) + Path(image).suffix,
        image_path=index.data / image,
        targets=tuple(
            Target(phrase=phrase, mask_path=index.data / mask) for phrase, mask in masks.items()
        ),
        group=rule.group.format(**groups) or None,
        part=_part(rule, groups),
        fov_path=index.data / fov if fov else None,
        second_path=index.data / second if second else None,
    )


def _part(rule: Rule, groups: Mapping[str, str]) -> Part | None:
    if rule.parts:
        return rule.parts.get(groups["part"].lower())
    number = int(groups["name"]) if rule.part_of_number else 0
    return next((part for numbers, part in rule.part_of_number.items() if number in numbers), None)


def _nothing(public: PublicSet, data: Path, images: list[str], packed: list[str]) -> ValueError:
    if packed:
        return ValueError(
            f"{data}: {len(packed)} images are packed (first: {packed[0]}). Unpack them first: "
            f"gunzip -r {data}"
        )
    found = ", ".join(images[:3]) + (" ..." if len(images) > 3 else "")
    return ValueError(
        f"{data}: looks like {public.name}, but no image has a mask. Found {found or 'no image'}. "
        "Keep the folders and names the set was published with, or arrange it as images/ and "
        "masks/."
    )
