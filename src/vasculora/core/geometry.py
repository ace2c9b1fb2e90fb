"""The one way from the decoder's mask grid to an image's own pixels, for loss and prediction."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


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
    """Return, for each cell of a coarser grid, the share of it that the mask covers.

    Never `nearest`, which shifts thin vessels and drops some of them.
    """
    return F.interpolate(mask[None, None], (side, side), mode="area")[0, 0]
