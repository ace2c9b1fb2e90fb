"""The official training loss, for comparison: points instead of pixels, five objects an image.

    [SEG] masks -> five an image -> truth by `nearest` on the decoder's grid -> points where the
    mask is unsure, and anywhere -> cross-entropy and Dice over the points

It reproduces what the published weights were trained with, its habits included: truth on a coarse
grid, where `nearest` drops thin vessels, and an image with one mask weighing as much as one with
five. The official model repeats its objects before SAM 2's decoder. The decoder treats every prompt
for itself, so repeating its masks here gives the same values and gradients and costs nothing.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from vasculora.core.geometry import nearest_pixels
from vasculora.core.types import Batch, LossTerms, Output
from vasculora.losses.objective import summed_dice

NUM_POINTS = 12544
"""Points a mask is compared at: 112 squared."""
NUM_OBJECTS = 5
"""Masks compared in each image."""
WEIGHTS = {"bce": 2.0, "dice": 0.5, "text": 1.0}

_CANDIDATES = 3
"""Points drawn for each point kept."""
_UNSURE_SHARE = 0.75
"""Share of the points that lie where the mask is least sure."""
_SLACK = 1e-4 + torch.finfo(torch.float32).eps
"""What the official denominators are larger by than what they count."""


class OfficialObjective:
    """Turns outputs into the official loss terms.

    Args:
        sam_size: Side of SAM 2's square input, through which masks are upsampled for the score
            that is shown beside the loss.
        num_points: Points a mask is compared at; at least 4.
    """

    def __init__(self, *, sam_size: int, num_points: int = NUM_POINTS) -> None:
        if num_points < 4:
            raise ValueError(f"expected num_points of at least 4, got {num_points}.")
        self.sam_size = sam_size
        self.num_points = num_points

    def counts(self, batch: Batch) -> dict[str, int]:
        """Return how many compared masks or answer tokens each part of a batch runs over."""
        num_compared = NUM_OBJECTS * len(batch.image_index.unique())
        return {"bce": num_compared, "dice": num_compared, "text": batch.num_supervised}

    def __call__(
        self, output: Output, batch: Batch, points: Float[Tensor, "_ p 2"] | None = None
    ) -> LossTerms:
        """Return the loss terms of a batch, with the hard Dice of its chosen masks as a score.

        Args:
            output: What the model made of the batch.
            batch: Holds the masks' truth, at their images' own size.
            points: Where to compare, x and y in [0, 1], five rows an image in the images' order;
                None draws them.

        Raises:
            ValueError: If the images do not fill SAM 2's square.
        """
        if batch.boxes:
            raise ValueError(
                "the official objective knows squashed images alone, and these are letterboxed. "
                "Set fit=squash, or give objective a section of weights."
            )
        scores = output.text_logits.float()
        sums = _mask_sums(output.mask_logits.float(), batch, points, num_points=self.num_points)
        sums["text"] = F.cross_entropy(scores, output.text_labels, reduction="sum")
        return LossTerms(
            sums=sums,
            counts=self.counts(batch),
            weights=WEIGHTS,
            dice=summed_dice(output.mask_logits, batch, via=self.sam_size),
            num_masks=batch.num_masks,
        )


def _mask_sums(
    logits: Float[Tensor, "n r r"],
    batch: Batch,
    points: Float[Tensor, "_ p 2"] | None,
    *,
    num_points: int,
) -> dict[str, Tensor]:
    """Return the mask losses, each summed over the compared masks."""
    if batch.num_masks == 0:
        return {"bce": logits.new_zeros(()), "dice": logits.new_zeros(())}
    rows = five_objects(batch.image_index)
    truth = nearest_targets(batch.targets, side=logits.shape[-1])[rows]
    compared = logits[rows]
    points = draw_points(compared, num_points) if points is None else points
    losses = point_losses(sample_at(compared, points), sample_at(truth, points))
    num_masks, num_drawn = points.shape[:2]
    # The official loss is sum / (count + slack); a step divides by its whole count, so the slack
    # goes into the sum here and one batch has the official value exactly. So have accumulated
    # batches of as many images and tokens each, which the official training averages; where they
    # differ, every mask and token weighs alike here, and there every batch.
    return {
        "bce": losses["bce"].sum() * _shrunk(num_masks * num_drawn),
        "dice": losses["dice"].sum() * _shrunk(num_masks),
    }


def _shrunk(count: int) -> float:
    return count / (count + _SLACK)


def five_objects(image_index: Int[Tensor, " n"]) -> Int[Tensor, " _"]:
    """Return the masks to compare, five an image: fewer come round again, of more random ones.

    Args:
        image_index: The image each mask belongs to.
    """
    images = image_index.unique()
    return torch.cat([_five((image_index == image).nonzero()[:, 0]) for image in images])


def _five(rows: Int[Tensor, " n"]) -> Int[Tensor, "5"]:
    if len(rows) > NUM_OBJECTS:
        return rows[torch.randperm(len(rows))[:NUM_OBJECTS].to(rows.device)]
    return rows.repeat(NUM_OBJECTS)[:NUM_OBJECTS]


def nearest_targets(
    targets: tuple[Float[Tensor, "_ _"], ...], *, side: int
) -> Float[Tensor, "n {side} {side}"]:
    """Return the truth of each mask on the decoder's grid: that of one pixel a cell.

    Args:
        targets: Truth at each image's own size.
        side: Cells along the grid.
    """
    return torch.stack([nearest_pixels(target, side) for target in targets])


@torch.no_grad()
def draw_points(logits: Float[Tensor, "n r r"], num_points: int) -> Float[Tensor, "n p 2"]:
    """Return points to compare masks at: most where the masks are least sure, the rest anywhere.

    Kirillov et al. 2020 (PointRend), section 3.1.

    Args:
        logits: Scores before the sigmoid; near 0 the mask is unsure.
        num_points: Points a mask.

    Returns:
        x and y in [0, 1], the grid's outer borders.
    """
    candidates = torch.rand(len(logits), _CANDIDATES * num_points, 2, device=logits.device)
    num_unsure = int(_UNSURE_SHARE * num_points)
    sure = sample_at(logits, candidates).abs()
    unsure = sure.topk(num_unsure, dim=1, largest=False).indices
    kept = candidates.gather(1, unsure[..., None].expand(-1, -1, 2))
    anywhere = torch.rand(len(logits), num_points - num_unsure, 2, device=logits.device)
    return torch.cat([kept, anywhere], dim=1)


def sample_at(maps: Float[Tensor, "n h w"], points: Float[Tensor, "n p 2"]) -> Float[Tensor, "n p"]:
    """Return each map's values at its points, bilinear between cell centres and towards 0 outside.

    Args:
        maps: One grid of values a mask.
        points: x and y in [0, 1], the grid's outer borders.
    """
    grid = 2 * points[:, :, None] - 1
    sampled = F.grid_sample(maps[:, None], grid, padding_mode="zeros", align_corners=False)
    return sampled[:, 0, :, 0]


def point_losses(
    logits: Float[Tensor, "n p"], target: Float[Tensor, "n p"]
) -> dict[str, Float[Tensor, " n"]]:
    """Return each mask's cross-entropy, averaged over its points, and one minus its soft Dice.

    Args:
        logits: Scores before the sigmoid at each point.
        target: Truth there in [0, 1]; between where a point lies on a border.
    """
    prob = logits.sigmoid()
    overlap = 2 * (prob * target).sum(dim=1)
    bce = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    dice = 1 - (overlap + 1) / (prob.sum(dim=1) + target.sum(dim=1) + 1)
    return {"bce": bce.mean(dim=1), "dice": dice}
