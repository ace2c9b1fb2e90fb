"""Scores of how a vessel tree hangs together: what its centreline tells, whatever its width.

Dice hardly sees a thin vessel, because it has few pixels; on the centreline it counts by its
length. Shit et al. 2021 ("clDice", CVPR), equations 1-3, with hard skeletons by scikit-image.
"""

import numpy as np
from jaxtyping import Bool, Float


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
    skeleton: Bool[np.ndarray, "h w"] | None = None,
) -> float:
    """Return the centreline Dice of a prediction, in [0, 1].

    The harmonic mean of two shares: of the predicted centreline that lies in the truth, and of the
    true centreline that lies in the prediction. 1 where both masks are empty, 0 where one is.

    Args:
        pred: True where vessel was predicted.
        mask: True where vessel is.
        skeleton: Centreline of `mask`, where it is known already.
    """
    if not pred.any() or not mask.any():
        return float(not pred.any() and not mask.any())
    true_line = skeleton_of(mask) if skeleton is None else skeleton
    pred_line = skeleton_of(pred)
    precision = float(mask[pred_line].mean())
    sensitivity = float(pred[true_line].mean())
    whole = precision + sensitivity
    return 2 * precision * sensitivity / whole if whole else 0.0


def vessel_widths(
    mask: Bool[np.ndarray, "h w"], skeleton: Bool[np.ndarray, "h w"]
) -> Float[np.ndarray, " p"]:
    """Return how wide a vessel is at each pixel of its centreline, in pixels.

    Twice the distance to the nearest pixel outside, less one where the centreline runs through the
    middle of a pixel (the distance falls to both sides): a straight line of n pixels is n wide,
    whether n is odd or even. What lies beyond the edge of the image is not outside.

    Args:
        mask: True where vessel is.
        skeleton: Its centreline.
    """
    from scipy.spatial import KDTree

    points = np.argwhere(skeleton)
    rim = np.argwhere(_rim(mask))
    if len(rim) == 0:  # the mask is the whole image
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
