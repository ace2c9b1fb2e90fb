"""Between the mask grid of the decoder and the pixels of an image, for loss and prediction alike."""

from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

TargetRule = Literal["full", "area", "nearest"]
"""Where a loss compares: at the image's own size, or on the decoder's grid with the share of each
cell that is vessel (`area`) or with one pixel a cell (`nearest`, the official training)."""


def upsample_logits(
    logits: Float[Tensor, "n r r"], *, via: int, size: tuple[int, int]
) -> Float[Tensor, "n h w"]:
    """Return mask logits at an image's own size.

    Two bilinear steps, first to SAM 2's square input and then to the image, as the official model
    does: one step alone gives other borders.

    Args:
        logits: Scores on the decoder's grid.
        via: Side of SAM 2's input in pixels.
        size: Height and width to end at.
    """
    square = F.interpolate(
        logits[:, None].float(), (via, via), mode="bilinear", align_corners=False
    )
    if size == (via, via):
        return square[:, 0]
    return F.interpolate(square, size, mode="bilinear", align_corners=False)[:, 0]


def area_shares(mask: Float[Tensor, "h w"], side: int) -> Float[Tensor, "side side"]:
    """Return, for each cell of a coarser grid, the share of it that the mask covers."""
    return F.interpolate(mask[None, None], (side, side), mode="area")[0, 0]


def nearest_pixels(mask: Float[Tensor, "h w"], side: int) -> Float[Tensor, "side side"]:
    """Return one pixel of the mask for each cell of a coarser grid.

    It shifts thin vessels and drops some of them; it is what the official training compares with.
    """
    return F.interpolate(mask[None, None], (side, side), mode="nearest")[0, 0]
