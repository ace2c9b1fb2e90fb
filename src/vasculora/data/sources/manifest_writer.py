"""Writes records as a manifest, the form that `manifest` reads.

Names of files may be names of patients. A manifest of such files is a list of patients, so it is
written only when that is asked for, and then for its owner's eyes (mode 0600).
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vasculora.core.io import write_private_text, write_text
from vasculora.core.types import Record, Target
from vasculora.data.sources.groups import names_a_patient
from vasculora.data.sources.manifest import KEYS, SUFFIX
from vasculora.data.splits import Split


def write_manifest(
    path: Path,
    records: Sequence[Record],
    split: Split | None = None,
    *,
    private: bool = False,
    keep_names: bool = False,
) -> None:
    """Write records as a manifest, a line a target; one without a mask where there is none.

    Args:
        path: The file; its suffix is `.jsonl`.
        records: The cases; their files are named relative to it where they lie below its folder.
        split: The part of each case, or None.
        private: The file names are known to be private; those that look so are found anyhow.
        keep_names: Write file names that are names of patients, readable by the owner only.

    Raises:
        ValueError: If the suffix is another one, or names of patients would be written unasked.
        OSError: If the file cannot be written.
    """
    check_manifest_name(path)
    parts = split.to_dict() if split is not None else {}
    part_of = {case_id: part for part, case_ids in parts.items() for case_id in case_ids}
    folder = path.absolute().parent
    lines = [
        line for record in records for line in _lines(record, part_of.get(record.case_id), folder)
    ]
    files = [line.get(key) for line in lines for key in ("image", "fov", "mask", "second_mask")]
    private |= any(names_a_patient(name) for name in files if isinstance(name, str))
    if private and not keep_names:
        raise ValueError(
            f"{path}: the file names are names of patients, and a manifest lists them. Rename the "
            "files first, or write it for yourself alone with --keep-names."
        )
    kept = [
        {key: line[key] for key in KEYS if key in line and (key == "mask" or line[key] is not None)}
        for line in lines
    ]
    text = "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in kept)
    (write_private_text if keep_names else write_text)(path, text)


def check_manifest_name(path: Path) -> None:
    """Make sure that a manifest will be known as one.

    Raises:
        ValueError: If its suffix is another one.
    """
    if path.suffix.lower() != SUFFIX:
        raise ValueError(f"{path}: a manifest is recognised by its suffix. Call it NAME{SUFFIX}.")


def _lines(record: Record, part: str | None, folder: Path) -> list[dict[str, Any]]:
    def place(file: Path | None) -> str | None:
        if file is None:
            return None
        absolute = file.absolute()
        below = absolute.relative_to(folder) if absolute.is_relative_to(folder) else absolute
        # Links are kept as they are, so `..` may stand in a path: then only the whole one is sure.
        return (absolute if ".." in below.parts else below).as_posix()

    of_image = {
        "case": record.case_id,
        "image": place(record.image_path),
        "frame": record.frame,
        "group": record.group,
        "fov": place(record.fov_path),
        "second_mask": place(record.second_path),
        "spacing": record.spacing,
        "split": part,
    }
    if not record.targets:
        return [of_image]
    return [
        {
            **of_image,
            "phrase": target.phrase,
            "mask": place(target.mask_path) or _outline(target),
        }
        for target in record.targets
    ]


def _outline(target: Target) -> Any:
    if target.absent:
        return None
    rings: list[Any] = [list(ring) for ring in target.polygons or ()]
    runs: list[Any] = [
        {"size": one.size, "counts": one.counts if isinstance(one.counts, str) else [*one.counts]}
        for one in target.runs or ()
    ]
    return rings + runs
