"""Mask losses: logits and targets in, one value a mask out.

Dice and focal loss are MONAI's, imported late because that takes seconds. Every loss takes the
scores before the sigmoid and a target in [0, 1], so that soft area targets need no other code.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def dice_loss(
    logits: Float[Tensor, "n h w"], target: Float[Tensor, "n h w"]
) -> Float[Tensor, " n"]:
    """Return one minus the soft Dice of each mask (Milletari et al. 2016, without squares).

    One pixel is added to both sums: an empty target met with an empty prediction loses nothing.

    Args:
        logits: Scores before the sigmoid.
        target: Truth in [0, 1].

    Returns:
        One loss a mask, in [0, 1].
    """
    from monai.losses import DiceLoss

    loss = DiceLoss(sigmoid=True, reduction="none", smooth_nr=1.0, smooth_dr=1.0)
    return torch.as_tensor(loss(logits[:, None], target[:, None])).flatten()


def focal_loss(
    logits: Float[Tensor, "n h w"],
    target: Float[Tensor, "n h w"],
    *,
    alpha: float = 0.25,
    gamma: float = 2.0,
) -> Float[Tensor, " n"]:
    """Return the focal loss of each mask, averaged over its pixels (Lin et al. 2017, equation 5).

    Args:
        logits: Scores before the sigmoid.
        target: Truth in [0, 1].
        alpha: Weight of vessel pixels, `1 - alpha` that of the others; in [0, 1].
        gamma: How strongly pixels that are already right are played down; at least 0.
    """
    from monai.losses import FocalLoss

    loss = FocalLoss(alpha=alpha, gamma=gamma, reduction="none")
    return torch.as_tensor(loss(logits[:, None], target[:, None])).mean(dim=(1, 2, 3))


def bce_loss(logits: Float[Tensor, "n h w"], target: Float[Tensor, "n h w"]) -> Float[Tensor, " n"]:
    """Return the binary cross-entropy of each mask, averaged over its pixels."""
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return loss.mean(dim=(1, 2))


def iou_regression_loss(
    iou_scores: Float[Tensor, "n m"],
    candidate_logits: Float[Tensor, "n m h w"],
    target: Float[Tensor, "n h w"],
) -> Float[Tensor, " n"]:
    """Return how far predicted IoUs are from the true ones: squared, over a mask's candidates.

    The mask loss does not reach SAM 2's IoU head, so a base made from scratch needs this, or its
    choice among candidates is arbitrary (Kirillov et al. 2023, appendix A).
    """
    with torch.no_grad():
        pred = candidate_logits > 0
        truth = target[:, None] > 0.5
        overlap = (pred & truth).sum(dim=(2, 3)).float()
        union = (pred | truth).sum(dim=(2, 3)).float()
        iou = torch.where(union > 0, overlap / union.clamp(min=1), torch.ones_like(union))
    return (iou_scores - iou).square().mean(dim=1)
