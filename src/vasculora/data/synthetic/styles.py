"""Styles of drawn vessel images, each a function from a random generator to a case with several phrases.

The same image carries several phrases with different masks, because a model that is only ever asked for one thing
learns to ignore the sentence. `cine`, `fundus`, `octa`, `tubes` and `mixed` train the bundled base; `xray` is kept out
of its training and is what the demo fine-tunes on, so it has what `cine` lacks: ribs, spine, diaphragm, strong quantum
noise, slanted shutters and soft curved shadows that are not vessels.
"""

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Bool, Float32, UInt8
from scipy import ndimage

from vasculora.core.types import Sample
from vasculora.data.synthetic import backdrop
from vasculora.data.synthetic.shapes import SHAPE_PHRASES
from vasculora.data.synthetic.tree import Stroke, Vessels, draw_stroke, grow_tree, render

BLOOD_VESSEL = "blood vessel"
Mask = Bool[np.ndarray, "h w"]
Drawing = tuple[UInt8[np.ndarray, "h w 3"], dict[str, Mask]]
_SHARE = (0.045, 0.09)
_NUM_REDRAWS = 6


def _coronary(
    rng: np.random.Generator, size: int, root: tuple[float, float], *, fade: float
) -> tuple[Stroke, ...]:
    """Return a coronary tree: one arm in a bow, or two that part at the root, by turns.

    Drawn again until it covers a plausible share of the image, which is estimated before anything is rendered.
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
            heading=inward + arm * side * rng.uniform(0.35, 0.7),
            length=rng.uniform(150.0, 230.0),
            width=(2.2, rng.uniform(4.4, 6.0)),
            num_levels=2,
            branch_gap=rng.uniform(28.0, 46.0),
            bend=rng.uniform(0.015, 0.028),
            drift=arm * side * rng.uniform(-0.004, 0.003),
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


def _named(vessels: Mask, dark: Mask, bright: Mask) -> dict[str, Mask]:
    """Return the phrases every style has."""
    return {
        BLOOD_VESSEL: vessels,
        "dark vessel": dark,
        "bright vessel": bright,
        "background": ~vessels,
    }


def _dark_only(vessels: Mask) -> dict[str, Mask]:
    return _named(vessels, vessels, np.zeros_like(vessels))


def _bright_only(vessels: Mask) -> dict[str, Mask]:
    return _named(vessels, np.zeros_like(vessels), vessels)


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


def _xray(rng: np.random.Generator, size: int) -> Drawing:
    """Draw a coronary angiogram with the whole chest in it."""
    scale = size / 256
    root = (rng.uniform(0.12, 0.6) * size, rng.uniform(0.1, 0.3) * size)
    vessels = render(_coronary(rng, size, root, fade=rng.uniform(0.3, 0.6)), size)
    catheter = render(_catheter(rng, size, root), size)
    chest = 0.22 * backdrop.clouds(rng, size, 3) + 0.05 * backdrop.clouds(rng, size, 16)
    chest = chest + 0.35 * backdrop.heart(rng, size) + 0.2 * backdrop.ramp(rng, size)
    chest += rng.uniform(0.1, 0.22) * backdrop.ribs(rng, size)
    chest += rng.uniform(0.25, 0.5) * backdrop.spine(rng, size)
    chest += rng.uniform(0.2, 0.6) * backdrop.diaphragm(rng, size)
    chest += rng.uniform(0.02, 0.035) / scale * _distractors(rng, size)
    chest += rng.uniform(0.06, 0.1) / scale * vessels.depth
    chest += rng.uniform(0.08, 0.13) / scale * catheter.depth
    grey = backdrop.expose(
        rng,
        chest,
        blur=rng.uniform(0.5, 0.9) * scale,
        noise=rng.uniform(0.05, 0.1),
        grain=rng.uniform(0.4, 0.7) * scale,
        grey=(rng.uniform(25.0, 60.0), rng.uniform(170.0, 225.0)),
    )
    field = backdrop.shutters(rng, size)
    grey[~field] = rng.uniform(4.0, 16.0)
    mask = vessels.mask & field
    return backdrop.to_rgb(grey), {
        **_dark_only(mask),
        "catheter": catheter.mask & field & ~mask,
    }


def _cine(rng: np.random.Generator, size: int) -> Drawing:
    """Draw dark vessels on a smooth grey ground."""
    scale = size / 256
    root = (rng.uniform(0.05, 0.95) * size, rng.uniform(0.03, 0.4) * size)
    strokes = list(_coronary(rng, size, root, fade=rng.uniform(0.0, 0.6)))
    vessels = render(strokes, size)
    ground = rng.uniform(0.1, 0.3) * backdrop.clouds(rng, size, int(rng.integers(2, 6)))
    ground = ground + rng.uniform(0.0, 0.3) * backdrop.ramp(rng, size)
    ground += rng.uniform(0.05, 0.15) / scale * vessels.depth
    has_catheter = rng.random() < 0.4
    catheter = render(_catheter(rng, size, root) if has_catheter else (), size)
    ground += rng.uniform(0.06, 0.15) / scale * catheter.depth
    low = rng.uniform(10.0, 90.0)
    grey = backdrop.expose(
        rng,
        ground,
        blur=rng.uniform(0.0, 1.2) * scale,
        noise=rng.uniform(0.0, 0.05),
        grain=rng.choice([0.0, 0.6]) * scale,
        grey=(low, low + rng.uniform(60.0, 150.0)),
    )
    field = (
        backdrop.collimator(rng, size) if rng.random() < 0.5 else np.ones((size, size), dtype=bool)
    )
    grey[~field] = rng.uniform(0.0, 20.0)
    mask = vessels.mask & field
    named = _dark_only(mask)
    if has_catheter:
        named["catheter"] = catheter.mask & field & ~mask
    return backdrop.to_rgb(grey), named


def _fundus(rng: np.random.Generator, size: int) -> Drawing:
    """Draw the back of the eye: arcades from the optic disc around the macula."""
    scale = size / 256
    x, y = backdrop.grid(size)
    side = rng.choice([-1.0, 1.0])
    radius = rng.uniform(0.85, 1.05)
    disc_x, disc_y = side * rng.uniform(0.0, 0.6), rng.uniform(-0.15, 0.15)
    root = ((disc_x + 1.0) * size / 2, (disc_y + 1.0) * size / 2)
    strokes: list[Stroke] = []
    for up in (-1.0, 1.0):
        for away, top in ((1.0, rng.uniform(3.0, 4.4)), (0.0, rng.uniform(2.2, 3.4))):
            toward = np.pi if side > 0 else 0.0
            heading = up * np.pi / 2 + (0.3 if away else -0.7) * up * side
            heading += rng.normal(0.0, 0.2)
            turn = np.sign(np.sin(toward - heading)) * (1.0 if away else -0.5)
            for _ in range(2):
                strokes += grow_tree(
                    rng,
                    size,
                    start=root,
                    heading=heading + rng.normal(0.0, 0.25),
                    length=rng.uniform(110.0, 170.0),
                    width=(1.2, top * rng.uniform(0.7, 1.0)),
                    num_levels=2,
                    branch_gap=rng.uniform(22.0, 35.0),
                    branch_angle=(0.4, 0.9),
                    bend=0.018,
                    drift=turn * rng.uniform(0.002, 0.009),
                    fade=rng.uniform(0.0, 0.4),
                )
    vessels = render(strokes, size)
    field = np.asarray(x**2 + y**2 < radius**2)
    light = 1.0 + 0.08 * backdrop.clouds(rng, size, 6) + 0.15 * backdrop.ramp(rng, size)
    light = light - rng.uniform(0.1, 0.4) * (x**2 + y**2)
    macula_x = disc_x - side * 0.55
    light = light - rng.uniform(0.1, 0.35) * np.exp(
        -((x - macula_x) ** 2 + (y - disc_y) ** 2) / 0.03
    )
    tint = np.array([rng.uniform(170, 235), rng.uniform(70, 120), rng.uniform(15, 70)])
    colour = light[:, :, None] * tint
    near = np.sqrt((x - disc_x) ** 2 + (y - disc_y) ** 2)
    glow = backdrop.soft_step((rng.uniform(0.11, 0.16) - near).astype(np.float32), 0.04)
    colour += glow[:, :, None] * (np.array([250.0, 215.0, 140.0]) - colour) * 0.8
    shade = np.clip(vessels.depth / (4.0 * scale), 0.0, 1.0) * rng.uniform(0.35, 0.7)
    colour *= 1.0 - shade[:, :, None] * np.array([0.55, 1.0, 0.8])
    colour += rng.normal(0.0, rng.uniform(1.0, 6.0), colour.shape)
    colour[~field] = rng.uniform(0.0, 12.0)
    image = np.clip(colour, 0, 255).astype(np.uint8)
    return image, _dark_only(vessels.mask & field)


def _octa(rng: np.random.Generator, size: int) -> Drawing:
    """Draw an en-face OCT angiogram: bright vessels over a mesh of capillaries around a dark centre."""
    scale = size / 256
    strokes: list[Stroke] = []
    turn = rng.uniform(0.0, 6.3)
    count = int(rng.integers(5, 9))
    for index in range(count):
        angle = turn + 2 * np.pi * index / count + rng.normal(0.0, 0.2)
        root = (
            size * float(np.clip(0.5 + 0.75 * np.cos(angle), 0.0, 1.0)),
            size * float(np.clip(0.5 + 0.75 * np.sin(angle), 0.0, 1.0)),
        )
        inward = np.arctan2(size / 2 - root[1], size / 2 - root[0])
        strokes += grow_tree(
            rng,
            size,
            start=root,
            heading=inward + rng.normal(0.0, 0.5),
            length=rng.uniform(70.0, 120.0),
            width=(1.5, rng.uniform(2.5, 5.0)),
            num_levels=2,
            branch_gap=rng.uniform(22.0, 36.0),
            bend=0.03,
            wiggle=rng.uniform(0.0, 0.3),
        )
    vessels = render(strokes, size)
    x, y = backdrop.grid(size)
    waves = rng.standard_normal((size, size), dtype=np.float32)
    fine, coarse = rng.uniform(1.0, 1.5) * scale, rng.uniform(2.0, 2.6) * scale
    waves = ndimage.gaussian_filter(waves, fine) - ndimage.gaussian_filter(waves, coarse)
    mesh = np.exp(-((waves / (0.35 * waves[::4, ::4].std())) ** 2))
    hollow = 1.0 - np.exp(-(((x**2 + y**2) / rng.uniform(0.02, 0.06)) ** 2))
    light = rng.uniform(0.1, 0.5) * mesh * hollow
    light = light + vessels.coverage * rng.uniform(0.55, 0.9) * (
        1 + 0.1 * backdrop.clouds(rng, size, 8)
    )
    light = light * (
        1.0 + rng.uniform(0.1, 0.4) * rng.standard_normal((size, size), dtype=np.float32)
    )
    light = light + rng.uniform(0.02, 0.15)
    return backdrop.to_rgb(255.0 * light), _bright_only(vessels.mask)


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


def _tubes(rng: np.random.Generator, size: int) -> Drawing:
    """Draw a thick and a thin tree of one kind on any ground."""
    colour = _ground(rng, size)
    sign = float(rng.choice([-1.0, 1.0]))
    thick = render(_loose_tree(rng, size, (5.0, rng.uniform(6.0, 11.0))), size)
    thin = render(_loose_tree(rng, size, (1.5, rng.uniform(2.0, 3.0))), size)
    both = Vessels(
        coverage=np.maximum(thick.coverage, thin.coverage), depth=thick.depth + thin.depth
    )
    _paint(rng, colour, both, sign=sign)
    image = _finish(rng, colour)
    kind = _dark_only if sign < 0 else _bright_only
    return image, {
        **kind(both.mask),
        "thick vessel": thick.mask,
        "thin vessel": thin.mask & ~thick.mask,
    }


def _mixed(rng: np.random.Generator, size: int) -> Drawing:
    """Draw dark and bright trees in one image, so that the word decides."""
    colour = _ground(rng, size)
    widths = rng.uniform(2.5, 9.0, 2)
    dark, bright = (render(_loose_tree(rng, size, (1.8, wide)), size) for wide in widths)
    # The bright tree lies on top; where it crosses, the dark one is not seen.
    hidden = 1.0 - bright.coverage
    below = Vessels(coverage=dark.coverage * hidden, depth=dark.depth * hidden)
    _paint(rng, colour, below, sign=-1.0)
    _paint(rng, colour, bright, sign=1.0)
    seen = dark.mask & ~bright.mask
    return _finish(rng, colour), _named(seen | bright.mask, seen, bright.mask)


def _finish(
    rng: np.random.Generator, colour: Float32[np.ndarray, "h w 3"]
) -> UInt8[np.ndarray, "h w 3"]:
    """Return the painted image, sometimes a little out of focus."""
    if rng.random() < 0.5:
        colour = ndimage.gaussian_filter(colour, (0.7, 0.7, 0.0))
    return np.asarray(np.clip(colour, 0, 255).astype(np.uint8))


def draw_case(style: str, *, size: int, rng: np.random.Generator, case_id: str) -> Sample:
    """Return one drawn vessel image with its phrases, "blood vessel" first.

    Args:
        style: Name of a row of `STYLES`.
        size: Side of the image in pixels.
        rng: Source of everything random; the same state draws the same bytes.
        case_id: Name of the case, also its group.

    Raises:
        ValueError: If the style is not known.
    """
    if style not in STYLES:
        raise ValueError(f"unknown style {style!r}. Known: {', '.join(sorted(STYLES))}.")
    image, named = STYLES[style](rng, size)
    return Sample(
        case_id=case_id,
        group=case_id,
        image=image,
        masks=np.stack(list(named.values())),
        phrases=tuple(named),
    )


def all_phrases() -> tuple[str, ...]:
    """Return every phrase a drawn case can carry, shapes included."""
    return VESSEL_PHRASES + SHAPE_PHRASES


VESSEL_PHRASES = (
    BLOOD_VESSEL,
    "dark vessel",
    "bright vessel",
    "background",
    "catheter",
    "thick vessel",
    "thin vessel",
)

PRETRAINING_STYLES = ("cine", "fundus", "octa", "tubes", "mixed")
SYNTH_STYLES = ("xray", "fundus", "octa")

STYLES: Mapping[str, Callable[[np.random.Generator, int], Drawing]] = {
    "cine": _cine,
    "fundus": _fundus,
    "mixed": _mixed,
    "octa": _octa,
    "tubes": _tubes,
    "xray": _xray,
}
