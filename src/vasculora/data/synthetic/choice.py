"""Which phrases of a drawn image are asked.

A step teaches words by contrast: the same image, other words, another mask. So a phrase whose mask
is nearly that of a phrase kept already is passed over as a rule; now and then it is kept, since
"blood vessel" and "dark vessel" may truly mean one thing. "blood vessel" itself, the one phrase
every user asks, is in most choices, at times in other words.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool

from vasculora.core.types import Sample
from vasculora.data.synthetic.phrases import BLOOD_VESSEL

VESSEL_RATE = 0.7
"""Share of vessel images that are asked for "blood vessel" whatever else is drawn."""
SYNONYM_RATE = 0.3
"""Share of the askings of "blood vessel" that use another word for it."""
DUPLICATE_RATE = 0.1
"""Chance that a phrase is kept though its mask is that of one kept already."""
ALIKE = 0.7
"""Intersection over union from which two masks count as the same."""
SPARE_RATE = 0.65
"""Chance that the background, or a phrase for nothing in the image, waits until all others had
their turn: both mostly differ from everything and would be in every choice."""


def choose(sample: Sample, rng: np.random.Generator, *, most: int) -> Sample:
    """Return the sample with at most `most` of its phrases, whose masks mostly differ.

    Args:
        sample: A drawn image with all its phrases.
        rng: Source of everything random.
        most: Most phrases kept.
    """
    order, spare = _order(sample, rng)
    small = sample.masks[:, ::2, ::2]
    kept: list[int] = []
    for index in order:
        if len(kept) == most or (len(kept) > 1 and spare[index]):
            break
        repeats = any(_alike(small[index], small[other]) for other in kept)
        if not repeats or rng.random() < DUPLICATE_RATE:
            kept.append(index)
    return replace(
        sample,
        masks=sample.masks[kept],
        phrases=tuple(sample.phrases[index] for index in kept),
    )


def reword(sample: Sample, rng: np.random.Generator, synonyms: Sequence[str]) -> Sample:
    """Return the sample with "blood vessel", if it is asked, at times called otherwise."""
    if not synonyms or rng.random() >= SYNONYM_RATE:
        return sample
    other = synonyms[int(rng.integers(len(synonyms)))]
    renamed = (other if phrase == BLOOD_VESSEL else phrase for phrase in sample.phrases)
    return replace(sample, phrases=tuple(renamed))


def _order(sample: Sample, rng: np.random.Generator) -> tuple[list[int], list[bool]]:
    """Return the phrases' indices: "blood vessel" mostly first, what may wait last."""
    spare = [
        (phrase == "background" or not mask.any()) and bool(rng.random() < SPARE_RATE)
        for phrase, mask in zip(sample.phrases, sample.masks, strict=True)
    ]
    order = [int(index) for index in rng.permutation(len(spare))]
    order.sort(key=lambda index: spare[index])
    if BLOOD_VESSEL in sample.phrases and rng.random() < VESSEL_RATE:
        first = sample.phrases.index(BLOOD_VESSEL)
        order.remove(first)
        order.insert(0, first)
    return order, spare


def _alike(one: Bool[np.ndarray, "h w"], other: Bool[np.ndarray, "h w"]) -> bool:
    """Return whether two masks are nearly the same; two empty ones are."""
    union = int(np.count_nonzero(one | other))
    return union == 0 or int(np.count_nonzero(one & other)) >= ALIKE * union
