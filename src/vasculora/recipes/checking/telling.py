"""What a check found, as tables for people, a dictionary for programs, and a sheet to look at.

A finding may name files, and files may be called like patients. So findings go where only the user
looks (`warn`), with his own names; the dictionary, which is kept, says pseudonyms in their place.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from vasculora.core.io import write_image
from vasculora.core.report import Report
from vasculora.core.tables import counted
from vasculora.core.types import Record
from vasculora.data.dataset import load_sample
from vasculora.recipes.checking.check import Check
from vasculora.recipes.checking.faults import Finding, Level
from vasculora.recipes.checking.survey import CaseFacts, MaskFacts
from vasculora.viz.sheet import draw_sheet, outlined

NUM_SHOWN = 10
"""Findings of a level, and phrases, that are shown on the terminal."""
NUM_PICTURES = 16
"""Cases on the sheet."""

_COLUMNS = 4
_HEADS = {"error": "to mend before a run,", "warning": "to look at once,"}
_NUM_KINDS = 3
_OWN = "* the mask grid of {model}; 256 at image size 1024 is the official checkpoints'."
_MODALITIES = {"xray": "X-ray angiogram", "fundus": "fundus photograph", "octa": "OCTA"}


def show(found: Check, report: Report) -> None:
    """Show all that a check found; of long lists the beginning, and how long they are."""
    report.table("The data set", ("what", "found"), _overview(found))
    phrases = _phrases(found)
    if len(phrases) > 1:
        more = f", {NUM_SHOWN} most frequent of {len(phrases)}" if len(phrases) > NUM_SHOWN else ""
        report.table(
            f"By phrase{more}",
            ("phrase", "images", "foreground", "width"),
            [
                (name, str(row["images"]), f"{row['foreground']:.2%}", f"{row['width']:.1f}")
                for name, row in list(phrases.items())[:NUM_SHOWN]
            ],
        )
    if found.ceilings:
        num = len(found.ceilings[0].dice)
        report.table(
            f"The best a perfect model could reach, mean (lowest) of {counted(num, 'mask')}",
            ("mask grid", "image size", "target", "Dice", "clDice"),
            _ceiling_rows(found),
        )
        report.note(_OWN.format(model=found.model))
    if found.choice is not None and found.choice.num_masks:
        report.note(found.choice.told())
    for level in ("error", "warning"):
        _show_findings(found, level, report)
    report.note(verdict(found))


def verdict(found: Check) -> str:
    """Return in a sentence whether a run may begin."""
    if found.ok:
        return "Nothing here stops a run."
    return f"{counted(len(found.errors), 'thing')} to mend before a run."


def to_dict(found: Check) -> dict[str, object]:
    """Return all that a check found as plain values, with no name of a patient in it."""
    low, middle, high = found.survey.width_percentiles(5, 50, 95)
    cases, masks = found.survey.cases, _masks(found.survey.cases)
    shares = [case.foreground for case in cases if case.masks]
    files = {record.case_id: record for record in found.catalog.records}
    return {
        "ok": found.ok,
        "layout": found.catalog.source,
        "notes": list(found.catalog.notes),
        "images": len(found.catalog.records),
        "unusable": len(found.survey.unusable),
        "not_annotated": sum(not case.masks for case in cases),
        "targets": len(masks),
        "absent_targets": sum(mask.absent for mask in masks),
        "groups": len({record.group for record in found.catalog.records}),
        "parts": dict(Counter(found.part_of.values())),
        "sizes": dict(Counter(f"{case.size[1]}x{case.size[0]}" for case in cases)),
        "image_encodings": dict(Counter(case.encoding for case in cases)),
        "mask_encodings": dict(Counter(mask.encoding for mask in masks)),
        "modalities": dict(Counter(case.modality or "unknown" for case in cases)),
        "foreground": {"mean": _mean(shares), "min": min(shares, default=0.0)}
        | {"max": max(shares, default=0.0)},
        "vessel_width": {"percentile_5": low, "median": middle, "percentile_95": high},
        "phrases": _phrases(found),
        "ceilings": [
            {"grid": row.grid, "image_size": row.image_size, "target": row.rule, "own": row.own}
            | {"masks": len(row.dice), "dice": _mean(row.dice), "dice_min": min(row.dice)}
            | {"cldice": _mean(row.cldice), "cldice_min": min(row.cldice)}
            for row in found.ceilings
        ],
        "target": None if found.choice is None else found.choice.rule,
        "findings": [
            {
                "level": one.level,
                "kind": one.kind,
                "cases": list(one.cases),
                "files": []
                if found.catalog.private_names
                else [str(files[case_id].image_path) for case_id in one.cases],
                "text": _without_names(one, files, found.catalog.private_names),
            }
            for one in found.findings
        ],
        "cases": [_case(case, found.part_of) for case in cases],
    }


def draw(found: Check, path: Path, *, seed: int) -> int:
    """Write a sheet of cases with their masks' outlines, the odd ones first; return how many.

    Nothing is written where no case can be read.

    Args:
        found: What a check found.
        path: The picture, PNG.
        seed: Draws the cases that are not odd.
    """
    kinds = _kinds_by_case(found.findings)
    known = {case.case_id: case for case in found.survey.cases}
    rng = np.random.default_rng(seed)
    drawn = [list(known)[index] for index in rng.permutation(len(known))]
    chosen = list(dict.fromkeys((*(i for i in kinds if i in known), *drawn)))[:NUM_PICTURES]
    if not chosen:
        return 0
    records = {record.case_id: record for record in found.catalog.records}
    tiles = []
    for case_id in chosen:
        sample = load_sample(records[case_id], phrase=found.phrase, allow_empty=True)
        tiles.append(outlined(sample.image, np.logical_or.reduce(sample.masks)))
    captions = [_caption(known[i], found.part_of.get(i, ""), kinds.get(i, ())) for i in chosen]
    write_image(path, draw_sheet(tiles, captions, _COLUMNS))
    return len(chosen)


def _overview(found: Check) -> list[tuple[str, str]]:
    cases, masks = found.survey.cases, _masks(found.survey.cases)
    shares = [case.foreground for case in cases if case.masks]
    low, middle, high = found.survey.width_percentiles(5, 50, 95)
    groups = Counter(record.group for record in found.catalog.records)
    num_absent = sum(mask.absent for mask in masks)
    looks = (_MODALITIES.get(case.modality or "", "cannot tell") for case in cases if case.masks)
    rows = {
        "layout": found.catalog.source,
        "images": _image_counts(found),
        "size": _tally(f"{case.size[1]}x{case.size[0]}" for case in cases),
        "kept as": _tally(case.encoding for case in cases),
        "looks like": _tally(looks),
        "targets": f"{len(masks)}" + (f", {num_absent} of them absent" if num_absent else ""),
        "masks kept as": _tally(mask.encoding for mask in masks),
        "foreground": shares
        and f"{_mean(shares):.1%} in the mean, {min(shares):.1%} to {max(shares):.1%}",
        "vessel width": shares
        and f"{middle:.1f} pixels in the median, {low:.1f} to {high:.1f} for 90% of the length",
        "field of view": _numbers(cases, "fov_share", "{:.1%} of the image"),
        "two observers": _numbers(cases, "agreement", "Dice {:.3f}"),
        "a pixel": _millimetres(cases),
        "groups": f"{len(groups)}, the largest of {counted(max(groups.values()), 'image')}"
        if groups
        else "none",
        "split": ", ".join(f"{n} {part}" for part, n in Counter(found.part_of.values()).items())
        or "none",
    }
    return [(name, str(text)) for name, text in rows.items() if text]


def _numbers(cases: Sequence[CaseFacts], name: Literal["fov_share", "agreement"], how: str) -> str:
    """Return the mean of a number that some cases have; nothing where none has it."""
    known = [value for case in cases if (value := getattr(case, name)) is not None]
    if not known:
        return ""
    of = "" if len(known) == len(cases) else f", on {len(known)} of {len(cases)} images"
    return f"{how.format(_mean(known))} in the mean{of}"


def _millimetres(cases: Sequence[CaseFacts]) -> str:
    known = [case.spacing for case in cases if case.spacing is not None]
    sizes = _tally(f"{rows:.3g}x{columns:.3g} mm" for rows, columns in known)
    return sizes if len(known) in (0, len(cases)) else f"{sizes}, of {len(known)} images"


def _image_counts(found: Check) -> str:
    num_bare = sum(not case.masks for case in found.survey.cases)
    parts = [str(len(found.catalog.records))]
    bare = "none" if num_bare == len(found.survey.cases) else f"{num_bare} of them not"
    parts += [f"{bare} annotated"] if num_bare else []
    parts += [f"{len(found.survey.unusable)} cannot be used"] if found.survey.unusable else []
    return ", ".join(parts)


def _ceiling_rows(found: Check) -> list[tuple[str, ...]]:
    rows = []
    for row in found.ceilings:
        grid = f"{row.grid}{' *' if row.own else ''}"
        scores = (f"{_mean(s):.3f} ({min(s):.3f})" for s in (row.dice, row.cldice))
        rows.append((grid, str(row.image_size), row.rule, *scores))
    return rows


def _show_findings(found: Check, level: Level, report: Report) -> None:
    findings = [one for one in found.findings if one.level == level]
    if not findings:
        return
    counts = Counter(one.kind.replace("_", " ") for one in findings)
    kinds = ", ".join(f"{num} {kind}" for kind, num in counts.items())
    told = f"{len(findings)} ({kinds})" if len(counts) > 1 else str(len(findings))
    lines = [f"  {_with_names(one, found.catalog.private_names)}" for one in findings[:NUM_SHOWN]]
    if len(findings) > NUM_SHOWN:
        lines.append(f"  ... and {len(findings) - NUM_SHOWN} more; --json lists all of them.")
    report.warn("\n".join([f"{_HEADS[level]} {told}:", *lines]))


def _phrases(found: Check) -> dict[str, dict[str, float]]:
    """Return images, mean foreground and median width of each phrase, the most frequent first."""
    shown: dict[str, list[MaskFacts]] = {}
    for mask in _masks(found.survey.cases):
        if not mask.absent:
            shown.setdefault(mask.phrase, []).append(mask)
    rows = {
        phrase: {
            "images": len(masks),
            "foreground": _mean([mask.foreground for mask in masks]),
            "width": float(np.median([mask.width for mask in masks])),
        }
        for phrase, masks in shown.items()
    }
    return dict(sorted(rows.items(), key=lambda item: (-item[1]["images"], item[0])))


def _case(case: CaseFacts, part_of: Mapping[str, str]) -> dict[str, object]:
    return {
        "case": case.case_id,
        "group": case.group,
        "part": part_of.get(case.case_id),
        "width": case.size[1],
        "height": case.size[0],
        "foreground": case.foreground,
        "targets": len(case.masks),
        "fov_share": case.fov_share,
        "observers_dice": case.agreement,
        "spacing": case.spacing,
    }


def _caption(case: CaseFacts, part: str, kinds: Sequence[str]) -> str:
    share = f"{case.foreground:.1%}" if case.masks else "not annotated"
    odd = f" - look: {', '.join(kinds).replace('_', ' ')}" if kinds else ""
    return f"{case.case_id}{f' ({part})' if part else ''}  {share}{odd}"


def _kinds_by_case(findings: Iterable[Finding]) -> dict[str, tuple[str, ...]]:
    kinds: dict[str, tuple[str, ...]] = {}
    for one in findings:
        for case_id in one.cases:
            kinds[case_id] = tuple(dict.fromkeys((*kinds.get(case_id, ()), one.kind)))
    return kinds


def _with_names(finding: Finding, private_names: Mapping[str, str]) -> str:
    """Return a finding under the user's own names, for his eyes."""
    text = finding.text
    for case_id in finding.cases:
        text = text.replace(case_id, private_names.get(case_id, case_id))
    return text


def _without_names(
    finding: Finding, records: Mapping[str, Record], private_names: Mapping[str, str]
) -> str:
    """Return a finding with pseudonyms for every file that is called like a patient."""
    text = finding.text
    for case_id in finding.cases if private_names else ():
        record = records[case_id]
        paths = [record.image_path, *(t.mask_path for t in record.targets)]
        paths += [record.fov_path, record.second_path]
        known = {str(path) for path in paths if path is not None}
        # In full: a file that is called `1` would take every number in the text along.
        for name in sorted(known, key=len, reverse=True):
            text = text.replace(name, case_id)
    return text


def _masks(cases: Iterable[CaseFacts]) -> list[MaskFacts]:
    return [mask for case in cases for mask in case.masks]


def _tally(values: Iterable[str]) -> str:
    """Return the most frequent values, with how often each is there unless it is alone."""
    counts = Counter(values).most_common()
    if len(counts) == 1:
        return counts[0][0]
    shown = ", ".join(f"{value} ({num})" for value, num in counts[:_NUM_KINDS])
    left = len(counts) - _NUM_KINDS
    return f"{shown} and {left} more" if left > 0 else shown


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else 0.0
