"""How far masks move with the sentence: the question that a gradient cannot answer.

A base whose decoder has learned to ignore its prompt has gradients everywhere and cannot be
re-pointed by its language side. So the prompt is moved, and the masks are looked at: nudged by a
tenth of its own length, replaced by another of the same length in fixed random directions, and made
from another phrase. Replacing is what tells: a good base may stand still under a nudge, since
whatever sounds like a vessel means the same to it, and a base tuned to one phrase may hear it in
every other.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vasculora.core.types import Batch
from vasculora.model.modes import in_mode
from vasculora.model.sa2va import Sa2VA

NUDGE = 0.1
"""Length of a nudge, as a share of the prompt embedding's own."""
NUM_OTHERS = 2
"""Other embeddings that are tried; one that moves the masks is enough."""


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """What moving the prompt does, averaged over the masks of a batch.

    Every change is the norm of a difference over the norm of what was there: 0 is none, about 1 is
    another mask altogether.

    Attributes:
        nudged: Change of the mask logits, per change of the prompt embedding, under a nudge.
        replaced: Change of the mask logits where the embedding is replaced.
        other_state: Change of the state at `[SEG]` from one phrase to the other.
        other_embedding: Change of the prompt embedding from one phrase to the other.
        other_logits: Change of the mask logits from one phrase to the other.
        probs: Probabilities of each mask from both phrases.
    """

    nudged: float
    replaced: float
    other_state: float
    other_embedding: float
    other_logits: float
    probs: Float[Tensor, "n 2 r r"]


@torch.no_grad()
def measure_sensitivity(model: Sa2VA, batch: Batch, other: Batch) -> Sensitivity:
    """Return how far the masks of a batch move with the prompt, in evaluation mode.

    Nothing of the model is changed: modes are put back, and random numbers come from a generator of
    its own.

    Args:
        model: The model, with or without adapters.
        batch: Images with their phrases.
        other: The same images with other phrases.
    """
    with in_mode(model, training=False):
        plain, moved = _run(model, batch), _run(model, other)
        others = _others(plain.embedding)
        nudged = _run(model, batch, plain.embedding + NUDGE * others[0])
        replaced = [_run(model, batch, embedding) for embedding in others]
    return Sensitivity(
        nudged=_change(plain.logits, nudged.logits) / NUDGE,
        replaced=max(_change(plain.logits, one.logits) for one in replaced),
        other_state=_change(plain.state, moved.state),
        other_embedding=_change(plain.embedding, moved.embedding),
        other_logits=_change(plain.logits, moved.logits),
        probs=torch.stack([plain.mask, moved.mask], dim=1).float().sigmoid().cpu(),
    )


@dataclass(frozen=True)
class _Pass:
    state: Tensor
    embedding: Tensor
    logits: Tensor
    mask: Tensor


def _run(model: Sa2VA, batch: Batch, embedding: Float[Tensor, "n c"] | None = None) -> _Pass:
    """Return what one forward pass made, from its own prompt embedding or the one given."""
    seen: dict[str, Tensor] = {}

    def on_projector(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        seen["state"], seen["embedding"] = inputs[0], output
        return output if embedding is None else embedding

    hook = model.seg_projector.register_forward_hook(on_projector)
    try:
        output = model(batch)
    finally:
        hook.remove()
    return _Pass(seen["state"], seen["embedding"], output.candidate_logits, output.mask_logits)


def _others(embedding: Float[Tensor, "n c"]) -> list[Float[Tensor, "n c"]]:
    """Return prompt embeddings of the same length that point elsewhere, always the same ones.

    They have one unit a channel at least: SAM 2's decoder normalises its tokens to that, and a
    projector that says nothing should not pass for a decoder that does not listen.
    """
    generator = torch.Generator().manual_seed(0)
    length = embedding.norm(dim=1, keepdim=True).clamp(min=embedding.shape[1] ** 0.5)
    drawn = [torch.randn(embedding.shape, generator=generator) for _ in range(NUM_OTHERS)]
    return [(one / one.norm(dim=1, keepdim=True)).to(embedding) * length for one in drawn]


def _change(before: Float[Tensor, "n ..."], after: Float[Tensor, "n ..."]) -> float:
    """Return the mean relative change; 0 where nothing changes, even from nothing."""
    old, new = before.float().flatten(1), after.float().flatten(1)
    moved = (new - old).norm(dim=1)
    return float((moved / old.norm(dim=1).clamp(min=torch.finfo(torch.float32).tiny)).mean())
