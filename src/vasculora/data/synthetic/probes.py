"""Drawn cases that test one attribute each: do the masks follow the word?

A probe's phrases name things that are there and differ in that attribute alone as far as the style
allows, so a base that ignores the word scores low: at best the overlap with all of them together.
"""

from collections.abc import Callable, Mapping

import numpy as np

from vasculora.core.types import Sample
from vasculora.data.synthetic.phrases import Drawing
from vasculora.data.synthetic.shapes import COLOURS, FORMS, draw_named_shapes
from vasculora.data.synthetic.tubes import draw_mixed, draw_sides, draw_tubes


def draw_probe(name: str, rng: np.random.Generator, size: int) -> Sample:
    """Return a drawn case with only the contrasting phrases of one attribute.

    It is drawn anew until at least two of them are there, so no mask is empty.

    Args:
        name: A row of `PROBES`.
        rng: Source of everything random; the same state draws the same bytes.
        size: Side of the image in pixels.

    Raises:
        ValueError: If there is no such probe.
    """
    if name not in PROBES:
        raise ValueError(f"unknown probe {name!r}. Known: {', '.join(PROBES)}.")
    phrases, ways = PROBES[name]
    while True:
        image, by_phrase = ways[int(rng.integers(len(ways)))](rng, size)
        kept = {p: m for p, m in by_phrase.items() if p in phrases and m.mean() > _LEAST}
        if len(kept) > 1:
            return Sample(
                case_id=name,
                group=name,
                image=image,
                masks=np.stack(list(kept.values())),
                phrases=tuple(kept),
            )


_LEAST = 0.002
"""Share of the image below which a thing is too little to be scored."""

PLACES = "left / right"
"""The probe of places."""
PROBES: Mapping[
    str, tuple[frozenset[str], tuple[Callable[[np.random.Generator, int], Drawing], ...]]
] = {
    "shapes": (
        frozenset(f"{colour} {form}" for colour in COLOURS for form in FORMS),
        (draw_named_shapes,),
    ),
    PLACES: (
        frozenset({"left vessel", "right vessel", "left shape", "right shape"}),
        (draw_sides, draw_named_shapes),
    ),
    "thick / thin": (frozenset({"thick vessel", "thin vessel"}), (draw_tubes, draw_sides)),
    "dark / bright": (frozenset({"dark vessel", "bright vessel"}), (draw_mixed, draw_tubes)),
}
"""The phrases of each probe and the pictures they are asked of."""
