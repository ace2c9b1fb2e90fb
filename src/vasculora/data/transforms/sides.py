"""Which flips a phrase allows, and what it is called after one.

Two kinds of sides are told apart by closed tables. "The vessel on the left" is a place in the
picture: flipped, it is the vessel on the right. "The left coronary artery" is a part of a body:
flipped, the picture shows none, for no body has such an artery on that side. So a place swaps its
word, and everything else that names a side, or is a named artery of one heart, forbids all flips.
Where a phrase could be read both ways it forbids: that costs variety, a wrong word costs truth.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Flips:
    """Ways to mirror a picture: which are done, or which may be.

    Attributes:
        left_right: Left becomes right.
        up_down: Top becomes bottom.
        diagonal: Rows become columns, after the other two.
    """

    left_right: bool
    up_down: bool
    diagonal: bool


def allowed_flips(phrases: Sequence[str]) -> Flips:
    """Return the flips after which every phrase is still true, or can be made so by its sides."""
    fixed = any(_is_anatomy(phrase) for phrase in phrases)
    # rows for columns would turn left into top, and grammar does not follow
    sided = any(_placed(phrase) for phrase in phrases)
    return Flips(left_right=not fixed, up_down=not fixed, diagonal=not (fixed or sided))


def rename_sides(phrase: str, flips: Flips) -> str:
    """Return a phrase as it is true after the flips, which must be allowed ones."""
    swapped = (_ACROSS if flips.left_right else {}) | (_ALONG if flips.up_down else {})
    for start, end, word in reversed(_placed(phrase)):
        other = swapped.get(word.lower())
        if other is not None:
            phrase = phrase[:start] + _in_the_case_of(word, other) + phrase[end:]
    return phrase


def _is_anatomy(phrase: str) -> bool:
    if _NAMED.search(phrase):
        return True
    sides = _SIDE.findall(phrase)
    places = [word for _, _, word in _placed(phrase)]
    unplaced = len(sides) > len([word for word in places if _SIDE.fullmatch(word)])
    return unplaced or (bool(sides) and _OF_A_BODY.search(phrase) is not None)


def _placed(phrase: str) -> list[tuple[int, int, str]]:
    """Return where words stand that mean a place in the picture: start, end, word."""
    return [(found.start(), found.end(), found[0]) for found in _PLACE.finditer(phrase)]


def _in_the_case_of(word: str, other: str) -> str:
    if word.isupper():
        return other.upper()
    return other.capitalize() if word[0].isupper() else other


def _both_ways(pairs: dict[str, str]) -> dict[str, str]:
    return pairs | {other: word for word, other in pairs.items()}


_ACROSS = _both_ways({"left": "right", "leftmost": "rightmost", "左": "右"})
_ALONG = _both_ways(
    {
        "upper": "lower",
        "uppermost": "lowermost",
        "top": "bottom",
        "topmost": "bottommost",
        "superior": "inferior",
        "above": "below",
        "上": "下",
    }
)

_WORDS = "|".join(word for word in _ACROSS | _ALONG if word.isascii())
_AFTER = (
    "side|half|part|third|quarter|quadrant|edge|border|margin|corner|end|hand|region|area|image|"
    "picture|frame|one|vessels?|blood|shape|of|in|and|or|to|than"
)
"""Words after a side by which it is a place: "left side", "left of", "left blood vessel"."""

_PLACE = re.compile(
    r"\b(?:above|below)\b"
    rf"|\b(?:{_WORDS})(?=[\s-]+(?:{_AFTER}|{_WORDS})\b|\s*(?:$|[^\w\s-]))"
    r"|[左右](?=[侧边方半部面端角缘上下左右两和与的]|\W|$)"
    r"|[上下](?=[侧边方半部面端角缘])|(?<=[左右])[上下]",
    re.IGNORECASE,
)
"""A side that is a place in the picture."""
_SIDE = re.compile(rf"\b(?:{_WORDS})\b|\b(?:left|right|up|down)wards?\b|[左右]", re.IGNORECASE)
"""Any side at all; a single 上 or 下 is too common a part of other words."""

_OF_A_BODY = re.compile(
    r"\b(?:coronary|coronaries|heart|cardiac|eyes?|lungs?|brain|kidneys?|liver|lobes?|ventricles?|"
    r"atrium|atria|hemispheres?|body|patients?|arms?|legs?|neck)\b|[冠心眼肺脑肾肝叶室房肢颈身]|患者",
    re.IGNORECASE,
)
"""What has a left and a right of its own, however it is photographed."""

_NAMED = re.compile(
    r"\b(?:segment \d|LAD|LCX|RCA|LCA|circumflex|descending|marginal|diagonal|posterolateral|"
    r"septal|ramus|intermedia|main stem|(?:LM|LMCA|PDA|OM\d?|D\d)\b)"
    r"|[前后]降支|旋支|对角支|缘支|间隔支|中间支|主干|后侧支|[上下]腔|[颞鼻][上下]",
    re.IGNORECASE,
)
"""Vessels of one side of the body, whose names need not say so."""
