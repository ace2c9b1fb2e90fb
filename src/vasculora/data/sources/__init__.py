"""From a data folder to records: find its layout, list it, group it, hide private names.

Names of files may be names of patients. As soon as one file is called `NAME(ID)_RUN_frame_N`,
*every* case and group of the folder gets a keyed pseudonym (a name that misses the pattern by a
typing mistake is a name all the same), here, before anything leaves. So it is with DICOM, whatever
its files are called. Only errors show the user his own names.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from vasculora.core.pseudonyms import load_key, pseudonym
from vasculora.core.types import Record
from vasculora.data.sources.catalog import (
    Case,
    Catalog,
    Listing,
    without_suffix,
    write_private_names,
)
from vasculora.data.sources.dicom import frame_tag
from vasculora.data.sources.groups import find_groups, names_a_patient
from vasculora.data.sources.layouts import DICOM, Layout, find_layout
from vasculora.data.sources.manifest_writer import check_manifest_name, write_manifest
from vasculora.data.splits import Split, leaking_groups, read_split

__all__ = [
    "Catalog",
    "check_manifest_name",
    "read_pictures",
    "read_source",
    "write_manifest",
    "write_private_names",
]

SPLIT_FILE = "split.json"

_MAX_NAMES = 10
_WHY_HIDDEN = {
    True: "DICOM: names of files and patients are private, so pseudonyms are written instead.",
    False: "File names hold patients' names: pseudonyms are written instead.",
}


def read_source(data_dir: Path, *, group_regex: str | None = None) -> Catalog:
    """Return the images of a folder, grouped, with nothing private in their ids.

    The folder is only read. The user's key is made when it is first needed.

    Args:
        data_dir: A folder in one of the layouts of `layouts.SOURCES`, the file that lists one, or
            a DICOM file.
        group_regex: Pattern whose first capture group, searched in a case's own name, is its group.

    Raises:
        FileNotFoundError: If the folder or a file it promises is not there, or no layout fits.
        ValueError: If its annotation, `groups.csv`, `split.json` or the pattern is wrong.
    """
    layout = find_layout(data_dir)
    return _catalog(data_dir, layout, layout.read(data_dir), group_regex)


def read_pictures(data: Path) -> Catalog:
    """Return the pictures of a DICOM file, or of all in a folder, whatever else is there.

    Raises:
        ValueError: If a file cannot be read, or none holds an image.
    """
    return _catalog(data, DICOM, DICOM.read(data), None)


def _catalog(data_dir: Path, layout: Layout, listing: Listing, group_regex: str | None) -> Catalog:
    cases = list(listing.cases)
    if not listing.in_order:
        cases.sort(key=lambda case: case.file_name)
    _check_unique(data_dir, cases)
    unused = [name for names in listing.unused.values() for name in names]
    groups, grouping = find_groups(
        data_dir,
        [case.file_name for case in cases],
        unused=unused,
        regex=group_regex,
        own=[case.group for case in cases],
        rule=listing.group_rule,
    )
    private = listing.private or any(
        names_a_patient(name) for name in (*unused, *(c.file_name for c in cases))
    )
    case_ids = {name: name for name in (*map(without_suffix, unused), *(c.name for c in cases))}
    if private:
        key = load_key()
        case_ids = {name: pseudonym(name, key, "case_") for name in case_ids}
        case_ids |= {
            case.name: pseudonym(identity, key, "case_") + frame_tag(case.frame)
            for case, identity in zip(cases, _identities(cases), strict=True)
            if identity
        }
        groups = tuple(pseudonym(group, key, "group_") for group in groups)
    records = tuple(
        Record(
            case_id=case_ids[case.name],
            group=group,
            image_path=case.image_path,
            targets=case.targets,
            fov_path=case.fov_path,
            second_path=case.second_path,
            spacing=case.spacing,
            frame=case.frame,
        )
        for case, group in zip(cases, groups, strict=True)
    )
    split, split_name = _own_split(data_dir / SPLIT_FILE, cases, case_ids), SPLIT_FILE
    if split is None:
        split, split_name = _split_by_parts(cases, case_ids), "the data set's own parts"
    notes = (
        f"Data: {_counted(records)} in layout '{layout.name}'{_terms(layout)}.",
        *listing.notes,
        *_unused_notes(listing, case_ids),
        *_scoring_notes(records),
        *((_WHY_HIDDEN[listing.private],) if private else ()),
        grouping,
        *_split_notes(records, split, split_name),
    )
    private_names = {case_id: name for name, case_id in case_ids.items()} if private else {}
    return Catalog(
        source=layout.name,
        records=records,
        notes=notes,
        private_names=private_names,
        split=split,
        secret=listing.private,
    )


def _identities(cases: Sequence[Case]) -> list[str]:
    """Return what pseudonyms are made of; the name where several files claim to be the same."""
    files: dict[str, set[Path]] = {}
    for case in cases:
        files.setdefault(case.identity, set()).add(case.image_path)
    return [
        f"file {case.name}" if case.identity and len(files[case.identity]) > 1 else case.identity
        for case in cases
    ]


def _counted(records: Sequence[Record]) -> str:
    num_annotated = sum(bool(record.targets) for record in records)
    if num_annotated == len(records):
        return f"{len(records)} annotated images"
    return f"{len(records)} images, {num_annotated or 'none'} of them annotated,"


def _terms(layout: Layout) -> str:
    return f" ({layout.origin}; terms: {layout.terms})" if layout.origin else ""


def _check_unique(data_dir: Path, cases: Sequence[Case]) -> None:
    seen: dict[str, str] = {}
    for case in cases:
        other = seen.setdefault(case.name, case.file_name)
        if other != case.file_name:
            raise ValueError(
                f"{data_dir}: {other} and {case.file_name} have the same name but for the suffix, "
                "and a case is called by it. Rename one."
            )


def _own_split(path: Path, cases: Sequence[Case], case_ids: Mapping[str, str]) -> Split | None:
    """Return the folder's own split in case ids; it may use own names, with or without suffix."""
    if not path.exists():
        return None
    split = read_split(path)
    known = {
        key: case_ids[c.name] for c in cases for key in (c.file_name, c.name, case_ids[c.name])
    }
    parts = split.to_dict()
    unknown = [name for names in parts.values() for name in names if name not in known]
    if unknown:
        raise ValueError(
            f"{path}: {len(unknown)} of its cases are not among the annotated images (first: "
            f"{unknown[0]}). Use names below the images folder, or pseudonyms made with your own "
            "key."
        )
    mapped = {part: tuple(known[name] for name in names) for part, names in parts.items()}
    every = [case_id for ids in mapped.values() for case_id in ids]
    if len(set(every)) < len(every):
        raise ValueError(f"{path}: a case stands in it twice under two names. Keep one of them.")
    return Split(**mapped)


def _split_by_parts(cases: Sequence[Case], case_ids: Mapping[str, str]) -> Split | None:
    """Return the split the data set itself makes; None where it makes none."""
    parts: dict[str, tuple[str, ...]] = {
        part: tuple(case_ids[case.name] for case in cases if case.part == part)
        for part in ("train", "val", "test")
    }
    # Where all images are of one part, only that part was given.
    return Split(**parts) if sum(map(bool, parts.values())) > 1 else None


def _unused_notes(listing: Listing, case_ids: Mapping[str, str]) -> list[str]:
    notes = []
    for reason, file_names in listing.unused.items():
        if file_names:
            names = [case_ids[without_suffix(name)] for name in file_names[:_MAX_NAMES]]
            more = " ..." if len(file_names) > _MAX_NAMES else ""
            notes.append(f"Not used: {len(file_names)} {reason}: {', '.join(names)}{more}")
    return notes


def _scoring_notes(records: Sequence[Record]) -> list[str]:
    """Return a line about what scores use beside the masks; none where there is nothing."""
    counts = {
        "a field of view": sum(record.fov_path is not None for record in records),
        "a second observer's mask": sum(record.second_path is not None for record in records),
        "the size of a pixel in mm": sum(record.spacing is not None for record in records),
    }
    told = [f"{what} ({num} of {len(records)} images)" for what, num in counts.items() if num]
    return [f"For scoring: {', '.join(told)}."] if told else []


def _split_notes(records: Sequence[Record], split: Split | None, name: str) -> list[str]:
    if split is None:
        return []
    verb, divides = ("does", "divides") if name == SPLIT_FILE else ("do", "divide")
    notes = [
        f"Split: from {name}, {len(split.train)} train, {len(split.val)} val, "
        f"{len(split.test)} test."
    ]
    num_left = len(records) - len(split.train) - len(split.val) - len(split.test)
    if num_left:
        notes.append(f"Not used: {num_left} images that {name} {verb} not name.")
    if name != SPLIT_FILE and not split.val:
        notes.append(
            f"{name.capitalize()} hold no val. To train, one is taken out of train, by group."
        )
    leaking = leaking_groups(records, split)
    if leaking:
        notes.append(
            f"Warning: {name} {divides} {len(leaking)} groups (first: {leaking[0]}), so scores "
            "look better than they are."
        )
    return notes
