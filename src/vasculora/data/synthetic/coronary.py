"""Coronary trees and the instruments in them, for the base's drawn angiograms.

Wider in every respect than what angiograms hold: widths of 1 to 11 pixels at 256, arms that cross,
twigs in loops, narrowings, vessels that end abruptly, contrast that streams and runs out.
"""

from dataclasses import replace

import numpy as np

from vasculora.data.synthetic.tree import Stroke, draw_stroke, grow_tree, narrow

Strokes = tuple[Stroke, ...]


def grow_coronary(
    rng: np.random.Generator, size: int, root: tuple[float, float]
) -> tuple[Strokes, ...]:
    """Return the arms of a coronary tree, which may run over each other.

    Args:
        rng: Source of every choice.
        size: Side of the image in pixels.
        root: x and y of the ostium in pixels.
    """
    inward = float(np.arctan2(0.55 * size - root[1], 0.5 * size - root[0]))
    num_arms = int(rng.choice([1, 2, 3], p=[0.35, 0.5, 0.15]))
    side = float(rng.choice([-1.0, 1.0]))
    fade = rng.uniform(0.0, 0.7) if rng.random() < 0.7 else 0.0
    widest = rng.uniform(3.5, 9.0) if rng.random() < 0.8 else rng.uniform(2.0, 11.0)
    tortuous = rng.choice([0.0, rng.uniform(0.2, 0.9)])
    streaming = rng.uniform(0.1, 0.8) if rng.random() < 0.25 else 0.0
    arms = []
    for arm in range(num_arms):
        spread = rng.uniform(0.3, 0.9) * side * (1.0, -1.0, 0.2)[arm]
        strokes = grow_tree(
            rng,
            size,
            start=root,
            heading=inward + spread,
            length=rng.uniform(110.0, 320.0 if num_arms == 1 else 240.0),
            width=(rng.uniform(0.9, 2.0), widest * rng.uniform(0.75, 1.0)),
            num_levels=int(rng.integers(1, 4)) if num_arms < 3 else 1,
            branch_gap=rng.uniform(26.0, 60.0),
            branch_angle=(0.3, 1.4),
            bend=rng.uniform(0.012, 0.032),
            drift=-float(np.sign(spread)) * rng.uniform(-0.002, 0.011),
            wiggle=tortuous,
            fade=fade,
            stenosis_rate=rng.uniform(0.0, 0.4),
        )
        strokes += _twigs(rng, strokes, size)
        if rng.random() < 0.2:
            strokes = _occluded(rng, strokes)
        arms.append(tuple(_filled(rng, _diseased(rng, stroke), streaming) for stroke in strokes))
    return tuple(arms)


def draw_catheter(
    rng: np.random.Generator, size: int, tip: tuple[float, float], wide: float
) -> Strokes:
    """Return a catheter that comes in from outside the image, hooks, and ends at `tip`.

    Args:
        rng: Source of every choice.
        size: Side of the image in pixels.
        tip: x and y of its end in pixels.
        wide: Its width in pixels of a 256-pixel image.
    """
    away = -np.pi / 2 + rng.normal(0.0, 0.35) if rng.random() < 0.8 else rng.uniform(0.0, 6.3)
    hook = float(rng.choice([-1.0, 1.0]) * rng.uniform(0.1, 2.4))
    strokes: list[Stroke] = []
    start, heading = tip, away + hook
    for length, turn in (
        (rng.uniform(4.0, 22.0), 0.0),
        (rng.uniform(12.0, 45.0), -hook),
        (340.0, 0.0),
    ):
        stroke = draw_stroke(
            rng,
            start=start,
            heading=heading,
            length=length,
            width=(wide, wide),
            bend=0.003,
            drift=turn / length + rng.normal(0.0, 0.002),
            scale=size / 256,
        )
        strokes.append(stroke)
        start = (float(stroke.points[-1, 0]), float(stroke.points[-1, 1]))
        heading = float(np.arctan2(*(stroke.points[-1] - stroke.points[-2])[::-1]))
    return tuple(strokes)


def hollow(catheter: Strokes, lumen: float) -> Strokes:
    """Return what is to be taken off a catheter's depth: its lumen, a share of its width."""
    return tuple(replace(stroke, radius=stroke.radius * lumen) for stroke in catheter)


def guide_wire(rng: np.random.Generator, arm: Strokes, size: int) -> Stroke:
    """Return a wire that lies along the trunk of an arm, a little off its middle."""
    trunk = arm[0]
    end = max(int(len(trunk.points) * rng.uniform(0.5, 1.0)), 2)
    return Stroke(
        points=trunk.points[:end] + rng.normal(0.0, 0.5, 2) * size / 256,
        radius=np.full(end, rng.uniform(0.4, 0.8) * size / 256),
        strength=np.ones(end),
    )


def _twigs(rng: np.random.Generator, strokes: Strokes, size: int) -> Strokes:
    """Return thin, often winding twigs that leave the strokes at any place."""
    twigs = []
    for _ in range(int(rng.integers(0, 13))):
        parent = strokes[int(rng.integers(len(strokes)))]
        at = int(rng.integers(1, len(parent.points)))
        step_x, step_y = parent.points[at] - parent.points[at - 1]
        turn = float(rng.choice([-1.0, 1.0]) * rng.uniform(0.4, 1.6))
        filled = float(parent.strength[at]) * rng.uniform(0.5, 1.0)
        x, y = parent.points[at]
        twigs.append(
            draw_stroke(
                rng,
                start=(float(x), float(y)),
                heading=float(np.arctan2(step_y, step_x)) + turn,
                length=rng.uniform(12.0, 80.0),
                width=(rng.uniform(0.9, 2.2), rng.uniform(0.6, 1.0)),
                bend=rng.uniform(0.02, 0.07),
                drift=-np.sign(turn) * rng.uniform(0.0, 0.015),
                wiggle=float(rng.choice([0.0, rng.uniform(0.2, 1.0)])),
                strength=(filled, filled * rng.uniform(0.3, 1.0)),
                scale=size / 256,
            )
        )
    return tuple(twigs)


def _occluded(rng: np.random.Generator, strokes: Strokes) -> Strokes:
    """Return the strokes without what lies beyond a sudden end of one of them."""
    victim = int(rng.integers(min(3, len(strokes))))
    kept: list[Stroke] = []
    gone = np.empty((0, 2))
    for number, stroke in enumerate(strokes):
        cut = len(stroke.points)
        if number == victim:
            cut = max(int(cut * rng.uniform(0.35, 0.9)), 2)
        elif len(gone) and np.abs(gone - stroke.points[0]).max(axis=1).min() < 1.0:
            cut = 0
        gone = np.concatenate([gone, stroke.points[cut:]])
        if cut:
            kept.append(
                Stroke(
                    points=stroke.points[:cut],
                    radius=stroke.radius[:cut],
                    strength=stroke.strength[:cut],
                )
            )
    return tuple(kept)


def _diseased(rng: np.random.Generator, stroke: Stroke) -> Stroke:
    """Return the stroke, sometimes with a tight narrowing or a bulge."""
    if rng.random() > 0.12:
        return stroke
    return narrow(
        stroke,
        at=rng.uniform(0.1, 0.9),
        severity=rng.uniform(-0.4, 0.85),
        extent=rng.uniform(0.008, 0.05),
    )


def _filled(rng: np.random.Generator, stroke: Stroke, streaming: float) -> Stroke:
    """Return the stroke with its contrast in streams: full in places, thin in others."""
    if streaming == 0.0:
        return stroke
    count = len(stroke.points)
    knots = np.linspace(0.0, 1.0, max(count // 30, 2))
    lack = np.interp(np.linspace(0.0, 1.0, count), knots, rng.uniform(0.0, 1.0, len(knots)))
    return replace(stroke, strength=stroke.strength * (1.0 - streaming * lack))
