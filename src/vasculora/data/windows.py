"""Windows of large images to learn from, Sample -> Sample: what prediction shows window by window.

Most windows are drawn round a pixel of a target, so that thin and rare vessels are met; they keep
the phrases of which they show something. The others lie anywhere and keep every phrase, empty masks
included, because prediction asks every phrase in every window and must be told where nothing is.
Of a side shorter than the window all is taken, as in prediction.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from jaxtyping import Bool

from vasculora.core.types import Sample

Transform = Callable[[Sample, np.random.Generator], Sample]


def build_windows(*, window: int, foreground: float, then: Transform | None) -> Transform:
    """Return what draws a window of a sample and changes it further.

    Args:
        window: Side of a window in pixels.
        foreground: Share of the windows drawn round a pixel of a target.
        then: An augmentation of the window; None for none.
    """
    return partial(_cut_then, window=window, foreground=foreground, then=then)


def draw_window(
    sample: Sample, rng: np.random.Generator, *, window: int, foreground: float
) -> Sample:
    """Return a window of a sample, image and masks cut alike; the sample itself if it is no larger.

    Args:
        sample: What to cut; it is not written to.
        rng: Source of all randomness.
        window: Side of a window in pixels.
        foreground: Share of the windows drawn round a pixel of a target.
    """
    if max(sample.image.shape[:2]) <= window:
        return sample
    shown = np.flatnonzero(sample.masks.any(axis=(1, 2)))
    if len(shown) and rng.random() < foreground:
        cut = _cut(sample, _round_a_pixel(sample.masks[rng.choice(shown)], rng, window), window)
        seen = np.flatnonzero(cut.masks.any(axis=(1, 2)))
        phrases = tuple(cut.phrases[row] for row in seen)
        return replace(cut, masks=cut.masks[seen], phrases=phrases)
    last = (max(0, side - window) for side in sample.image.shape[:2])
    top, left = (int(rng.integers(0, start, endpoint=True)) for start in last)
    return _cut(sample, (top, left), window)


def _cut_then(
    sample: Sample,
    rng: np.random.Generator,
    *,
    window: int,
    foreground: float,
    then: Transform | None,
) -> Sample:
    cut = draw_window(sample, rng, window=window, foreground=foreground)
    return cut if then is None else then(cut, rng)


def _round_a_pixel(
    mask: Bool[np.ndarray, "h w"], rng: np.random.Generator, window: int
) -> tuple[int, int]:
    """Return the top left of a window that holds a pixel of the mask, at any place within it."""
    pixel = np.unravel_index(rng.choice(np.flatnonzero(mask)), mask.shape)
    top, left = (
        int(rng.integers(max(0, at - window + 1), min(at, max(0, side - window)), endpoint=True))
        for at, side in zip(pixel, mask.shape, strict=True)
    )
    return top, left


def _cut(sample: Sample, corner: tuple[int, int], window: int) -> Sample:
    top, left = corner
    rows, columns = slice(top, top + window), slice(left, left + window)
    # copies: a view would keep a whole large image in memory
    return replace(
        sample,
        image=sample.image[rows, columns].copy(),
        masks=sample.masks[:, rows, columns].copy(),
        fov=None if sample.fov is None else sample.fov[rows, columns].copy(),
        second=None if sample.second is None else sample.second[rows, columns].copy(),
    )
