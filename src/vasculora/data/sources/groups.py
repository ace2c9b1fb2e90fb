"""Which cases belong together: by `groups.csv`, a pattern, or the patient in the file name.

Frames of one patient in both train and val hide a model that learns nothing behind a good number,
so a grouping is always chosen and always said. File names like `NAME(ID)_RUN_frame_N.jpg` are
recognised as patients' names.
"""

import csv
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from vasculora.core.io import check_file
from vasculora.data.sources.catalog import without_suffix

GROUPS_FILE = "groups.csv"

# For names in NFKC form, in which the brackets of Chinese keyboards are plain ones.
_PATIENT = r"(?:.*/)?(?P<patient>[^/]*[^/\s]\s*\([^/()]*\w[^/()]*\))"
_PATIENT_START = re.compile(_PATIENT)
_PATIENT_FRAME = re.compile(_PATIENT + r"[_/].+?[_/]frame_\d+.*", re.IGNORECASE)


def names_a_patient(file_name: str) -> bool:
    """Return whether a file is called `NAME(ID)_RUN_frame_N`, be it with folders in between."""
    return _PATIENT_FRAME.fullmatch(_plain(file_name)) is not None


def find_groups(
    data_dir: Path,
    file_names: Sequence[str],
    *,
    unused: Sequence[str] = (),
    regex: str | None = None,
    own: Sequence[str | None] = (),
    rule: str = "",
) -> tuple[tuple[str, ...], str]:
    """Return the group of each file, and a line that says how they were found.

    Args:
        data_dir: The data folder, in which `groups.csv` is looked for.
        file_names: Images to group, under their own names.
        unused: Other images there are, which `groups.csv` may name too.
        regex: A pattern whose first capture group, searched in a name without suffix, is the group.
        own: Group of each file by the layout's own rule, if it has one.
        rule: What that rule is, for the line.

    Raises:
        ValueError: If both `groups.csv` and a pattern are given, or they leave an image out.
    """
    path = data_dir / GROUPS_FILE
    if path.exists():
        if regex is not None:
            raise ValueError(
                f"{path} and the group pattern '{regex}' are both given, but only one can count. "
                "Leave --group-regex out, or move the file away."
            )
        groups = _from_file(path, file_names, unused)
        return groups, f"Groups: {len(set(groups))}, from {GROUPS_FILE}."
    if regex is not None:
        groups = _from_regex(regex, file_names)
        return groups, f"Groups: {len(set(groups))}, from the pattern '{regex}'."
    if any(own):
        groups = tuple(
            group or without_suffix(name) for group, name in zip(own, file_names, strict=True)
        )
        return groups, f"Groups: {len(set(groups))}, {rule}."
    if any(map(names_a_patient, file_names)):
        groups = tuple(_patient(name) for name in file_names)
        return groups, f"Groups: {len(set(groups))} patients, from the file names."
    return tuple(map(without_suffix, file_names)), (
        "Warning: every image is its own group. If several show one patient or run, they can end "
        "up in both train and val, and Val Dice looks better than it is. Say what belongs "
        f"together with {GROUPS_FILE} (columns image,group) or --group-regex."
    )


def _patient(file_name: str) -> str:
    found = _PATIENT_START.match(_plain(file_name))
    if found is None:
        return without_suffix(file_name)
    # The same patient typed with other blanks or capitals is the same patient.
    return "".join(found["patient"].casefold().split())


def _plain(file_name: str) -> str:
    return unicodedata.normalize("NFKC", without_suffix(file_name))


def _from_regex(regex: str, file_names: Sequence[str]) -> tuple[str, ...]:
    try:
        pattern = re.compile(regex)
    except re.error as error:
        raise ValueError(
            f"the group pattern '{regex}' is no regular expression: {error}."
        ) from error
    if pattern.groups < 1:
        raise ValueError(
            f"the group pattern '{regex}' captures nothing. Put brackets round the part that names "
            "the group, "
            r"as in '^(\d+)_'."
        )
    groups = []
    for name in map(without_suffix, file_names):
        found = pattern.search(name)
        if found is None or not found[1]:
            raise ValueError(
                f"the group pattern '{regex}' finds no group in '{name}'. It must match every "
                "image's name."
            )
        groups.append(found[1])
    return tuple(groups)


def _from_file(path: Path, file_names: Sequence[str], unused: Sequence[str]) -> tuple[str, ...]:
    known = {key: name for name in (*unused, *file_names) for key in (name, without_suffix(name))}
    groups: dict[str, str] = {}
    for line, (image, group) in _rows(path):
        if image not in known:
            raise ValueError(
                f"{path}, line {line}: there is no image '{image}'. Correct or remove the line."
            )
        if groups.setdefault(known[image], group) != group:
            raise ValueError(
                f"{path}, line {line}: '{image}' is in two groups. Keep one line of them."
            )
    missing = [name for name in file_names if name not in groups]
    if missing:
        raise ValueError(
            f"{path} leaves out {len(missing)} images (first: {missing[0]}). Add a line for each."
        )
    return tuple(groups[name] for name in file_names)


def _rows(path: Path) -> list[tuple[int, tuple[str, str]]]:
    check_file(path, "table of groups")
    text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    reader = csv.DictReader(text.splitlines())
    try:
        return _checked_rows(path, reader)
    except csv.Error as error:
        raise ValueError(
            f"{path}, line {reader.line_num + 1}: cannot be read as a table ({error}). Save it "
            "anew as CSV in UTF-8."
        ) from error


def _checked_rows(path: Path, reader: "csv.DictReader[str]") -> list[tuple[int, tuple[str, str]]]:
    if not {"image", "group"} <= set(reader.fieldnames or ()):
        raise ValueError(
            f"{path}: its first line must name the columns: image,group. Save it as CSV in UTF-8 "
            "with that line."
        )
    rows = []
    for row in reader:
        image, group = (row["image"] or "").strip(), (row["group"] or "").strip()
        if not image or not group:
            raise ValueError(
                f"{path}, line {reader.line_num}: image or group is empty. Fill both in."
            )
        rows.append((reader.line_num, (image, group)))
    return rows
