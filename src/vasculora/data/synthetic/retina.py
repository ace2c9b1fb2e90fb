"""Drawn pictures of the retina: `fundus`, the colour photograph, and `octa`, the angiogram by OCT.

In `octa` only the larger vessels are "blood vessel"; the mesh of capillaries is ground, as in the
large-vessel truth of public sets.
"""

import numpy as np
from jaxtyping import Bool, UInt8
from scipy import ndimage

from vasculora.data.synthetic import backdrop, phrases
from vasculora.data.synthetic.phrases import Drawing
from vasculora.data.synthetic.tree import Stroke, Vessels, grow_tree, render


def draw_fundus(rng: np.random.Generator, size: int) -> Drawing:
    """Draw the back of the eye: dark vessels from the optic disc, in bows around the macula."""
    side = float(rng.choice([-1.0, 1.0]))
    disc = (side * rng.uniform(0.05, 0.6), rng.uniform(-0.15, 0.15))
    vessels = render(arcades(rng, size, side, disc), size)
    x, y = backdrop.grid(size)
    field = np.asarray(x**2 + y**2 < rng.uniform(0.85, 1.05) ** 2)
    return _photograph(rng, vessels, field, side, disc), phrases.dark_only(vessels.mask & field)


def arcades(
    rng: np.random.Generator, size: int, side: float, disc: tuple[float, float]
) -> list[Stroke]:
    """Return an artery and a vein for each quarter; those of the macula's side bow around it."""
    root = ((disc[0] + 1.0) * size / 2, (disc[1] + 1.0) * size / 2)
    toward = np.pi if side > 0 else 0.0
    strokes: list[Stroke] = []
    for up in (-1.0, 1.0):
        for lean, bow in ((0.3, 1.0), (-0.7, -0.5)):
            heading = up * np.pi / 2 + lean * up * side + rng.normal(0.0, 0.2)
            turn = np.sign(np.sin(toward - heading)) * bow
            for wide in (rng.uniform(2.8, 4.2), rng.uniform(2.0, 3.2)):
                strokes += grow_tree(
                    rng,
                    size,
                    start=root,
                    heading=heading + rng.normal(0.0, 0.25),
                    length=rng.uniform(100.0, 160.0) * (1.0 if bow > 0 else 0.75),
                    width=(1.3, wide),
                    num_levels=2,
                    branch_gap=rng.uniform(28.0, 42.0),
                    branch_angle=(0.4, 0.9),
                    bend=0.018,
                    drift=turn * rng.uniform(0.002, 0.009),
                    fade=rng.uniform(0.0, 0.4),
                )
    return strokes


def _photograph(
    rng: np.random.Generator,
    vessels: Vessels,
    field: Bool[np.ndarray, "h w"],
    side: float,
    disc: tuple[float, float],
) -> UInt8[np.ndarray, "h w 3"]:
    """Return the colour picture: light, macula, optic disc, vessels, noise, dark surround."""
    size = len(field)
    x, y = backdrop.grid(size)
    light = 1.0 + 0.08 * backdrop.clouds(rng, size, 6) + 0.15 * backdrop.ramp(rng, size)
    light -= np.float32(rng.uniform(0.1, 0.4)) * (x**2 + y**2)
    macula = (x - disc[0] + side * 0.55) ** 2 + (y - disc[1]) ** 2
    light -= np.float32(rng.uniform(0.1, 0.35)) * np.exp(-macula / np.float32(0.03))
    near = np.sqrt((x - disc[0]) ** 2 + (y - disc[1]) ** 2).astype(np.float32)
    glow = 0.8 * backdrop.soft_step(np.float32(rng.uniform(0.11, 0.16)) - near, 0.04)
    shade = np.minimum(vessels.depth * np.float32(256 / size / 4.0), 1.0) * rng.uniform(0.35, 0.7)
    static = rng.standard_normal((3, size, size), dtype=np.float32) * rng.uniform(1.0, 6.0)
    outside = rng.uniform(0.0, 12.0)
    tint = (rng.uniform(170.0, 235.0), rng.uniform(70.0, 120.0), rng.uniform(15.0, 70.0))
    image = np.empty((size, size, 3), dtype=np.uint8)
    for channel, (pale, taken) in enumerate(zip(_DISC_COLOUR, _BLOOD_ABSORPTION, strict=True)):
        plane = light * np.float32(tint[channel])
        plane += glow * (np.float32(pale) - plane)
        plane *= 1.0 - shade.astype(np.float32) * np.float32(taken)
        plane += static[channel]
        plane[~field] = outside
        image[:, :, channel] = np.clip(plane, 0.0, 255.0)
    return image


def draw_octa(rng: np.random.Generator, size: int) -> Drawing:
    """Draw bright vessels that come in from the border, over capillaries around a dark centre."""
    vessels = render(plexus(rng, size), size)
    scale = size / 256
    x, y = backdrop.grid(size)
    waves = rng.standard_normal((size, size), dtype=np.float32)
    fine, coarse = rng.uniform(0.9, 1.6) * scale, rng.uniform(2.0, 2.8) * scale
    waves = ndimage.gaussian_filter(waves, fine) - ndimage.gaussian_filter(waves, coarse)
    # The zero lines of band-passed noise form a net with meshes of one size.
    mesh = np.exp(-np.square(waves / (np.float32(0.4) * waves[::4, ::4].std())))
    centre = np.square((x**2 + y**2) / np.float32(rng.uniform(0.02, 0.06)))
    light = np.float32(rng.uniform(0.1, 0.5)) * mesh * (1.0 - np.exp(-centre))
    glow = rng.uniform(0.5, 0.9) * (1.0 + 0.15 * backdrop.clouds(rng, size, 8))
    light = np.maximum(light, vessels.coverage * glow.astype(np.float32))
    speckle = rng.standard_normal((size, size), dtype=np.float32)
    light *= 1.0 + np.float32(rng.uniform(0.1, 0.4)) * speckle
    grey = 255.0 * (light + np.float32(rng.uniform(0.02, 0.15)))
    if rng.random() < 0.5:
        grey = ndimage.gaussian_filter(grey, rng.uniform(0.4, 0.8) * scale)
    return backdrop.to_rgb(grey), phrases.bright_only(vessels.mask)


def plexus(rng: np.random.Generator, size: int) -> list[Stroke]:
    """Return trees with roots all around the border that run past the centre."""
    strokes: list[Stroke] = []
    turn = rng.uniform(0.0, 2.0 * np.pi)
    count = int(rng.integers(6, 11))
    for index in range(count):
        angle = turn + 2.0 * np.pi * index / count + rng.normal(0.0, 0.15)
        root = np.clip(0.5 + 0.75 * np.array([np.cos(angle), np.sin(angle)]), 0.0, 1.0) * size
        inward = float(np.arctan2(size / 2 - root[1], size / 2 - root[0]))
        # Straight at the centre they would cross the dark zone that has no vessels.
        aside = rng.choice([-1.0, 1.0]) * rng.uniform(0.25, 0.8)
        strokes += grow_tree(
            rng,
            size,
            start=(float(root[0]), float(root[1])),
            heading=inward + aside,
            length=rng.uniform(80.0, 150.0),
            width=(1.5, rng.uniform(2.5, 4.6)),
            num_levels=2,
            branch_gap=rng.uniform(26.0, 42.0),
            bend=0.03,
            wiggle=rng.uniform(0.0, 0.35),
        )
    return strokes


_DISC_COLOUR = (250.0, 215.0, 140.0)
_BLOOD_ABSORPTION = (0.55, 1.0, 0.8)
