"""The frame of a cine in which the vessels are filled best.

Contrast makes narrow dark structures. Each frame, at 256 pixels and as logarithm (so that exposure
shifts it and changes nothing else), is closed with a square wider than a coronary artery; what that
fills in is what is narrow and dark: vessels, but also ribs, catheter and noise. Noise goes by the
frame's own median, what never moves by a low percentile of each place over time. No frame is taken
to be free of contrast. The curve over time is smoothed by parabolas, which keep a peak at the first
or last frame where it is.
"""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from scipy.ndimage import gaussian_filter, maximum_filter, minimum_filter

_SIDE = 256  # of a frame when it is looked at, in pixels
_WIDEST = 13  # pixels of it: wider than the vessels
_BLUR = 1.5
_BLACK = 16.0  # greys: below this, noise would dominate the logarithm
_FLOOR = 1.0  # of the median: what counts as noise
_CELL = 4  # pixels a side of what is kept
_ALWAYS = 10  # percent of the time: what is there so long at least is no contrast
_WINDOW = 7  # frames that a parabola is laid through


def find_peak(frames: Iterable[UInt8[np.ndarray, "h w 3"]]) -> int:
    """Return the number of the frame that is filled best, from 0 on.

    Args:
        frames: The cine, vessels dark; each frame is looked at once.

    Raises:
        ValueError: If there is no frame.
    """
    return int(filling(frames).argmax())


def filling(frames: Iterable[UInt8[np.ndarray, "h w 3"]]) -> Float[np.ndarray, " t"]:
    """Return how much contrast each frame shows, smoothed over time, without unit.

    Args:
        frames: The cine, vessels dark; each frame is looked at once.

    Raises:
        ValueError: If there is no frame.
    """
    seen = [_narrow_and_dark(frame) for frame in frames]
    if not seen:
        raise ValueError("a cine without frames has no peak.")
    places = np.stack(seen)
    moving = np.maximum(places - np.percentile(places, _ALWAYS, axis=0), 0.0)
    curve: Float[np.ndarray, " t"] = moving.mean(axis=(1, 2), dtype=np.float64)
    window = min(_WINDOW, len(curve) - (len(curve) + 1) % 2)
    if window > 2:
        from scipy.signal import savgol_filter  # takes a second to import

        curve = savgol_filter(curve, window, 2, mode="interp")
    return curve


def _narrow_and_dark(frame: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "y x"]:
    """Return how much narrow darkness lies in each cell of a frame."""
    height, width = frame.shape[:2]
    share = min(1.0, _SIDE / max(height, width))
    size = (max(_CELL, round(width * share)), max(_CELL, round(height * share)))
    small = Image.fromarray(frame).convert("L").resize(size, Image.Resampling.BOX)
    level = gaussian_filter(np.log(np.asarray(small, dtype=np.float32) + _BLACK), _BLUR)
    filled = minimum_filter(maximum_filter(level, _WIDEST), _WIDEST) - level
    filled = np.maximum(filled - _FLOOR * np.median(filled), 0.0)
    rows, columns = (length // _CELL for length in filled.shape)
    cells = filled[: rows * _CELL, : columns * _CELL].reshape(rows, _CELL, columns, _CELL)
    found: Float[np.ndarray, "y x"] = cells.mean(axis=(1, 3)).astype(np.float32)
    return found
