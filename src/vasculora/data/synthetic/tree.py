"""Branching vessel trees, drawn from a random generator.

A tree is a queue of buds that grow into strokes: tapering curves whose heading is the running sum
of a smooth random curvature, so a whole stroke is a few array operations and no walk pixel by
pixel. Strokes are rendered as closely spaced discs on small patches. The coverage is antialiased
and gives the mask; the depth is the length of the ray inside the vessel, which is what darkens an
X-ray image, so thick vessels come out darker without being told to. Lengths are in pixels of a
256-pixel image and grow with the image, so a style looks the same at every size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32

REFERENCE_SIZE = 256
_SPACING = 0.5
_NUM_CELLS = 32
_NUM_TRIES = 4
_FREE_ENOUGH = 0.93


class _Bud(NamedTuple):
    """Where and how a stroke will grow; `start` is in pixels of the image itself."""

    level: int
    start: tuple[float, float]
    heading: float
    length: float
    width: float
    strength: float
    drift: float


@dataclass(frozen=True, kw_only=True)
class Stroke:
    """One vessel segment, sampled along its centreline.

    Attributes:
        points: x and y in pixels.
        radius: Half the width at each point, in pixels.
        strength: How well it is filled with contrast at each point, 1 is full.
    """

    points: Float[np.ndarray, "k 2"]
    radius: Float[np.ndarray, " k"]
    strength: Float[np.ndarray, " k"]


@dataclass(frozen=True, kw_only=True)
class Vessels:
    """Rendered strokes.

    Attributes:
        coverage: Share of each pixel that lies inside a vessel, in [0, 1].
        depth: Length of the ray inside the vessel, in pixels, times the strength.
    """

    coverage: Float32[np.ndarray, "h w"]
    depth: Float32[np.ndarray, "h w"]

    @property
    def mask(self) -> Bool[np.ndarray, "h w"]:
        """True where at least half of the pixel is vessel."""
        return self.coverage >= 0.5


def draw_stroke(
    rng: np.random.Generator,
    *,
    start: tuple[float, float],
    heading: float,
    length: float,
    width: tuple[float, float],
    bend: float = 0.02,
    drift: float = 0.0,
    wiggle: float = 0.0,
    strength: tuple[float, float] = (1.0, 1.0),
    scale: float = 1.0,
) -> Stroke:
    """Return one smoothly curving, tapering stroke.

    Args:
        rng: Source of the curvature.
        start: x and y of the first point, in pixels of the image itself.
        heading: First direction in radians, clockwise from the x axis as seen on the screen.
        length: Length of the centreline.
        width: Width at the first and at the last point.
        bend: Standard deviation of the random curvature, in radians a pixel.
        drift: Constant curvature, in radians a pixel.
        wiggle: Swing of the heading in radians, a tortuous vessel's.
        strength: Contrast filling at the first and at the last point.
        scale: Pixels of the image to a pixel of a 256-pixel image.
    """
    count = max(int(length * scale / _SPACING), 4)
    along = np.linspace(0.0, length, count)
    knots = np.arange(0.0, length + 24.0, 12.0)
    curvature = np.interp(along, knots, rng.normal(0.0, bend, len(knots))) + drift
    swing = wiggle * np.sin(along / rng.uniform(2.0, 3.2) + rng.uniform(0.0, 6.3))
    angle = heading + np.cumsum(curvature) * (length / count) + swing
    travel = np.cumsum(np.stack([np.cos(angle), np.sin(angle)], axis=1), axis=0)
    share = along / length
    return Stroke(
        points=np.asarray(start) + travel * (length * scale / count),
        radius=0.5 * scale * (width[0] + (width[1] - width[0]) * share),
        strength=strength[0] + (strength[1] - strength[0]) * share,
    )


def narrow(stroke: Stroke, *, at: float, severity: float, extent: float) -> Stroke:
    """Return the stroke with a stenosis.

    Args:
        stroke: The healthy vessel.
        at: Place of the narrowing as a share of the length.
        severity: Share of the width lost at the narrowest point.
        extent: Standard deviation of the narrowing, as a share of the length.
    """
    share = np.linspace(0.0, 1.0, len(stroke.radius))
    dip = severity * np.exp(-0.5 * ((share - at) / extent) ** 2)
    return Stroke(
        points=stroke.points, radius=stroke.radius * (1.0 - dip), strength=stroke.strength
    )


def grow_tree(
    rng: np.random.Generator,
    size: int,
    *,
    start: tuple[float, float],
    heading: float,
    length: float = 180.0,
    width: tuple[float, float] = (2.0, 6.0),
    num_levels: int = 3,
    branch_gap: float = 28.0,
    branch_angle: tuple[float, float] = (0.4, 1.2),
    bend: float = 0.02,
    drift: float = 0.0,
    wiggle: float = 0.0,
    fade: float = 0.0,
    stenosis_rate: float = 0.0,
) -> tuple[Stroke, ...]:
    """Return the strokes of one tree, parents before children.

    Every stroke is the best of a few tries: inside the image and away from what is drawn already.
    Crossings still happen, heaps of parallel branches do not.

    Args:
        rng: Source of every choice.
        size: Side of the image in pixels.
        start: x and y of the root, in pixels of the image itself.
        heading: Direction of the trunk in radians.
        length: Length of the trunk.
        width: Narrowest and widest vessel; branches that would be narrower are not grown.
        num_levels: Generations of branches after the trunk.
        branch_gap: Mean distance between branches.
        branch_angle: Smallest and largest angle between a branch and its parent.
        bend: Random curvature in radians a pixel.
        drift: Constant curvature of the trunk.
        wiggle: Tortuosity as a swing of the heading in radians.
        fade: Share of the contrast lost from the root to the farthest twig.
        stenosis_rate: Chance of a narrowing in each stroke.
    """
    scale = size / REFERENCE_SIZE
    taken = np.zeros((_NUM_CELLS, _NUM_CELLS), dtype=bool)
    queue = [_Bud(0, start, heading, length, width[1], 1.0, drift)]
    strokes: list[Stroke] = []
    while queue:
        bud = queue.pop(0)
        stroke = _best_stroke(
            rng,
            bud,
            taken,
            end_width=max(bud.width * rng.uniform(0.45, 0.75), width[0]),
            end_strength=bud.strength - fade * bud.length / (2.0 * length),
            bend=bend,
            wiggle=wiggle * rng.uniform(0.0, 1.0) * (bud.level > 0),
            size=size,
        )
        if rng.random() < stenosis_rate:
            stroke = _with_stenosis(rng, stroke, bud.length)
        strokes.append(stroke)
        _occupy(stroke, taken, size)
        if bud.level < num_levels:
            queue += _side_buds(rng, bud, stroke, branch_gap, branch_angle, width[0], scale)
    return tuple(strokes)


def _best_stroke(
    rng: np.random.Generator,
    bud: _Bud,
    taken: Bool[np.ndarray, "r r"],
    *,
    end_width: float,
    end_strength: float,
    bend: float,
    wiggle: float,
    size: int,
) -> Stroke:
    """Return the freest of a few strokes a bud could grow into, the first that is free enough."""
    best, most = None, -np.inf
    for _ in range(_NUM_TRIES):
        stroke = draw_stroke(
            rng,
            start=bud.start,
            heading=bud.heading + rng.normal(0.0, 0.15),
            length=bud.length,
            width=(bud.width, end_width),
            bend=bend,
            drift=bud.drift,
            wiggle=wiggle,
            strength=(bud.strength, end_strength),
            scale=size / REFERENCE_SIZE,
        )
        free = _freedom(stroke, taken, size)
        if best is None or free > most:
            best, most = stroke, free
        if free > _FREE_ENOUGH:
            break
    assert best is not None
    return best


def _with_stenosis(rng: np.random.Generator, stroke: Stroke, length: float) -> Stroke:
    """Return the stroke with a narrowing of random place, severity and extent."""
    return narrow(
        stroke,
        at=rng.uniform(0.15, 0.8),
        severity=rng.uniform(0.3, 0.55),
        extent=rng.uniform(2.0, 5.0) / length,
    )


def _side_buds(
    rng: np.random.Generator,
    bud: _Bud,
    stroke: Stroke,
    gap: float,
    angle: tuple[float, float],
    min_width: float,
    scale: float,
) -> list[_Bud]:
    """Return the branches of a stroke that are not too thin to grow."""
    buds = []
    for share in _branch_points(rng, bud.length, gap):
        index = int(share * (len(stroke.radius) - 2)) + 1
        width = 2.0 * float(stroke.radius[index]) / scale * rng.uniform(0.55, 0.9)
        if width < min_width * 0.9:
            continue
        x, y = stroke.points[index]
        step_x, step_y = stroke.points[index] - stroke.points[index - 1]
        turn = rng.choice([-1.0, 1.0]) * rng.uniform(*angle)
        buds.append(
            _Bud(
                level=bud.level + 1,
                start=(float(x), float(y)),
                heading=float(np.arctan2(step_y, step_x)) + turn,
                length=bud.length * rng.uniform(0.3, 0.65),
                width=max(width, min_width),
                strength=float(stroke.strength[index]),
                drift=-float(np.sign(turn)) * rng.uniform(0.0, 0.008),
            )
        )
    return buds


def _branch_points(rng: np.random.Generator, length: float, gap: float) -> list[float]:
    """Return the places of the branches as shares of the length."""
    places = np.cumsum(rng.uniform(0.5, 1.5, int(2 * length / gap) + 1) * gap)
    return [float(place / length) for place in places if place < 0.92 * length]


def _cells(stroke: Stroke, size: int) -> Float[np.ndarray, "k 2"]:
    """Return the coarse cell of every eighth point, cells outside the image included."""
    return np.floor(stroke.points[12::8] * (_NUM_CELLS / size))


def _freedom(stroke: Stroke, taken: Bool[np.ndarray, "r r"], size: int) -> float:
    """Return how much of a stroke is inside the image, less what runs over others."""
    cells = _cells(stroke, size)
    if not len(cells):
        return 0.0
    inside = np.all((cells >= 0) & (cells < _NUM_CELLS), axis=1)
    x, y = np.clip(cells, 0, _NUM_CELLS - 1).astype(int).T
    return float(np.mean(inside)) - 0.7 * float(np.mean(taken[y, x] & inside))


def _occupy(stroke: Stroke, taken: Bool[np.ndarray, "r r"], size: int) -> None:
    """Mark the cells a stroke runs through."""
    cells = _cells(stroke, size)
    inside = np.all((cells >= 0) & (cells < _NUM_CELLS), axis=1)
    x, y = cells[inside].astype(int).T
    taken[y, x] = True


def render(strokes: Sequence[Stroke], size: int) -> Vessels:
    """Return coverage and depth of some strokes; where they meet, the larger value counts.

    Args:
        strokes: What to draw; points outside the image are left out.
        size: Side of the image in pixels.
    """
    coverage = np.zeros(size * size, dtype=np.float32)
    depth = np.zeros(size * size, dtype=np.float32)
    if strokes:
        points = np.concatenate([stroke.points for stroke in strokes]).astype(np.float32)
        radius = np.concatenate([stroke.radius for stroke in strokes]).astype(np.float32)
        strength = np.concatenate([stroke.strength for stroke in strokes]).astype(np.float32)
        reach = np.ceil(radius + 1.0).astype(int)
        near = np.all((points > -reach[:, None]) & (points < size + reach[:, None]), axis=1)
        for half in np.unique(reach[near]):
            # Wide discs may lie farther apart before their outline shows scallops.
            chosen = np.flatnonzero(near & (reach == half))[:: max(1, int(half) - 2)]
            _stamp(coverage, depth, points[chosen], radius[chosen], strength[chosen], int(half))
    return Vessels(coverage=coverage.reshape(size, size), depth=depth.reshape(size, size))


def _stamp(
    coverage: Float32[np.ndarray, " p"],
    depth: Float32[np.ndarray, " p"],
    points: Float32[np.ndarray, "k 2"],
    radius: Float32[np.ndarray, " k"],
    strength: Float32[np.ndarray, " k"],
    half: int,
) -> None:
    """Write discs of similar radius into the flat maps, in patches of `2 half + 1` pixels."""
    size = int(np.sqrt(len(coverage)))
    offset = np.arange(-half, half + 1)
    corner = np.floor(points).astype(np.int64)
    # A pixel's value belongs to its centre, half a pixel from its corner.
    shift = (corner - points).astype(np.float32) + np.float32(0.5)
    dx = (shift[:, :1] + offset.astype(np.float32))[:, None, :]
    dy = (shift[:, 1:] + offset.astype(np.float32))[:, :, None]
    x = (corner[:, :1] + offset)[:, None, :]
    y = (corner[:, 1:] + offset)[:, :, None]
    square = dx * dx + dy * dy
    outer = np.square(radius + np.float32(0.5))[:, None, None]
    place, row, column = np.nonzero(
        (square < outer) & (x >= 0) & (x < size) & (y >= 0) & (y < size)
    )
    flat = y[place, row, 0] * size + x[place, 0, column]
    square = square[place, row, column]
    share = np.minimum(radius[place] + np.float32(0.5) - np.sqrt(square), np.float32(1.0))
    chord = np.sqrt(outer[place, 0, 0] - square) * (2.0 * strength[place])
    np.maximum.at(coverage, flat, share)
    np.maximum.at(depth, flat, chord)
