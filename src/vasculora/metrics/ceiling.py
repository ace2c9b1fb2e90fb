"""The resolution ceiling: the best score a perfect model could reach on one mask.

A model says its masks on a coarse grid, which is upsampled to the image. Whatever is finer than
that is lost, and what a loss compares with may lose more. Here a model is imagined that fits its
target exactly, and its logits go the very way of a prediction's: to SAM 2's square, to the image's
own size, threshold 0.5. What is then missing to 1 no training can win back.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from vasculora.core.geometry import TargetRule, area_shares, nearest_pixels, upsample_logits
from vasculora.metrics.mask import count, dice
from vasculora.metrics.topology import cldice

NUM_STEPS = 40
"""Steps of the search for the best logits."""

_SURE = 0.99  # a share of 0 or 1 becomes a logit of this probability, as trained models say it
_STEP_SIZE = 1.0
_LOOK_EVERY = 5
_PERFECT = 0.9995  # nothing is gained beyond it


@dataclass(frozen=True, kw_only=True)
class Ceiling:
    """What a perfect model would score on one mask.

    Attributes:
        dice: Overlap, in [0, 1].
        cldice: Overlap of the centrelines, in [0, 1].
    """

    dice: float
    cldice: float


def ceiling(
    mask: Bool[np.ndarray, "h w"],
    rule: TargetRule,
    *,
    grid: int,
    sam_size: int,
    num_steps: int = NUM_STEPS,
    skeleton: Bool[np.ndarray, "h w"] | None = None,
) -> Ceiling:
    """Return the best Dice and clDice under one target rule, at the image's own size.

    For `nearest` and `area` these are the scores of an exact fit to the target. For `full` the best
    logits are searched for by gradient descent, from those of `area` on, so the number is a lower
    bound of the best.

    Args:
        mask: The truth.
        rule: What the loss compares with.
        grid: Side of the mask decoder's grid, in cells.
        sam_size: Side of SAM 2's square input, in pixels.
        num_steps: Steps of the search, for `full`.
        skeleton: Centreline of the mask, where it is known already.
    """
    truth = torch.from_numpy(mask)
    if rule == "nearest":
        logits = 2 * nearest_pixels(truth.float(), grid) - 1
    else:
        shares = area_shares(truth.float(), grid).clamp(1 - _SURE, _SURE)
        logits = torch.logit(shares)
    if rule == "full":
        logits = _best_logits(logits, truth, sam_size=sam_size, num_steps=num_steps)
    pred = _predicted(logits, sam_size=sam_size, size=mask.shape).numpy()
    return Ceiling(dice=dice(count(pred, mask)), cldice=cldice(pred, mask, skeleton=skeleton))


def _best_logits(
    start: Float[Tensor, "r r"], truth: Bool[Tensor, "h w"], *, sam_size: int, num_steps: int
) -> Float[Tensor, "r r"]:
    """Return the logits with the highest Dice met while cross-entropy is brought down."""
    target = truth.float()[None]
    size = (truth.shape[0], truth.shape[1])
    with torch.enable_grad():  # also where the caller has no gradients in mind
        logits = start[None].clone().requires_grad_()
        optimizer = torch.optim.Adam([logits], lr=_STEP_SIZE)
        best, best_dice = start, -1.0
        for step in range(num_steps + 1):
            upsampled = upsample_logits(logits, via=sam_size, size=size)
            if step % _LOOK_EVERY == 0 or step == num_steps:
                found = _dice(upsampled[0].detach() > 0, truth)
                if found > best_dice:
                    best, best_dice = logits[0].detach().clone(), found
                if found >= _PERFECT:
                    break
            loss = F.binary_cross_entropy_with_logits(upsampled, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return best


def _predicted(
    logits: Float[Tensor, "r r"], *, sam_size: int, size: tuple[int, ...]
) -> Bool[Tensor, "h w"]:
    """Return the mask that these logits become: probability above 0.5, so a logit above 0."""
    return upsample_logits(logits[None], via=sam_size, size=(size[0], size[1]))[0] > 0


def _dice(pred: Bool[Tensor, "h w"], truth: Bool[Tensor, "h w"]) -> float:
    whole = int(pred.sum()) + int(truth.sum())
    return 2 * int((pred & truth).sum()) / whole if whole else 1.0
