"""The chest behind drawn coronary angiograms, with what was sewn, stuck or left in it.

Everything is a map of absorption. Wide and soft parts are drawn at half the resolution, where they
cost a quarter; every part comes with its own chance, because no angiogram shows all of them.
"""

import numpy as np
from jaxtyping import Float32
from scipy import ndimage

from vasculora.data.synthetic import backdrop
from vasculora.data.synthetic.backdrop import Map
from vasculora.data.synthetic.tree import Stroke, draw_stroke, render


def draw_chest(rng: np.random.Generator, size: int) -> Map:
    """Return the absorption of lung, heart, bones and diaphragm, each there or not."""
    half = size // 2
    chest = rng.uniform(0.05, 0.25) * backdrop.clouds(rng, half, int(rng.integers(1, 4)))
    chest = chest + rng.uniform(0.0, 0.25) * backdrop.ramp(rng, half)
    if rng.random() < 0.75:
        chest += rng.uniform(0.1, 0.7) * backdrop.heart(rng, half)
    if rng.random() < 0.45:
        chest -= rng.uniform(0.15, 0.8) * _lung(rng, half)
    if rng.random() < 0.5:
        chest += rng.uniform(0.04, 0.25) * backdrop.ribs(rng, half)
    if rng.random() < 0.5:
        chest += rng.uniform(0.1, 0.6) * backdrop.spine(rng, half)
    for _ in range(int(rng.integers(0, 3))):
        chest += rng.uniform(0.1, 0.6) * backdrop.diaphragm(rng, half)
    chest += _texture(rng, half)
    return _enlarge(chest.astype(np.float32), size)


def draw_subtracted(rng: np.random.Generator, size: int) -> Map:
    """Return what subtraction leaves of a chest: flat, with edges where something has moved."""
    chest = draw_chest(rng, size)
    shift = rng.integers(-2, 3, 2)
    moved = np.roll(chest, tuple(int(step) for step in shift), axis=(0, 1))
    residue = rng.uniform(0.0, 0.12) * chest + rng.uniform(0.3, 1.0) * (chest - moved)
    return np.asarray(residue, dtype=np.float32)


def draw_hardware(rng: np.random.Generator, size: int) -> Map:
    """Return absorption of sternal wires, clips, leads, electrodes and folds, most often none."""
    scale = size / 256
    strokes: list[Stroke] = []
    for chance, draw in _HARDWARE:
        if rng.random() < chance:
            strokes += draw(rng, size)
    metal = np.minimum(render(strokes, size).depth, 3.0 * scale) / (3.0 * scale)
    return np.asarray(metal, dtype=np.float32)


def draw_shadows(rng: np.random.Generator, size: int) -> Map:
    """Return soft curved shadows and bright streaks: vessels of the lung, folds, bronchi."""
    scale = size / 256
    strokes = [
        _line(rng, size, length=rng.uniform(30.0, 200.0), wide=rng.uniform(1.5, 9.0), bend=0.025)
        for _ in range(int(rng.integers(2, 16)))
    ]
    bright = int(rng.integers(0, len(strokes)))
    dark = render(strokes[bright:], size).depth - render(strokes[:bright], size).depth
    soft = ndimage.gaussian_filter(dark, rng.uniform(1.2, 3.0) * scale)
    return np.asarray(soft / np.float32(6.0 * scale))


def _lung(rng: np.random.Generator, size: int) -> Map:
    """Return the bright field beyond the border of the heart: outside a large off-centre disc."""
    x, y = backdrop.grid(size)
    angle, radius = rng.uniform(0.0, 6.3), rng.uniform(1.0, 2.5)
    away = radius - rng.uniform(0.1, 0.7)
    distance = np.hypot(x + away * np.cos(angle), y + away * np.sin(angle)) - radius
    return backdrop.soft_step(distance.astype(np.float32), rng.uniform(0.02, 0.15))


def _texture(rng: np.random.Generator, size: int) -> Map:
    """Return the mottle of lung and bone: blobs of every size, and the ridges between blobs."""
    falling = rng.uniform(0.3, 1.2)
    total = np.zeros((size, size), dtype=np.float32)
    for num_cells in (5, 10, 20, 40):
        blobs = backdrop.clouds(rng, size, num_cells)
        if rng.random() < 0.5:
            blobs = np.abs(blobs) * np.float32(rng.choice([-1.0, 1.0]))
        total += np.float32((num_cells / 5.0) ** -falling) * blobs
    where = backdrop.soft_step(backdrop.clouds(rng, size, 3) + np.float32(0.3), 1.0)
    strength = np.exp(rng.uniform(np.log(0.015), np.log(0.16)))
    return np.asarray(np.float32(strength) * total * (np.float32(0.3) + where))


def _enlarge(half: Map, size: int) -> Float32[np.ndarray, "{size} {size}"]:
    """Return a map at full size, bilinear, as nothing drawn at half the size has sharp edges."""
    rows = np.linspace(0.0, len(half) - 1.0, size).astype(np.float32)
    low = np.minimum(rows.astype(int), len(half) - 2)
    share = (rows - low).astype(np.float32)
    tall = half[low] * (1 - share[:, None]) + half[low + 1] * share[:, None]
    return np.asarray(tall[:, low] * (1 - share) + tall[:, low + 1] * share, dtype=np.float32)


def _line(
    rng: np.random.Generator, size: int, *, length: float, wide: float, bend: float = 0.0
) -> Stroke:
    """Return one line somewhere in the image."""
    x, y = rng.uniform(0.0, size, 2)
    return draw_stroke(
        rng,
        start=(float(x), float(y)),
        heading=rng.uniform(0.0, 6.3),
        length=length,
        width=(wide, wide * rng.uniform(0.4, 1.0)),
        bend=bend,
        strength=(rng.uniform(0.3, 1.0), rng.uniform(0.2, 1.0)),
        scale=size / 256,
    )


def _wires(rng: np.random.Generator, size: int) -> list[Stroke]:
    """Return sternal wires: small loops one above the other."""
    x, scale = rng.uniform(0.2, 0.8) * size, size / 256
    turn = rng.uniform(0.15, 0.4)
    return [
        draw_stroke(
            rng,
            start=(float(x + rng.normal(0.0, 4.0) * scale), float(y)),
            heading=rng.uniform(0.0, 6.3),
            length=rng.uniform(15.0, 35.0),
            width=(1.2, 1.2),
            drift=turn,
            scale=scale,
        )
        for y in np.arange(rng.uniform(0.0, 0.2), 1.0, rng.uniform(0.2, 0.35)) * size
    ]


def _clips(rng: np.random.Generator, size: int) -> list[Stroke]:
    """Return surgical clips: short dark dashes."""
    count = int(rng.integers(1, 7))
    return [_line(rng, size, length=rng.uniform(3.0, 8.0), wide=1.8) for _ in range(count)]


def _lead(rng: np.random.Generator, size: int) -> list[Stroke]:
    """Return a pacing lead or a wire of the monitor, with an electrode at its end."""
    lead = _line(rng, size, length=rng.uniform(120.0, 300.0), wide=1.6, bend=0.03)
    at = -1 - int(rng.integers(0, 40))
    bead = Stroke(
        points=lead.points[at - 8 : at],
        radius=np.full(8, rng.uniform(1.5, 7.0) * size / 256),
        strength=np.full(8, rng.uniform(0.2, 1.0)),
    )
    return [lead, bead]


def _folds(rng: np.random.Generator, size: int) -> list[Stroke]:
    """Return straight faint lines from edge to edge: sheets, tubes and the table."""
    heading = rng.uniform(-0.4, 0.4) + rng.choice([0.0, 1.57])
    strokes = []
    for _ in range(int(rng.integers(1, 4))):
        x, y = rng.uniform(0.1, 0.9, 2) * size
        back = 300.0 * size / 256
        start = (float(x - back * np.cos(heading)), float(y - back * np.sin(heading)))
        faint = rng.uniform(0.05, 0.4)
        strokes.append(
            draw_stroke(
                rng,
                start=start,
                heading=heading + rng.normal(0.0, 0.03),
                length=600.0,
                width=(rng.uniform(1.0, 3.0), rng.uniform(1.0, 3.0)),
                bend=0.0003,
                strength=(faint, faint),
                scale=size / 256,
            )
        )
    return strokes


_HARDWARE = ((0.08, _wires), (0.1, _clips), (0.12, _lead), (0.12, _folds))
"""Chance of each kind of foreign body, and what draws it."""
