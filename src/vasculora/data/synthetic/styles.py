"""Styles of drawn vessel images by name, and the cases drawn in them.

The same image carries several phrases with different masks, because a model that is only ever asked
for one thing learns to ignore the sentence. `xray` is not among the styles the bundled base is
trained on: it is what the demo fine-tunes on. `fundus` and `octa` are what users have drawn and
stay as they are; the base is trained on `fundus_wide` and `octa_wide`, which vary far more.
"""

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

from vasculora.core.types import Sample
from vasculora.data.synthetic.angiogram import draw_xray
from vasculora.data.synthetic.cine import draw_cine
from vasculora.data.synthetic.phrases import VESSEL_PHRASES, Drawing
from vasculora.data.synthetic.retina import draw_fundus, draw_octa
from vasculora.data.synthetic.retina_wide import draw_fundus_wide, draw_octa_wide
from vasculora.data.synthetic.shapes import SHAPE_PHRASES
from vasculora.data.synthetic.tubes import draw_mixed, draw_sides, draw_tubes


def draw_case(style: str, *, size: int, rng: np.random.Generator, case_id: str) -> Sample:
    """Return one drawn vessel image with its phrases, "blood vessel" first.

    Args:
        style: Name of a row of `STYLES`.
        size: Side of the image in pixels.
        rng: Source of everything random; the same state draws the same bytes.
        case_id: Name of the case, also its group.

    Raises:
        ValueError: If the style is not known.
    """
    if style not in STYLES:
        raise ValueError(f"unknown style {style!r}. Known: {', '.join(sorted(STYLES))}.")
    image, named = STYLES[style](rng, size)
    return Sample(
        case_id=case_id,
        group=case_id,
        image=image,
        masks=np.stack(list(named.values())),
        phrases=tuple(named),
    )


def all_phrases() -> tuple[str, ...]:
    """Return every phrase a drawn case can carry, shapes included."""
    return VESSEL_PHRASES + SHAPE_PHRASES


PRETRAINING_SHARES: Mapping[str, float] = {
    "cine": 0.34,
    "fundus_wide": 0.17,
    "octa_wide": 0.17,
    "tubes": 0.14,
    "mixed": 0.1,
    "sides": 0.08,
}
"""Shares of the vessel images the bundled base is trained on; `sides` are also asked alone."""
PRETRAINING_STYLES = tuple(PRETRAINING_SHARES)
SynthStyle = Literal["xray", "fundus", "octa"]
"""What a user may have drawn; `xray` is kept from pretraining."""

STYLES: Mapping[str, Callable[[np.random.Generator, int], Drawing]] = {
    "cine": draw_cine,
    "fundus": draw_fundus,
    "fundus_wide": draw_fundus_wide,
    "mixed": draw_mixed,
    "octa": draw_octa,
    "octa_wide": draw_octa_wide,
    "sides": draw_sides,
    "tubes": draw_tubes,
    "xray": draw_xray,
}
