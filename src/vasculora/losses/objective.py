"""The objective: an output and its batch become weighted, counted loss terms.

Masks of one size are compared in one go; sizes may differ within a batch. Sums and counts are kept
apart, so a step over several microbatches weighs every mask and every answer token alike.
"""

from collections.abc import Callable, Iterator
from typing import Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from vasculora.core.geometry import upsample_logits
from vasculora.core.types import Batch, LossTerms, Output
from vasculora.losses.mask import bce_loss, dice_loss, focal_loss, iou_regression_loss


@runtime_checkable
class TrainingLoss(Protocol):
    """What a trainer minimises."""

    def counts(self, batch: Batch) -> dict[str, int]:
        """Return how many masks or answer tokens each part of a batch runs over."""

    def __call__(self, output: Output, batch: Batch) -> LossTerms:
        """Return the loss terms of a batch."""


class ObjectiveConfig(BaseModel):
    """Weights of the loss parts: ComboLoss on masks and cross-entropy on the answer's text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dice: float = Field(default=1.0, ge=0)
    """Weight of the soft Dice loss."""
    focal: float = Field(default=1.0, ge=0)
    """Weight of the focal loss."""
    bce: float = Field(default=0.5, ge=0)
    """Weight of the binary cross-entropy."""
    text: float = Field(default=1.0, ge=0)
    """Weight of the cross-entropy on the answer's tokens."""
    iou: float = Field(default=0.0, ge=0)
    """Weight of the regression of SAM 2's predicted IoU; only a base made from scratch needs it."""
    focal_alpha: float = Field(default=0.25, ge=0, le=1)
    """Weight of vessel pixels in the focal loss, against `1 - alpha` of the others."""
    focal_gamma: float = Field(default=2.0, ge=0)
    """How strongly the focal loss plays down pixels that are already right."""
    masks: Literal["chosen", "all"] = "chosen"
    """Compare the chosen mask of each `[SEG]`, or all of SAM 2's candidates (for a base made from
    scratch)."""


class Objective:
    """Turns outputs into loss terms.

    Args:
        config: Weights and shapes of the parts.
        sam_size: Side of SAM 2's square input, through which logits are upsampled.
    """

    def __init__(self, config: ObjectiveConfig, *, sam_size: int) -> None:
        self.config = config
        self.sam_size = sam_size
        weights = {"dice": config.dice, "focal": config.focal, "bce": config.bce}
        weights |= {"iou": config.iou, "text": config.text}
        self.weights = {name: weight for name, weight in weights.items() if weight > 0}
        if not self.weights:
            raise ValueError(
                "every loss weight is 0, so nothing can be learnt. Raise objective.dice."
            )

    def counts(self, batch: Batch) -> dict[str, int]:
        """Return how many masks or answer tokens each part of a batch runs over."""
        return {n: batch.num_supervised if n == "text" else batch.num_masks for n in self.weights}

    def __call__(self, output: Output, batch: Batch) -> LossTerms:
        """Return the loss terms of a batch, with the hard Dice of its chosen masks as a score."""
        sums = {
            name: output.mask_logits.new_zeros((), dtype=torch.float32) for name in self.weights
        }
        for rows, target, own_size in _by_size(batch):
            for name, losses in self._mask_losses(output, rows, target, own_size).items():
                sums[name] = sums[name] + losses.sum()
        if "text" in sums:
            scores = output.text_logits.float()
            sums["text"] = F.cross_entropy(scores, output.text_labels, reduction="sum")
        return LossTerms(
            sums=sums,
            counts=self.counts(batch),
            weights=self.weights,
            dice=summed_dice(output.mask_logits, batch, via=self.sam_size),
            num_masks=batch.num_masks,
        )

    def _mask_losses(
        self, output: Output, rows: Tensor, target: Float[Tensor, "n h w"], own_size: bool
    ) -> dict[str, Float[Tensor, " n"]]:
        """Return each weighted mask loss of the masks in `rows`."""
        candidates = output.candidate_logits[rows]
        logits = output.mask_logits[rows][:, None] if self.config.masks == "chosen" else candidates
        num_masks, num_compared = logits.shape[:2]
        truth = target.repeat_interleave(num_compared, 0)
        full = _on_grid(logits.flatten(0, 1), truth, own_size, via=self.sam_size)
        c = self.config
        parts: dict[str, Callable[[], Tensor]] = {
            "dice": lambda: dice_loss(full, truth),
            "focal": lambda: focal_loss(full, truth, alpha=c.focal_alpha, gamma=c.focal_gamma),
            "bce": lambda: bce_loss(full, truth),
        }
        losses = {
            n: part().view(num_masks, -1).mean(1) for n, part in parts.items() if n in self.weights
        }
        if "iou" in self.weights:
            grown = _on_grid(candidates.flatten(0, 1), target, own_size, via=self.sam_size)
            grown = grown.unflatten(0, candidates.shape[:2])
            losses["iou"] = iou_regression_loss(output.iou_scores[rows].float(), grown, target)
        return losses


def summed_dice(mask_logits: Float[Tensor, "n r r"], batch: Batch, *, via: int) -> float:
    """Return the hard Dice of a batch's masks, summed over them: a score to watch, not to learn.

    Args:
        mask_logits: Chosen mask of each `[SEG]`.
        batch: Holds their targets.
        via: Side of SAM 2's square input, through which logits are upsampled.
    """
    dice = 0.0
    for rows, target, own_size in _by_size(batch):
        chosen = _on_grid(mask_logits[rows].detach(), target, own_size, via=via)
        dice += float(_hard_dice(chosen, target).sum())
    return dice


def _on_grid(logits: Tensor, target: Tensor, own_size: bool, *, via: int) -> Float[Tensor, "_ h w"]:
    """Return logits on the target's grid: as a prediction's, or as they are for area shares."""
    size = (target.shape[1], target.shape[2])
    if size == tuple(logits.shape[1:]) and not own_size:
        return logits.float()
    return upsample_logits(logits, via=via, size=size)


def _by_size(batch: Batch) -> Iterator[tuple[Tensor, Float[Tensor, "n h w"], bool]]:
    """Yield rows, stacked targets, and whether they have their images' own size, size by size.

    An image as small as the decoder's grid is still met the way a prediction of it is made.
    """
    rows: dict[tuple[tuple[int, ...], bool], list[int]] = {}
    images = batch.image_index.tolist()
    for row, (image, target) in enumerate(zip(images, batch.targets, strict=True)):
        key = (tuple(target.shape), tuple(target.shape) == batch.sizes[image])
        rows.setdefault(key, []).append(row)
    for (_, own_size), own in rows.items():
        stacked = torch.stack([batch.targets[row] for row in own])
        yield torch.tensor(own, device=stacked.device), stacked, own_size


def _hard_dice(
    logits: Float[Tensor, "n h w"], target: Float[Tensor, "n h w"]
) -> Float[Tensor, " n"]:
    """Return the Dice of each thresholded mask; 1 where both are empty."""
    pred, truth = logits > 0, target > 0.5
    overlap = (pred & truth).sum(dim=(1, 2)).float()
    total = (pred.sum(dim=(1, 2)) + truth.sum(dim=(1, 2))).float()
    return torch.where(total > 0, 2 * overlap / total.clamp(min=1), torch.ones_like(total))
