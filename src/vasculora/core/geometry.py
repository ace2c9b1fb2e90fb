"""Between the mask grid of the decoder and the pixels of an image, for loss and prediction alike.

SAM 2 takes a square. An image that is none is squashed to it, as officially, or letterboxed: kept
in shape and laid in the middle. A mask is read from where the image lies, and from nowhere else.
"""

from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

TargetRule = Literal["full", "area", "nearest"]
"""Where a loss compares: at the image's own size, or on the decoder's grid with the share of each
cell that is vessel (`area`) or with one pixel a cell (`nearest`, the official training)."""

Fit = Literal["squash", "letterbox"]
"""How an image becomes SAM 2's square: pulled to it (official), or in its own shape between two
empty borders."""

Box = tuple[int, int, int, int]
"""Where an image lies in a square: top, left, height and width."""


def letterbox(size: tuple[int, int], *, side: int, cells: int) -> Box:
    """Return where an image lies in SAM 2's square if its shape is kept.

    In whole cells of the decoder's grid, as many empty ones on one side as on the other: a coarse
    truth then has no cell that is half image and half border, and a mirrored image lies where the
    image's mirror does. Of the shape that costs less than a cell.

    Args:
        size: Height and width of the image.
        side: Of SAM 2's input, in pixels.
        cells: Along a side of the decoder's grid.

    Returns:
        Top, left, height and width in pixels of the square.

    Raises:
        ValueError: If a cell is no whole number of pixels.
    """
    if side % cells:
        raise ValueError(
            f"letterbox needs cells of whole pixels, but {cells} cells of the decoder's grid share "
            f"{side} pixels of SAM 2's input. Use fit 'squash' with this base."
        )
    cell = side // cells
    empty = [min(round(cells * (1 - s / max(size)) / 2), (cells - 1) // 2) for s in size]
    top, left = (cell * count for count in empty)
    return top, left, side - 2 * top, side - 2 * left


def in_cells(box: Box, cell: int) -> Box:
    """Return a box of pixels counted in cells of that many pixels."""
    top, left, height, width = (extent // cell for extent in box)
    return top, left, height, width


def cut_box(maps: Float[Tensor, "*n _ _"], box: Box) -> Float[Tensor, "*n _ _"]:
    """Return the part of each map that lies in a box."""
    top, left, height, width = box
    return maps[..., top : top + height, left : left + width]


def upsample_logits(
    logits: Float[Tensor, "n r r"], *, via: int, size: tuple[int, int], box: Box | None = None
) -> Float[Tensor, "n h w"]:
    """Return mask logits at an image's own size.

    Two bilinear steps, first to SAM 2's square input and then to the image, as the official model
    does: one step alone gives other borders.

    Args:
        logits: Scores on the decoder's grid.
        via: Side of SAM 2's input in pixels.
        size: Height and width to end at.
        box: Where the image lies in that input; None where it fills it.
    """
    square = F.interpolate(
        logits[:, None].float(), (via, via), mode="bilinear", align_corners=False
    )
    if box is not None:
        square = cut_box(square, box)
    if size == tuple(square.shape[-2:]):
        return square[:, 0]
    return F.interpolate(square, size, mode="bilinear", align_corners=False)[:, 0]


def area_shares(
    mask: Float[Tensor, "h w"], grid: int | tuple[int, int]
) -> Float[Tensor, "rows columns"]:
    """Return, for each cell of a coarser grid, the share of it that the mask covers.

    Args:
        mask: Truth at the image's own size.
        grid: Cells a side, or rows and columns.
    """
    return F.interpolate(mask[None, None], grid, mode="area")[0, 0]


def nearest_pixels(
    mask: Float[Tensor, "h w"], grid: int | tuple[int, int]
) -> Float[Tensor, "rows columns"]:
    """Return one pixel of the mask for each cell of a coarser grid.

    It shifts thin vessels and drops some of them; it is what the official training compares with.

    Args:
        mask: Truth at the image's own size.
        grid: Cells a side, or rows and columns.
    """
    return F.interpolate(mask[None, None], grid, mode="nearest")[0, 0]
