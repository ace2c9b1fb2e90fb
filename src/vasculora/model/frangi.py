"""The Frangi vesselness filter: what a model that has learnt nothing must beat.

It finds ridges by the curvature of the grey values and knows no catheter, rib or sentence. Its
scores have no unit, so each image's are scaled by its own high ones; the threshold is chosen on
training images (`metrics.mask.best_threshold`). Scales and percentile were chosen on real
angiograms, where finer scales find noise, so that the comparison is a fair one.
"""

import numpy as np
from jaxtyping import Float, UInt8

SIGMAS = (2.0, 3.0, 4.0)
"""Scales in pixels; they answer to vessels about 3 to 10 pixels wide."""

TOP_PERCENTILE = 95.0
"""Taken as 1; the very highest is often a single speck or the edge of the collimator."""


def frangi_prob(image: UInt8[np.ndarray, "h w 3"], *, dark: bool) -> Float[np.ndarray, "h w"]:
    """Return how much like a vessel each pixel looks, in [0, 1]; 0 everywhere in a flat image.

    Frangi et al. 1998, over several scales.

    Args:
        image: RGB.
        dark: Whether vessels are darker than what surrounds them (angiograms, fundus photographs).
    """
    from skimage.filters import frangi

    grey = image.mean(axis=2) / 255
    response = frangi(grey, sigmas=SIGMAS, black_ridges=dark)
    top = np.percentile(response, TOP_PERCENTILE)
    if top <= 0:
        top = response.max() or 1.0
    prob: Float[np.ndarray, "h w"] = np.clip(response / top, 0, 1).astype(np.float32)
    return prob
