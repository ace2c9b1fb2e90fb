"""What is wrong with a data set, or odd: one sentence a case, with its cure.

An error is what a run must not begin with: it would stop (a case that cannot be read, the same
picture on both sides of the split) or learn the wrong thing (background for vessel). A warning is
what a person should look at once; it may be meant.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vasculora.data.leaks import Pair
from vasculora.recipes.checking.survey import CaseFacts, MaskFacts, Survey

Level = Literal["error", "warning"]

_HALF = 0.5
_INVERTED = 2.0  # the background of a vessel mask is this much wider than the vessels, or more
_WIDER_THAN_OTHERS = 3.0  # at their widest; on ARCADE and cimat the widest is 2.6 times as wide
_ALONE = 8.0  # of its own width, where there are too few others to compare with
_FAR_LESS = 20.0
_FEW = 4


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong or odd.

    Attributes:
        level: `error` fails the check.
        kind: In a word, for programs.
        cases: The cases it is about; none where it is about the set.
        text: What is wrong, where, and the cure.
    """

    level: Level
    kind: str
    cases: tuple[str, ...]
    text: str


def find_faults(
    found: Survey, pairs: Sequence[Pair], part_of: Mapping[str, str], *, leaks: Level
) -> list[Finding]:
    """Return everything that is wrong with a data set, errors first.

    Args:
        found: What is known of its cases.
        pairs: Images that are nearly the same and lie in two groups or two parts.
        part_of: Part of the split by case id.
        leaks: How bad a pair across two parts is.
    """
    findings = [
        *(
            Finding(level="error", kind="unusable", cases=(case_id,), text=text)
            for case_id, text in found.unusable.items()
        ),
        *_inverted(found.cases),
        *_leaking(pairs, part_of, leaks),
        *_filled(found.cases),
        *_twice(found.cases),
        *_near(pairs, part_of, found.cases),
        *_sparse(found.cases),
    ]
    return sorted(findings, key=lambda finding: finding.level != "error")


def _inverted(cases: Iterable[CaseFacts]) -> Iterator[Finding]:
    """Yield masks that are white where there is no vessel, and those that cover very much."""
    for case, mask in _masks(cases):
        if 0 < mask.background_width * _INVERTED <= mask.width:
            yield _of(
                case,
                "error",
                "inverted",
                f"the mask of '{mask.phrase}' covers {mask.foreground:.0%} of the image and what "
                f"it leaves out is thin (median width {mask.background_width:.0f} pixels), so it "
                "is white where there is no vessel. Invert it.",
            )
        elif mask.foreground > _HALF:
            yield _of(
                case,
                "warning",
                "large",
                f"the mask of '{mask.phrase}' covers {mask.foreground:.0%} of the image. Look at "
                "it: a vessel covers far less.",
            )


def _leaking(pairs: Iterable[Pair], part_of: Mapping[str, str], level: Level) -> Iterator[Finding]:
    for pair in pairs:
        a, b = part_of.get(pair.a), part_of.get(pair.b)
        if a and b and a != b:
            yield Finding(
                level=level,
                kind="leak",
                cases=(pair.a, pair.b),
                text=f"{pair.a} ({a}) and {pair.b} ({b}) are nearly the same image (correlation "
                f"{pair.correlation:.2f}), so scores look better than they are. Give both one "
                "group in groups.csv, or put both into one part.",
            )


def _near(
    pairs: Iterable[Pair], part_of: Mapping[str, str], cases: Iterable[CaseFacts]
) -> Iterator[Finding]:
    """Yield pairs that another split may divide; what is exactly the same was told already."""
    same = {case.case_id: case.pixel_digest for case in cases}
    for pair in pairs:
        if part_of.get(pair.a) == part_of.get(pair.b) and same[pair.a] != same[pair.b]:
            yield Finding(
                level="warning",
                kind="near_duplicate",
                cases=(pair.a, pair.b),
                text=f"{pair.a} and {pair.b} are nearly the same image (correlation "
                f"{pair.correlation:.2f}) but in two groups, so another split may divide them. "
                "Give both one group in groups.csv.",
            )


def _twice(cases: Iterable[CaseFacts]) -> Iterator[Finding]:
    """Yield pictures that are there under several names."""
    by_pixels: dict[bytes, list[CaseFacts]] = defaultdict(list)
    for case in cases:
        by_pixels[case.pixel_digest].append(case)
    for same in by_pixels.values():
        if len(same) == 1:
            continue
        names = ", ".join(case.case_id for case in same)
        files = {case.file_digest for case in same}
        what = "the same file" if len(files) == 1 and b"" not in files else "the same picture"
        masks = {tuple((mask.phrase, mask.digest) for mask in case.masks) for case in same}
        differ = len(masks) > 1
        yield Finding(
            level="warning",
            kind="duplicate",
            cases=tuple(case.case_id for case in same),
            text=f"{names} are {what}{', but have different masks' if differ else ''}. Keep one"
            f"{', the better annotated' if differ else ', or give all of them one group'}.",
        )


def _filled(cases: Sequence[CaseFacts]) -> Iterator[Finding]:
    """Yield masks that are far wider in one place than others: a loop that was filled, a blob."""
    widest: dict[str, list[float]] = defaultdict(list)
    for _, mask in _masks(cases):
        if mask.widest:
            widest[mask.phrase].append(mask.widest)
    usual = {phrase: float(np.median(values)) for phrase, values in widest.items()}
    for case, mask in _masks(cases):
        if _is_filled(mask, usual.get(mask.phrase, 0.0), len(widest[mask.phrase])):
            yield _of(
                case,
                "warning",
                "filled",
                f"the mask of '{mask.phrase}' is {mask.widest:.0f} pixels wide in one place "
                f"(median {mask.width:.0f}), so it may fill what a loop of vessels encloses. Look "
                "at it; a loop needs a ring that leaves its inside out, a mask file or run "
                "lengths.",
            )


def _is_filled(mask: MaskFacts, usual: float, num_masks: int) -> bool:
    if num_masks < _FEW:
        return mask.widest > _ALONE * mask.width > 0
    return mask.widest > _WIDER_THAN_OTHERS * usual


def _sparse(cases: Sequence[CaseFacts]) -> Iterator[Finding]:
    """Yield masks that cover far less than others of their phrase: perhaps only begun."""
    shares: dict[str, list[float]] = defaultdict(list)
    for _, mask in _masks(cases):
        if mask.foreground:
            shares[mask.phrase].append(mask.foreground)
    usual = {phrase: float(np.median(found)) for phrase, found in shares.items()}
    for case, mask in _masks(cases):
        few = len(shares[mask.phrase]) < _FEW
        if few or not 0 < mask.foreground < usual[mask.phrase] / _FAR_LESS:
            continue
        yield _of(
            case,
            "warning",
            "sparse",
            f"the mask of '{mask.phrase}' covers {mask.foreground:.3%} of the image, others "
            f"{usual[mask.phrase]:.1%}. Look whether it is finished.",
        )


def _masks(cases: Iterable[CaseFacts]) -> Iterator[tuple[CaseFacts, MaskFacts]]:
    for case in cases:
        for mask in case.masks:
            yield case, mask


def _of(case: CaseFacts, level: Level, kind: str, text: str) -> Finding:
    return Finding(level=level, kind=kind, cases=(case.case_id,), text=f"{case.case_id}: {text}")
