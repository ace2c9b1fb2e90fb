"""Drawn vessels on any ground: `tubes`, thick and thin; `mixed`, dark and bright."""

import numpy as np
from jaxtyping import Float32, UInt8
from scipy import ndimage

from vasculora.data.synthetic import backdrop, phrases
from vasculora.data.synthetic.phrases import Drawing
from vasculora.data.synthetic.tree import Stroke, Vessels, grow_tree, render


def draw_tubes(rng: np.random.Generator, size: int) -> Drawing:
    """Draw a thick and a thin tree of one kind on any ground."""
    colour = _ground(rng, size)
    sign = float(rng.choice([-1.0, 1.0]))
    thick = render(_loose_trees(rng, size, (5.0, rng.uniform(6.0, 11.0))), size)
    thin = render(_loose_trees(rng, size, (1.5, rng.uniform(2.0, 3.0))), size)
    both = Vessels(
        coverage=np.maximum(thick.coverage, thin.coverage), depth=thick.depth + thin.depth
    )
    _paint(rng, colour, both, sign=sign)
    image = _finish(rng, colour)
    kind = phrases.dark_only if sign < 0 else phrases.bright_only
    return image, {
        **kind(both.mask),
        "thick vessel": thick.mask,
        "thin vessel": thin.mask & ~thick.mask,
    }


def draw_mixed(rng: np.random.Generator, size: int) -> Drawing:
    """Draw dark and bright trees in one image, so that the word decides."""
    colour = _ground(rng, size)
    widths = rng.uniform(2.5, 9.0, 2)
    dark, bright = (render(_loose_trees(rng, size, (1.8, wide)), size) for wide in widths)
    # The bright tree lies on top; where it crosses, the dark one is not seen.
    hidden = 1.0 - bright.coverage
    below = Vessels(coverage=dark.coverage * hidden, depth=dark.depth * hidden)
    _paint(rng, colour, below, sign=-1.0)
    _paint(rng, colour, bright, sign=1.0)
    seen = dark.mask & ~bright.mask
    return _finish(rng, colour), phrases.named(seen | bright.mask, seen, bright.mask)


def _loose_trees(
    rng: np.random.Generator, size: int, width: tuple[float, float]
) -> tuple[Stroke, ...]:
    """Return one or two trees of like width."""
    count = int(rng.integers(1, 3))
    return tuple(stroke for _ in range(count) for stroke in _loose_tree(rng, size, width))


def _loose_tree(
    rng: np.random.Generator, size: int, width: tuple[float, float]
) -> tuple[Stroke, ...]:
    """Return a tree that starts anywhere on the border or inside."""
    x, y = rng.uniform(0.02, 0.98, 2) * size
    inward = np.arctan2(size / 2 - y, size / 2 - x)
    return grow_tree(
        rng,
        size,
        start=(x, y),
        heading=inward + rng.normal(0.0, 0.4),
        length=rng.uniform(100.0, 220.0),
        width=width,
        num_levels=int(rng.integers(0, 3)),
        branch_gap=rng.uniform(30.0, 60.0),
        bend=rng.uniform(0.01, 0.04),
        wiggle=rng.choice([0.0, 0.5]),
    )


def _ground(rng: np.random.Generator, size: int) -> Float32[np.ndarray, "h w 3"]:
    """Return a coloured or grey textured ground around middle brightness."""
    base = rng.uniform(85.0, 170.0) + rng.normal(0.0, 25.0 * (rng.random() < 0.7), 3)
    shade = rng.uniform(0.0, 14.0) * backdrop.clouds(rng, size, int(rng.integers(2, 9)))
    shade = shade + rng.uniform(0.0, 14.0) * backdrop.clouds(rng, size, int(rng.integers(10, 60)))
    shade = shade + rng.uniform(0.0, 25.0) * backdrop.ramp(rng, size)
    shade = shade + rng.uniform(0.0, 12.0) * rng.standard_normal((size, size), dtype=np.float32)
    return (base + shade[:, :, None]).astype(np.float32)


def _paint(
    rng: np.random.Generator,
    colour: Float32[np.ndarray, "h w 3"],
    vessels: Vessels,
    *,
    sign: float,
) -> None:
    """Darken (`sign` -1) or brighten (+1) the ground where the vessels are."""
    step = sign * rng.uniform(35.0, 90.0) * rng.uniform(0.6, 1.0, 3)
    profile = vessels.coverage
    if rng.random() < 0.5:
        profile = vessels.depth / max(float(vessels.depth.max()), 1.0)
    colour += profile[:, :, None] * step.astype(np.float32)


def _finish(
    rng: np.random.Generator, colour: Float32[np.ndarray, "h w 3"]
) -> UInt8[np.ndarray, "h w 3"]:
    """Return the painted image, sometimes a little out of focus."""
    if rng.random() < 0.5:
        colour = ndimage.gaussian_filter(colour, (0.7, 0.7, 0.0))
    return np.asarray(np.clip(colour, 0, 255).astype(np.uint8))
