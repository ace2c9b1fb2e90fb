"""Scores of where the outlines run: how far the predicted one lies from the true one, both ways.

The distances are found once and every score reads them. Outlines, percentile and surface Dice are
MONAI's, to which the tests hold them; by itself MONAI would find the distances anew for each score
and spend most of the time on copies and warnings.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int


@dataclass(frozen=True, kw_only=True, eq=False)
class SurfaceDistances:
    """How far two outlines lie apart; either is empty where its mask is.

    Attributes:
        to_mask: From each pixel of the predicted outline to the nearest of the true one.
        to_pred: From each pixel of the true outline to the nearest of the predicted one.
    """

    to_mask: Float[np.ndarray, " p"]
    to_pred: Float[np.ndarray, " q"]

    def times(self, factor: float) -> "SurfaceDistances":
        """Return them in another unit."""
        return SurfaceDistances(to_mask=factor * self.to_mask, to_pred=factor * self.to_pred)


def outline(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Return the pixels of a mask with an edge to its outside; beyond the image is outside."""
    wide = np.pad(mask, 1)
    inner = wide[:-2, 1:-1] & wide[2:, 1:-1] & wide[1:-1, :-2] & wide[1:-1, 2:]
    found: Bool[np.ndarray, "h w"] = mask & ~inner
    return found


def surface_distances(
    pred: Bool[np.ndarray, "h w"],
    mask: Bool[np.ndarray, "h w"],
    spacing: tuple[float, float] = (1.0, 1.0),
) -> SurfaceDistances:
    """Return how far the outlines of two masks lie apart.

    Args:
        pred: True where vessel was predicted.
        mask: True where vessel is.
        spacing: Height and width of a pixel; the distances are in their unit.
    """
    of_pred, of_mask = outline(pred), outline(mask)
    return SurfaceDistances(
        to_mask=_nearest(of_pred, of_mask, spacing), to_pred=_nearest(of_mask, of_pred, spacing)
    )


def hd95(distances: SurfaceDistances, *, worst: float) -> float:
    """Return the 95th percentile of the Hausdorff distance: the greater of both ways.

    0 where both outlines are empty, and `worst` where one is, so that a missed or an invented mask
    makes a mean worse and is not left out of it (Huttenlocher et al. 1993; the percentile as in
    Taha and Hanbury 2015).

    Args:
        distances: How far the outlines lie apart.
        worst: What is said where there is but one outline.
    """
    sizes = len(distances.to_mask), len(distances.to_pred)
    if not all(sizes):
        return worst if any(sizes) else 0.0
    return float(max(np.percentile(way, 95) for way in (distances.to_mask, distances.to_pred)))


def surface_dice(distances: SurfaceDistances, *, tolerance: float) -> float:
    """Return the share of both outlines that lies within a tolerance of the other, in [0, 1].

    1 where both outlines are empty, 0 where one is (Nikolov et al. 2021; an outline's length is
    its number of pixels).

    Args:
        distances: How far the outlines lie apart.
        tolerance: In the distances' unit; at least 0.
    """
    whole = len(distances.to_mask) + len(distances.to_pred)
    near = [np.count_nonzero(w <= tolerance) for w in (distances.to_mask, distances.to_pred)]
    return int(sum(near)) / whole if whole else 1.0


def _nearest(
    start: Bool[np.ndarray, "h w"], goal: Bool[np.ndarray, "h w"], spacing: tuple[float, float]
) -> Float[np.ndarray, " p"]:
    """Return the distance of each pixel of one outline to the other, infinite if that is none."""
    from scipy.spatial import KDTree

    points, goals = np.argwhere(start), np.argwhere(goal)
    if len(goals) == 0:
        return np.full(len(points), np.inf)
    found: Float[np.ndarray, " p"] = KDTree(_scaled(goals, spacing)).query(
        _scaled(points, spacing)
    )[0]
    return found


def _scaled(
    points: Int[np.ndarray, "p 2"], spacing: tuple[float, float]
) -> Float[np.ndarray, "p 2"]:
    return points * np.asarray(spacing, dtype=np.float64)
