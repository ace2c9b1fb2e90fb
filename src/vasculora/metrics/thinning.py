"""Centrelines that turn with the mask: all eight orientations thinned at once.

Thinning takes pixels off one side first, so the skeleton of a flipped mask is not the flipped
skeleton, and a score moves in its third digit when the image is turned. Here a mask is thinned in
each of its eight orientations (four turns, each mirrored) and every skeleton counts. One bit of a
byte stands for one orientation: the image stays where it is, the directions turn instead, and one
bitwise operation works on all eight. Only pixels of the mask are looked at, so that this takes
less time than one skeleton of the whole image does otherwise.

The rule is that of Guo and Hall 1989 (algorithm A1), which keeps every piece in one piece; each
orientation equals scikit-image's `thin`, pixel by pixel, to which the tests hold it.
"""

import numpy as np
from jaxtyping import Bool, Int, UInt8

Line = UInt8[np.ndarray, "h w"]
"""On how many of eight skeletons, one an orientation, each pixel lies."""

_Bits = UInt8[np.ndarray, " q"]
_Step = tuple[int, int]

_RING = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))
_SIDES = _RING[::2]
_ORIENTATIONS = tuple((a, b) for a in _SIDES for b in _SIDES if a[0] * b[0] + a[1] * b[1] == 0)
"""What each orientation takes for right and for up."""


def centreline(mask: Bool[np.ndarray, "h w"]) -> Line:
    """Return on how many of the skeletons of a mask's eight orientations each pixel lies."""
    line: Line = np.bitwise_count(skeletons(mask))
    return line


def skeletons(mask: Bool[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """Return the skeletons of a mask's eight orientations, one a bit."""
    wide = np.where(np.pad(mask, 1), np.uint8(255), np.uint8(0)).copy(order="C")
    bits, width = wide.ravel(), wide.shape[1]
    ring = np.array([down * width + right for down, right in _RING])
    held = np.flatnonzero(bits)
    where = held[(bits[held[:, None] + ring] == 0).any(axis=1)]
    enclosed = bits > 0  # nothing has gone beside them yet, so they cannot go
    enclosed[where] = False
    changed = True
    while changed:
        changed = False
        for sign in (1, -1):
            gone = _removable(bits, where, width, sign)
            bits[where] &= ~gone
            beside = (where[gone > 0][:, None] + ring).ravel()
            reached = np.unique(beside[enclosed[beside]])
            enclosed[reached] = False
            where = np.concatenate([where[bits[where] > 0], reached])
            changed = changed or bool(gone.any())
    return wide[1:-1, 1:-1]


def _removable(
    bits: UInt8[np.ndarray, " p"], where: Int[np.ndarray, " q"], width: int, sign: int
) -> UInt8[np.ndarray, " q"]:
    """Return in which orientations each pixel goes in this half of a round.

    Args:
        bits: Whether each pixel is still there, one orientation a bit.
        where: Pixels that may go, by their place in `bits`.
        width: Of a row of `bits`.
        sign: 1 in the first half, -1 in the second, which works from the opposite corner.
    """
    near = {step: bits[where + step[0] * width + step[1]] for step in _RING}
    ring = [near[step] for step in _RING]
    to_right = [ring[i] | ring[i + 1] for i in (0, 2, 4, 6)]
    to_left = [ring[i - 1] | ring[i] for i in (0, 2, 4, 6)]
    starts = [~ring[i] & (ring[i + 1] | ring[(i + 2) % 8]) for i in (0, 2, 4, 6)]
    one_piece = (starts[0] ^ starts[1] ^ starts[2] ^ starts[3]) & ~_two(starts)
    few = ~(_all(to_right) & _all(to_left))
    kept = np.zeros_like(one_piece)
    for number, (ahead, aside) in enumerate(_ORIENTATIONS):
        kept |= _keeps(near, _times(ahead, sign), _times(aside, sign)) & np.uint8(1 << number)
    gone: _Bits = bits[where] & one_piece & _two(to_right) & _two(to_left) & few & ~kept
    return gone


def _keeps(near: dict[_Step, _Bits], ahead: _Step, aside: _Step) -> _Bits:
    """Return where one orientation keeps a pixel in this half: it lies on the far side."""
    before = near[ahead[0] + aside[0], ahead[1] + aside[1]]
    behind = near[ahead[0] - aside[0], ahead[1] - aside[1]]
    kept: _Bits = near[ahead] & (near[aside] | before | ~behind)
    return kept


def _two(of: list[_Bits]) -> _Bits:
    """Return where two or more of four are set."""
    found: _Bits = (of[0] & of[1]) | (of[2] & of[3]) | ((of[0] | of[1]) & (of[2] | of[3]))
    return found


def _all(of: list[_Bits]) -> _Bits:
    found: _Bits = of[0] & of[1] & of[2] & of[3]
    return found


def _times(step: _Step, sign: int) -> _Step:
    return step[0] * sign, step[1] * sign
