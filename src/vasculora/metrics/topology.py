"""Scores of how a vessel tree hangs together: what its centreline tells, whatever its width.

Dice hardly sees a thin vessel, because it has few pixels; on the centreline it counts by its
length. Shit et al. 2021 ("clDice", CVPR), equations 1-3, with the hard centrelines of `thinning`,
so that turning both masks changes nothing.
"""

import numpy as np
from jaxtyping import Bool, Float

from vasculora.metrics.thinning import Line, centreline


def skeleton_of(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Return the centreline of a mask, one pixel wide (Zhang and Suen 1984).

    Only the part of the mask that holds something is worked on.
    """
    from skimage.morphology import skeletonize

    skeleton = np.zeros_like(mask)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows):
        box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        skeleton[box] = skeletonize(mask[box])
    return skeleton


def cldice(
    pred: Bool[np.ndarray, "h w"],
    mask: Bool[np.ndarray, "h w"],
    *,
    pred_line: Line | None = None,
    line: Line | None = None,
) -> float:
    """Return the centreline Dice of a prediction, in [0, 1].

    The harmonic mean of two shares: of the predicted centreline that lies in the truth, and of the
    true centreline that lies in the prediction. 1 where both masks are empty, 0 where one is.

    Args:
        pred: True where vessel was predicted.
        mask: True where vessel is.
        pred_line: Centreline of `pred`, where it is known already.
        line: Centreline of `mask`, where it is known already.
    """
    if not pred.any() or not mask.any():
        return float(not pred.any() and not mask.any())
    precision = _share(centreline(pred) if pred_line is None else pred_line, mask)
    sensitivity = _share(centreline(mask) if line is None else line, pred)
    whole = precision + sensitivity
    return 2 * precision * sensitivity / whole if whole else 0.0


def small_vessel_recall(
    pred: Bool[np.ndarray, "h w"],
    mask: Bool[np.ndarray, "h w"],
    *,
    small_width: float,
    line: Line | None = None,
    fov: Bool[np.ndarray, "h w"] | None = None,
) -> float | None:
    """Return the share of the small vessels' centreline that a prediction covers, in [0, 1].

    None where the truth has no vessel that small. A wide vessel that tapers is small where it is
    as narrow.

    Args:
        pred: True where vessel was predicted.
        mask: True where vessel is.
        small_width: Width in pixels up to which a vessel is small.
        line: Centreline of `mask`, where it is known already.
        fov: Where both masks were cut off, if they were: no vessel is narrow for ending there.
    """
    line = centreline(mask) if line is None else line
    held = line > 0
    small = np.zeros_like(line)
    small[held] = np.where(vessel_widths(mask, held, fov) <= small_width, line[held], 0)
    return _share(small, pred) if small.any() else None


def betti_numbers(mask: Bool[np.ndarray, "h w"]) -> tuple[int, int]:
    """Return how many pieces and how many holes a mask has.

    Pixels hang together by an edge or a corner, those of a hole by an edge. What lies beyond the
    image is background, so a loop that the image cuts open is no loop.
    """
    from skimage.measure import label

    pieces = label(mask, connectivity=2, return_num=True)[1]
    outside = np.pad(~mask, 1, constant_values=True)
    return int(pieces), int(label(outside, connectivity=1, return_num=True)[1]) - 1


def vessel_widths(
    mask: Bool[np.ndarray, "h w"],
    skeleton: Bool[np.ndarray, "h w"],
    fov: Bool[np.ndarray, "h w"] | None = None,
) -> Float[np.ndarray, " p"]:
    """Return how wide a vessel is at each pixel of its centreline, in pixels.

    Twice the distance to the nearest pixel outside, less one where the centreline runs through the
    middle of a pixel (the distance falls to both sides): a straight line of n pixels is n wide,
    whether n is odd or even. What lies beyond the edge of the image, or of the field of view, is
    not outside.

    Args:
        mask: True where vessel is.
        skeleton: Its centreline.
        fov: True where it is known; None for the whole image.
    """
    from scipy.spatial import KDTree

    points = np.argwhere(skeleton)
    rim = np.argwhere(_rim(mask) if fov is None else _rim(mask) & fov)
    if len(rim) == 0:  # the mask is all there is
        return np.full(len(points), float(max(mask.shape)))
    # Only distances from the centreline are needed: a tree of the rim finds them several times
    # faster than a distance transform of the whole image.
    tree = KDTree(rim)

    def distance(down: int, right: int) -> Float[np.ndarray, " p"]:
        found: Float[np.ndarray, " p"] = tree.query(points + np.array((down, right)))[0]
        return found

    own = distance(0, 0)
    falls_down = (distance(-1, 0) < own) & (distance(1, 0) < own)
    falls_aside = (distance(0, -1) < own) & (distance(0, 1) < own)
    widths: Float[np.ndarray, " p"] = 2 * own - (falls_down | falls_aside)
    return widths


def _rim(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Return the pixels outside a mask that touch it."""
    wide = np.pad(mask, 1)
    touched = wide[:-2, 1:-1] | wide[2:, 1:-1] | wide[1:-1, :-2] | wide[1:-1, 2:]
    rim: Bool[np.ndarray, "h w"] = touched & ~mask
    return rim


def _share(line: Line, mask: Bool[np.ndarray, "h w"]) -> float:
    """Return how much of a centreline lies in a mask."""
    return int(line[mask].sum(dtype=np.int64)) / int(line.sum(dtype=np.int64))
