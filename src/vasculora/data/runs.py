"""Masks as COCO's run lengths: read, check, draw.

Runs go down the columns, background first. The compressed form writes each run as text, five bits a
character with the lowest first: bit 32 says that more follow, bit 16 of the last one is the sign,
and from the fourth run on it is the difference to the run before last. The code is our own, made
after that description; a damaged text is refused instead of being drawn as something else.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from vasculora.core.types import RunLengths

_FIRST_CHARACTER = ord("0")
_MAX_BITS = 60
_CURE = "Export the annotation again."


def decode_counts(text: str) -> tuple[int, ...]:
    """Return the runs that COCO's compressed text holds.

    Raises:
        ValueError: If it holds a character of another alphabet, or ends within a number.
    """
    counts: list[int] = []
    value = bits = 0
    for character in text:
        code = ord(character) - _FIRST_CHARACTER
        if not 0 <= code < 64 or bits > _MAX_BITS:
            raise ValueError(f"its run lengths are no compressed text of COCO. {_CURE}")
        value |= (code & 31) << bits
        bits += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << bits
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = bits = 0
    if bits:
        raise ValueError(f"its run lengths end within a number, so they were cut off. {_CURE}")
    return tuple(counts)


def draw_runs(
    runs: Sequence[RunLengths], *, height: int, width: int
) -> Bool[np.ndarray, "{height} {width}"]:
    """Return the union of run lengths: True inside an object.

    Args:
        runs: Run lengths, each made for an image of this very size.
        height: Of the mask, in pixels.
        width: Of the mask, in pixels.

    Raises:
        ValueError: If one is for another size or damaged; the sentence begins in lower case, for
            the case's name to stand before it.
    """
    mask = np.zeros((height, width), dtype=bool)
    for one in runs:
        if one.size != (height, width):
            raise ValueError(
                f"run lengths are for {one.size[1]}x{one.size[0]} but image is {width}x{height}. "
                'Give "size" as [height, width] of this very image.'
            )
        counts = decode_counts(one.counts) if isinstance(one.counts, str) else one.counts
        if any(count < 0 for count in counts) or sum(counts) != height * width:
            raise ValueError(
                f"run lengths add up to {sum(counts)} with the shortest of {min(counts, default=0)}"
                f", but image has {height * width} pixels and no run is negative. {_CURE}"
            )
        inside = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
        mask |= inside.reshape(width, height).T
    return mask
