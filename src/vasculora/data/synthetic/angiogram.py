"""The demo's drawn coronary angiograms: `xray`, a hand of its own.

It is kept out of the base's training, which has angiograms of another hand (`cine`): other trees,
other chests, another detector, though both know ribs, spine, diaphragm and catheter. Vessels are
2 to 6 pixels wide at 256 pixels and fade towards the periphery, as contrast does.
"""

import numpy as np
from jaxtyping import Float32
from scipy import ndimage

from vasculora.data.synthetic import backdrop, phrases
from vasculora.data.synthetic.phrases import Drawing
from vasculora.data.synthetic.tree import Stroke, draw_stroke, grow_tree, render

_SHARE = (0.045, 0.09)
_NUM_REDRAWS = 6


def draw_xray(rng: np.random.Generator, size: int) -> Drawing:
    """Draw a coronary angiogram with the whole chest in it."""
    scale = size / 256
    root = (rng.uniform(0.12, 0.6) * size, rng.uniform(0.1, 0.3) * size)
    vessels = render(_coronary(rng, size, root, fade=rng.uniform(0.15, 0.5)), size)
    catheter = render(_catheter(rng, size, root), size)
    chest = 0.22 * backdrop.clouds(rng, size, 3) + 0.05 * backdrop.clouds(rng, size, 16)
    chest = chest + 0.35 * backdrop.heart(rng, size) + 0.2 * backdrop.ramp(rng, size)
    chest += rng.uniform(0.1, 0.22) * backdrop.ribs(rng, size)
    chest += rng.uniform(0.25, 0.5) * backdrop.spine(rng, size)
    chest += rng.uniform(0.2, 0.6) * backdrop.diaphragm(rng, size)
    chest += rng.uniform(0.02, 0.035) / scale * _distractors(rng, size)
    chest += rng.uniform(0.08, 0.125) / scale * vessels.depth
    chest += rng.uniform(0.09, 0.14) / scale * catheter.depth
    grey = backdrop.expose(
        rng,
        chest,
        blur=rng.uniform(0.5, 0.9) * scale,
        noise=rng.uniform(0.045, 0.085),
        grain=rng.uniform(0.4, 0.7) * scale,
        grey=(rng.uniform(25.0, 60.0), rng.uniform(170.0, 225.0)),
    )
    field = backdrop.shutters(rng, size)
    grey[~field] = rng.uniform(4.0, 16.0)
    mask = vessels.mask & field
    return backdrop.to_rgb(grey), {
        **phrases.dark_only(mask),
        "catheter": catheter.mask & field & ~mask,
    }


def _coronary(
    rng: np.random.Generator, size: int, root: tuple[float, float], *, fade: float
) -> tuple[Stroke, ...]:
    """Return a coronary tree: one arm in a bow, or two that part at the root, by turns.

    Drawn again until it covers a plausible share of the image, which is estimated before anything
    is rendered.
    """
    inward = float(np.arctan2(0.6 * size - root[1], 0.5 * size - root[0]))
    strokes: tuple[Stroke, ...] = ()
    for _ in range(_NUM_REDRAWS):
        grow = _two_arms if rng.random() < 0.65 else _one_arm
        strokes = grow(rng, size, root, inward, fade)
        if _SHARE[0] < _share(strokes, size) < _SHARE[1]:
            break
    return strokes


def _one_arm(
    rng: np.random.Generator, size: int, root: tuple[float, float], inward: float, fade: float
) -> tuple[Stroke, ...]:
    """Return a right coronary artery: one long bow along the border of the heart."""
    side = rng.choice([-1.0, 1.0])
    return grow_tree(
        rng,
        size,
        start=root,
        heading=inward + side * rng.uniform(0.5, 0.9),
        length=rng.uniform(230.0, 310.0),
        width=(2.2, rng.uniform(5.0, 6.0)),
        num_levels=2,
        branch_gap=rng.uniform(24.0, 36.0),
        bend=rng.uniform(0.012, 0.022),
        drift=-side * rng.uniform(0.006, 0.011),
        wiggle=rng.choice([0.0, rng.uniform(0.2, 0.6)]),
        fade=fade,
        stenosis_rate=0.25,
    )


def _two_arms(
    rng: np.random.Generator, size: int, root: tuple[float, float], inward: float, fade: float
) -> tuple[Stroke, ...]:
    """Return a left coronary artery: two arms with many side branches, which may cross."""
    side = rng.choice([-1.0, 1.0])
    strokes: tuple[Stroke, ...] = ()
    for arm in (1.0, -1.0):
        strokes += grow_tree(
            rng,
            size,
            start=root,
            heading=inward + arm * side * rng.uniform(0.4, 0.85),
            length=rng.uniform(150.0, 230.0),
            width=(2.2, rng.uniform(4.4, 6.0)),
            num_levels=2,
            branch_gap=rng.uniform(28.0, 46.0),
            bend=rng.uniform(0.015, 0.028),
            drift=arm * side * rng.uniform(-0.003, 0.004),
            wiggle=rng.choice([0.0, rng.uniform(0.2, 0.7)]),
            fade=fade,
            stenosis_rate=0.25,
        )
    return strokes


def _share(strokes: tuple[Stroke, ...], size: int) -> float:
    """Return about which share of the image the strokes cover, crossings counted twice."""
    area = 0.0
    for stroke in strokes:
        inside = np.all((stroke.points > 0) & (stroke.points < size), axis=1)
        area += float(stroke.radius[inside].sum()) * size / 256
    return area / size**2


def _catheter(rng: np.random.Generator, size: int, tip: tuple[float, float]) -> tuple[Stroke, ...]:
    """Return a catheter that comes down from outside the image, hooks, and ends at `tip`."""
    wide = rng.uniform(3.5, 5.5)
    up = -np.pi / 2 + rng.normal(0.0, 0.3)
    hook = rng.choice([-1.0, 1.0]) * rng.uniform(0.3, 1.9)
    strokes: list[Stroke] = []
    start, heading = tip, up + hook
    # The tip, the bend and the shaft: only the bend turns.
    for length, turn in (
        (rng.uniform(8.0, 22.0), 0.0),
        (rng.uniform(14.0, 30.0), -hook),
        (300.0, 0.0),
    ):
        strokes.append(
            draw_stroke(
                rng,
                start=start,
                heading=heading,
                length=length,
                width=(wide, wide),
                bend=0.002,
                drift=turn / length + rng.normal(0.0, 0.0015),
                scale=size / 256,
            )
        )
        points = strokes[-1].points
        start = (float(points[-1, 0]), float(points[-1, 1]))
        heading = float(np.arctan2(*(points[-1] - points[-2])[::-1]))
    return tuple(strokes)


def _distractors(rng: np.random.Generator, size: int) -> Float32[np.ndarray, "h w"]:
    """Return soft curved shadows and bright streaks that look like vessels out of focus."""
    strokes = []
    for _ in range(rng.integers(7, 13)):
        x, y = rng.uniform(0.0, size, 2)
        wide = rng.uniform(3.0, 8.0)
        strokes.append(
            draw_stroke(
                rng,
                start=(x, y),
                heading=rng.uniform(0.0, 6.3),
                length=rng.uniform(60.0, 190.0),
                width=(wide, wide * rng.uniform(0.4, 0.9)),
                bend=0.025,
                strength=(rng.uniform(0.4, 1.0), rng.uniform(0.2, 0.7)),
                scale=size / 256,
            )
        )
    bright = len(strokes) // 3
    dark = render(strokes[bright:], size).depth - render(strokes[:bright], size).depth
    return np.asarray(ndimage.gaussian_filter(dark, 1.7 * size / 256))
