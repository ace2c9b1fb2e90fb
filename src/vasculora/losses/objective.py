"""The objective: an output and its batch become weighted, counted loss terms.

Masks of one size are compared in one go; sizes may differ within a batch. Sums and counts are kept
apart, so a step over several microbatches weighs every mask and every answer token alike.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from vasculora.core.geometry import Box, cut_box, in_cells, upsample_logits
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


_Place = Callable[[Float[Tensor, "_ r r"]], Float[Tensor, "_ h w"]]
"""Puts logits of the decoder's grid where a target can be compared with them."""


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
        for rows, target, place in _by_size(batch, via=self.sam_size):
            for name, losses in self._mask_losses(output, rows, target, place).items():
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
        self, output: Output, rows: Tensor, target: Float[Tensor, "n h w"], place: _Place
    ) -> dict[str, Float[Tensor, " n"]]:
        """Return each weighted mask loss of the masks in `rows`."""
        candidates = output.candidate_logits[rows]
        logits = output.mask_logits[rows][:, None] if self.config.masks == "chosen" else candidates
        num_masks, num_compared = logits.shape[:2]
        truth = target.repeat_interleave(num_compared, 0)
        full = place(logits.flatten(0, 1))
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
            grown = place(candidates.flatten(0, 1)).unflatten(0, candidates.shape[:2])
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
    for rows, target, place in _by_size(batch, via=via):
        dice += float(_hard_dice(place(mask_logits[rows].detach()), target).sum())
    return dice


def _by_size(batch: Batch, *, via: int) -> Iterator[tuple[Tensor, Float[Tensor, "n h w"], _Place]]:
    """Yield rows, stacked targets and what brings logits to them, size by size.

    An image as small as the decoder's grid is still met the way a prediction of it is made.
    """
    rows: dict[tuple[tuple[int, int], bool, Box | None], list[int]] = {}
    images = batch.image_index.tolist()
    for row, (image, target) in enumerate(zip(images, batch.targets, strict=True)):
        size = (target.shape[0], target.shape[1])
        box = batch.boxes[image] if batch.boxes else None
        rows.setdefault((size, size == batch.sizes[image], box), []).append(row)
    for (size, own_size, box), own in rows.items():
        stacked = torch.stack([batch.targets[row] for row in own])
        place = partial(_placed, size=size, own_size=own_size, via=via, box=box)
        yield torch.tensor(own, device=stacked.device), stacked, place


def _placed(
    logits: Float[Tensor, "n r r"],
    *,
    size: tuple[int, int],
    own_size: bool,
    via: int,
    box: Box | None,
) -> Float[Tensor, "n h w"]:
    """Return logits on the target's grid: as a prediction's, or as they are for a coarse truth."""
    if not own_size:
        seen = logits if box is None else cut_box(logits, in_cells(box, via // logits.shape[-1]))
        if size == tuple(seen.shape[1:]):
            return seen.float()
    return upsample_logits(logits, via=via, size=size, box=box)


def _hard_dice(
    logits: Float[Tensor, "n h w"], target: Float[Tensor, "n h w"]
) -> Float[Tensor, " n"]:
    """Return the Dice of each thresholded mask; 1 where both are empty."""
    pred, truth = logits > 0, target > 0.5
    overlap = (pred & truth).sum(dim=(1, 2)).float()
    total = (pred.sum(dim=(1, 2)) + truth.sum(dim=(1, 2))).float()
    return torch.where(total > 0, 2 * overlap / total.clamp(min=1), torch.ones_like(total))
