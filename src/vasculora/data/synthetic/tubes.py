"""Drawn vessels on any ground: thick and thin `tubes`, `mixed` dark and bright, `sides`.

Each style varies one attribute for sure and others at times, so that a word is met in much company
and always means what can be seen: thick is at least twice thin, left and right are far apart.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Float32, UInt8
from scipy import ndimage

from vasculora.data.synthetic import backdrop, phrases
from vasculora.data.synthetic.phrases import Drawing
from vasculora.data.synthetic.tree import Stroke, Vessels, grow_tree, render


def draw_tubes(rng: np.random.Generator, size: int) -> Drawing:
    """Draw thick and thin trees on any ground, of one kind or one of them dark and one bright."""
    colour = _ground(rng, size)
    thick = render(_loose_trees(rng, size, (7.0, rng.uniform(8.0, 13.0))), size)
    thin = render(_loose_trees(rng, size, (1.9, rng.uniform(2.4, 3.2))), size)
    sign = float(rng.choice([-1.0, 1.0]))
    other = -sign if rng.random() < _OTHER_KIND else sign
    _paint(rng, colour, without(thin, thick), sign=other)
    _paint(rng, colour, thick, sign=sign)
    seen = thin.mask & ~thick.mask
    return _finish(rng, colour), {
        **_kinds((thick.mask, sign), (seen, other)),
        "thick vessel": thick.mask,
        "thin vessel": seen,
    }


def draw_mixed(rng: np.random.Generator, size: int) -> Drawing:
    """Draw dark and bright trees in one image, so that the word decides."""
    colour = _ground(rng, size)
    widths = rng.uniform(3.0, 9.0, 2)
    dark, bright = (render(_loose_trees(rng, size, (2.0, wide)), size) for wide in widths)
    # The bright tree lies on top; where it crosses, the dark one is not seen.
    _paint(rng, colour, without(dark, bright), sign=-1.0)
    _paint(rng, colour, bright, sign=1.0)
    seen = dark.mask & ~bright.mask
    return _finish(rng, colour), phrases.named(seen | bright.mask, seen, bright.mask)


def draw_sides(rng: np.random.Generator, size: int) -> Drawing:
    """Draw a tree on the left and one on the right, a gap between them."""
    colour = _ground(rng, size)
    middle, gap = rng.uniform(0.42, 0.58), rng.uniform(0.06, 0.14)
    sign = float(rng.choice([-1.0, 1.0]))
    other = -sign if rng.random() < _OTHER_KIND else sign
    wide, narrow = rng.uniform(2.5, 9.0, 2)
    uneven = bool(rng.random() < _UNEVEN)
    if uneven:
        wide, narrow = rng.uniform(8.0, 13.0), 3.0
    lows = (7.0, 1.9) if uneven else (2.0, 2.0)
    if rng.random() < 0.5:
        wide, narrow, lows = narrow, wide, lows[::-1]
    left = render(_beside(rng, size, (0.02, middle - gap / 2), (lows[0], wide)), size)
    right = render(_beside(rng, size, (middle + gap / 2, 0.98), (lows[1], narrow)), size)
    _paint(rng, colour, left, sign=sign)
    _paint(rng, colour, right, sign=other)
    by_phrase = _kinds((left.mask, sign), (right.mask, other))
    by_phrase |= {"left vessel": left.mask, "right vessel": right.mask}
    if uneven:
        thick, thin = (left, right) if wide > narrow else (right, left)
        by_phrase |= {"thick vessel": thick.mask, "thin vessel": thin.mask}
    return _finish(rng, colour), by_phrase


def without(below: Vessels, above: Vessels) -> Vessels:
    """Return what is seen of the vessels that others lie on."""
    hidden = 1.0 - above.coverage
    return Vessels(coverage=below.coverage * hidden, depth=below.depth * hidden)


def _kinds(*vessels: tuple[phrases.Mask, float]) -> dict[str, phrases.Mask]:
    """Return the phrases of trees that are dark (sign -1) or bright (+1) each."""
    empty = np.zeros_like(vessels[0][0])
    dark, bright = (
        np.logical_or.reduce([empty, *(mask for mask, sign in vessels if sign == kind)])
        for kind in (-1.0, 1.0)
    )
    return phrases.named(dark | bright, dark, bright)


def _beside(
    rng: np.random.Generator,
    size: int,
    reach: tuple[float, float],
    width: tuple[float, float],
) -> tuple[Stroke, ...]:
    """Return one or two trees squeezed between two columns, given as shares of the side."""
    start, end = reach
    strokes = []
    for stroke in _loose_trees(rng, size, width):
        x = stroke.points[:, 0]
        edge = stroke.radius / (end - start)
        inside = (x > edge) & (x < size - edge)
        points = stroke.points[inside] * np.array([end - start, 1.0])
        points[:, 0] += start * size
        strokes.append(
            replace(
                stroke,
                points=points,
                radius=stroke.radius[inside],
                strength=stroke.strength[inside],
            )
        )
    return tuple(strokes)


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
    """Return a coloured or grey textured ground around middle brightness, at times a chest's."""
    chest = rng.random() < _CHEST
    base = rng.uniform(95.0, 160.0) + rng.normal(0.0, 25.0 * (not chest and rng.random() < 0.8), 3)
    shade = rng.uniform(0.0, 12.0) * backdrop.clouds(rng, size, int(rng.integers(2, 9)))
    shade = shade + rng.uniform(0.0, 10.0) * backdrop.clouds(rng, size, int(rng.integers(10, 60)))
    shade = shade + rng.uniform(0.0, 25.0) * backdrop.ramp(rng, size)
    shade = shade + rng.uniform(0.0, 10.0) * rng.standard_normal((size, size), dtype=np.float32)
    if chest:
        part = _CHEST_PARTS[int(rng.integers(len(_CHEST_PARTS)))]
        shade = shade - rng.uniform(15.0, 35.0) * part(rng, size)
    return (base + shade[:, :, None]).astype(np.float32)


def _paint(
    rng: np.random.Generator,
    colour: Float32[np.ndarray, "h w 3"],
    vessels: Vessels,
    *,
    sign: float,
) -> None:
    """Darken (`sign` -1) or brighten (+1) the ground where the vessels are."""
    step = sign * rng.uniform(45.0, 90.0) * rng.uniform(0.7, 1.0, 3)
    profile = vessels.coverage
    if rng.random() < 0.5:
        # Round vessels; the root evens out, so that twigs stay clear of the ground.
        profile = np.sqrt(vessels.depth / max(float(vessels.depth.max()), 1.0))
    colour += profile[:, :, None] * step.astype(np.float32)


def _finish(
    rng: np.random.Generator, colour: Float32[np.ndarray, "h w 3"]
) -> UInt8[np.ndarray, "h w 3"]:
    """Return the painted image, sometimes a little out of focus."""
    if rng.random() < 0.5:
        colour = ndimage.gaussian_filter(colour, (0.7, 0.7, 0.0))
    return np.asarray(np.clip(colour, 0, 255).astype(np.uint8))


_OTHER_KIND = 0.4
_UNEVEN = 0.3
_CHEST = 0.35
_CHEST_PARTS = (backdrop.ribs, backdrop.spine, backdrop.diaphragm, backdrop.heart)
