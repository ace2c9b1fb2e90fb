"""Is the sentence used? A live gradient is not enough where the masks do not listen to it."""

from collections.abc import Sequence
from math import isfinite

import numpy as np

from vasculora.core.types import Batch
from vasculora.engine.audit.kinds import KINDS
from vasculora.engine.audit.report import Cut
from vasculora.metrics.mask import prompt_sensitivity
from vasculora.model.sa2va import Sa2VA
from vasculora.model.sensitivity import Sensitivity, measure_sensitivity

DEAF_BELOW = 0.01
"""Relative change of the mask logits, where the prompt embedding is replaced, below which a base
does not listen. Measured on drawings: nano 0.2 to 0.4, its forerunner 1.4 to 1.7, three
fine-tunings of that 0.6 to 1.5, random weights 0.15 to 0.84 (eight seeds), random weights tuned for
three epochs to one phrase 0.04; four bases trained until their decoder ignored the prompt 0.0002 to
0.005 on what they were trained for; exactly 0 where the decoder is cut off from its prompt."""
SAME_BELOW = 1e-3
"""Relative change of the prompt embedding from phrase to phrase, below which they are one to the
model: 0.06 to 1.4 in the same models, 0.01 to 0.1 where the decoder is deaf, and exactly 0 where
the projector is."""
NEEDS_THE_SENTENCE = frozenset({"mllm_lora", "projector", "connector", "seg_token"})
"""Groups that work through the prompt embedding alone."""


def audit_sentence(
    model: Sa2VA, batch: Batch, other: Batch, *, trainable: Sequence[str]
) -> tuple[dict[str, float], tuple[Cut, ...]]:
    """Return how far the masks move with the sentence, and the cut where they do not.

    Args:
        model: The model, with or without adapters.
        batch: A few images with the phrases they are trained with.
        other: The same images with other phrases.
        trainable: Names of the groups that should learn.

    Returns:
        Numbers by name, `used` (1 or 0) first; and a cut where it is 0 and something that
        should learn works through the sentence alone.
    """
    found = measure_sensitivity(model, batch, other)
    place = deaf_module(found)
    numbers = {
        "used": float(place is None),
        "logit_change_of_another_embedding": found.replaced,
        "logit_change_per_embedding_change": found.nudged,
        "embedding_change_of_another_phrase": found.other_embedding,
        "prompt_sensitivity": float(np.mean([prompt_sensitivity(p) for p in found.probs.numpy()])),
    }
    numbers = {name: value for name, value in numbers.items() if isfinite(value)}
    groups = tuple(name for name in trainable if name in NEEDS_THE_SENTENCE)
    if place is None or not groups:
        return numbers, ()
    cut = Cut(
        kind="ignored_prompt",
        module=place,
        explanation=f"{KINDS['ignored_prompt'].what}: {_evidence(place, found)}",
        cure=f"{KINDS['ignored_prompt'].cure} --trainable grounding_lora,mask_decoder does that.",
        groups=groups,
    )
    return numbers, (cut,)


def deaf_module(found: Sensitivity) -> str | None:
    """Return the part of the model at which the sentence is lost; None where it is heard."""
    if found.other_embedding < SAME_BELOW:
        return "mllm" if found.other_state < SAME_BELOW else "seg_projector"
    return "grounding.mask_decoder" if found.replaced < DEAF_BELOW else None


def _evidence(place: str, found: Sensitivity) -> str:
    if place == "grounding.mask_decoder":
        return f"another prompt embedding changes its logits by {found.replaced:.2%} only"
    return f"another phrase changes the prompt embedding by {found.other_embedding:.2%} only"
