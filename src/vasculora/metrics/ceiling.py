"""The resolution ceiling: the best score a perfect model could reach on one mask.

A model says its masks on a coarse grid, which is upsampled to the image. Whatever is finer than
that is lost, and what a loss compares with may lose more. Here a model is imagined that fits its
target exactly, and its logits go the very way of a prediction's: to SAM 2's square, to the image's
own size, threshold 0.5. What is then missing to 1 no training can win back.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from vasculora.core.geometry import (
    Box,
    Fit,
    TargetRule,
    area_shares,
    in_cells,
    letterbox,
    nearest_pixels,
    upsample_logits,
)
from vasculora.metrics.mask import count, dice
from vasculora.metrics.thinning import Line
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
    fit: Fit = "squash",
    line: Line | None = None,
) -> Ceiling:
    """Return the best Dice and clDice under one target rule, at the image's own size.

    Args:
        mask: The truth.
        rule: What the loss compares with.
        grid: Side of the mask decoder's grid, in cells.
        sam_size: Side of SAM 2's square input, in pixels.
        fit: How an image becomes that square.
        line: Centreline of the mask, where it is known already.
    """
    pred = perfect_prediction(mask, rule, grid=grid, sam_size=sam_size, fit=fit)
    return Ceiling(dice=dice(count(pred, mask)), cldice=cldice(pred, mask, line=line))


def perfect_prediction(
    mask: Bool[np.ndarray, "h w"],
    rule: TargetRule,
    *,
    grid: int,
    sam_size: int,
    fit: Fit = "squash",
    num_steps: int = NUM_STEPS,
) -> Bool[np.ndarray, "h w"]:
    """Return what a model predicts that has learnt its target to perfection.

    For `nearest` and `area` the target is fitted exactly. For `full` the best logits are searched
    for by gradient descent, from those of `area` on, so what is found is a lower bound of the best.

    Args:
        mask: The truth.
        rule: What the loss compares with.
        grid: Side of the mask decoder's grid, in cells.
        sam_size: Side of SAM 2's square input, in pixels.
        fit: How an image becomes that square.
        num_steps: Steps of the search, for `full`.
    """
    truth = torch.from_numpy(mask)
    size = (mask.shape[0], mask.shape[1])
    box = letterbox(size, side=sam_size, cells=grid) if fit == "letterbox" else None
    way = partial(upsample_logits, via=sam_size, size=size, box=box)
    logits = _fitted(truth.float(), rule, grid=grid, box=box, cell=sam_size // grid)
    if rule == "full":
        logits = _best_logits(logits, truth, way, num_steps=num_steps)
    pred: Bool[np.ndarray, "h w"] = (way(logits[None])[0].sigmoid() > 0.5).numpy()
    return pred


def _fitted(
    truth: Float[Tensor, "h w"], rule: TargetRule, *, grid: int, box: Box | None, cell: int
) -> Float[Tensor, "r r"]:
    """Return the logits of the target on the decoder's grid; those of `area` for `full` too."""
    coarse = nearest_pixels if rule == "nearest" else area_shares
    shares = torch.zeros(grid, grid)
    if box is None:
        shares = coarse(truth, grid)
    else:
        top, left, height, width = in_cells(box, cell)
        shares[top : top + height, left : left + width] = coarse(truth, (height, width))
    # exactly as far up as down for `nearest`: no rounding then decides half way between two cells
    return 2 * shares - 1 if rule == "nearest" else torch.logit(shares.clamp(1 - _SURE, _SURE))


def _best_logits(
    start: Float[Tensor, "r r"],
    truth: Bool[Tensor, "h w"],
    way: Callable[[Tensor], Tensor],
    *,
    num_steps: int,
) -> Float[Tensor, "r r"]:
    """Return the logits with the highest Dice met while cross-entropy is brought down."""
    target = truth.float()[None]
    with torch.enable_grad():  # also where the caller has no gradients in mind
        logits = start[None].clone().requires_grad_()
        optimizer = torch.optim.Adam([logits], lr=_STEP_SIZE)
        best, best_dice = start, -1.0
        for step in range(num_steps + 1):
            upsampled = way(logits)
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


def _dice(pred: Bool[Tensor, "h w"], truth: Bool[Tensor, "h w"]) -> float:
    whole = int(pred.sum()) + int(truth.sum())
    return 2 * int((pred & truth).sum()) / whole if whole else 1.0
