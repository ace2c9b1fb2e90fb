"""Scores of how a vessel tree hangs together: what its centreline tells, whatever its width.

Dice hardly sees a thin vessel, because it has few pixels; on the centreline it counts by its
length. Shit et al. 2021 ("clDice", CVPR), equations 1-3, with hard skeletons by scikit-image.
"""

import numpy as np
from jaxtyping import Bool


def skeleton_of(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Return the centreline of a mask, one pixel wide (Zhang and Suen 1984).

    Only the part of the mask that holds something is worked on.
    """
    from skimage.morphology import skeletonize

    skeleton = np.zeros_like(mask)
    rows, columns = mask.any(axis=1).nonzero()[0], mask.any(axis=0).nonzero()[0]
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
