"""The retina as many cameras see it: `fundus_wide` and `octa_wide`.

The vessels are those of `fundus` and `octa`; everything else is drawn from far wider ranges, so
that a camera, a patient or an illness falls inside what was drawn: tint or red-free grey, uneven
light, the bright reflex along vessels, spots that are no vessels, a dark rim; and in the angiogram
the net of capillaries, its dark centre, stripes of motion and brightness.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float32
from PIL import Image, ImageDraw
from scipy import ndimage

from vasculora.data.synthetic import backdrop, phrases
from vasculora.data.synthetic.phrases import Drawing
from vasculora.data.synthetic.retina import arcades, plexus
from vasculora.data.synthetic.tree import Stroke, Vessels, render

Map = Float32[np.ndarray, "h w"]


def draw_fundus_wide(rng: np.random.Generator, size: int) -> Drawing:
    """Draw the back of the eye as any camera might photograph it."""
    side = float(rng.choice([-1.0, 1.0]))
    disc = (side * rng.uniform(0.0, 0.7), rng.uniform(-0.2, 0.2))
    strokes = _widened(arcades(rng, size, side, disc), rng.uniform(0.8, 1.6))
    vessels = render(strokes, size)
    field = _field(rng, size)
    image = _tissue(rng, size, side, disc)
    image *= _blood(rng, vessels, size)[:, :, None] * -_ABSORPTION + 1.0
    if rng.random() < 0.4:
        reflex = render(_widened(strokes[:: int(rng.integers(1, 3))], 0.35), size)
        streak = np.minimum(reflex.depth * np.float32(256 / size), 1.0)
        image += (rng.uniform(8.0, 35.0) * streak).astype(np.float32)[:, :, None]
    if rng.random() < 0.3:
        weights = rng.dirichlet([1.0, 6.0, 1.0]).astype(np.float32)
        image = np.repeat((image @ weights)[:, :, None], 3, axis=2) * rng.uniform(0.9, 1.6)
    image += (
        rng.uniform(0.5, 7.0) * rng.standard_normal(image.shape[:2], dtype=np.float32)[..., None]
    )
    if rng.random() < 0.4:
        blur = rng.uniform(0.4, 0.8) * size / 256
        image = ndimage.gaussian_filter(image, (blur, blur, 0.0))
    image[~field] = rng.uniform(0.0, 15.0)
    return np.clip(image, 0, 255).astype(np.uint8), phrases.dark_only(vessels.mask & field)


def _widened(strokes: list[Stroke], factor: float) -> list[Stroke]:
    """Return the strokes at another width."""
    return [replace(stroke, radius=stroke.radius * factor) for stroke in strokes]


def _field(rng: np.random.Generator, size: int) -> Bool[np.ndarray, "h w"]:
    """Return the round field of view, at times cut above and below or filling the image."""
    x, y = backdrop.grid(size)
    shift = rng.uniform(-0.06, 0.06, 2)
    radius = rng.uniform(0.85, 1.05) if rng.random() < 0.75 else 1.6
    cut = rng.uniform(0.75, 0.95) if rng.random() < 0.25 else 2.0
    return np.asarray(((x - shift[0]) ** 2 + (y - shift[1]) ** 2 < radius**2) & (np.abs(y) < cut))


def _tissue(
    rng: np.random.Generator, size: int, side: float, disc: tuple[float, float]
) -> Float32[np.ndarray, "h w 3"]:
    """Return the retina without vessels: tint, uneven light, macula, disc, spots."""
    x, y = backdrop.grid(size)
    light = 1.0 + rng.uniform(0.0, 0.08) * backdrop.clouds(rng, size, int(rng.integers(3, 9)))
    light += rng.uniform(0.0, 0.03) * backdrop.clouds(rng, size, int(rng.integers(20, 60)))
    light += rng.uniform(0.0, 0.3) * backdrop.ramp(rng, size)
    light -= rng.uniform(0.0, 0.5) * (x**2 + y**2)
    macula = (x - disc[0] + side * rng.uniform(0.45, 0.65)) ** 2 + (y - disc[1]) ** 2
    light -= rng.uniform(0.0, 0.4) * np.exp(-macula / rng.uniform(0.01, 0.05))
    tint = np.array(
        (rng.uniform(120.0, 245.0), rng.uniform(55.0, 135.0), rng.uniform(5.0, 90.0)), np.float32
    )
    image = (np.clip(light, 0.25, None)[:, :, None] * tint).astype(np.float32)
    near = np.sqrt((x - disc[0]) ** 2 + (rng.uniform(0.8, 1.2) * (y - disc[1])) ** 2)
    rim = np.float32(rng.uniform(0.1, 0.2)) - near.astype(np.float32)
    glow = rng.uniform(0.3, 0.9) * backdrop.soft_step(rim, rng.uniform(0.03, 0.1))
    image += glow.astype(np.float32)[:, :, None] * (_DISC - image)
    if rng.random() < 0.35:
        _spot(rng, image, np.array((0.55, 0.3, 0.35), np.float32) * tint)
    if rng.random() < 0.3:
        _spot(rng, image, np.minimum(tint * np.float32(1.5) + 40.0, 255.0).astype(np.float32))
    return image


def _spot(
    rng: np.random.Generator, image: Float32[np.ndarray, "h w 3"], colour: Float32[np.ndarray, " c"]
) -> None:
    """Paint a few bleedings or deposits, round and soft, of one colour."""
    size = len(image)
    canvas = Image.new("L", (size, size))
    pen = ImageDraw.Draw(canvas)
    for _ in range(int(rng.integers(2, 16))):
        x, y = rng.uniform(0.1, 0.9, 2) * size
        wide, high = rng.uniform(0.006, 0.03, 2) * size
        pen.ellipse((x - wide, y - high, x + wide, y + high), fill=int(rng.integers(90, 230)))
    cover = ndimage.gaussian_filter(np.asarray(canvas, dtype=np.float32) / 255.0, size / 200)
    image += cover[:, :, None] * (colour - image)


def _blood(rng: np.random.Generator, vessels: Vessels, size: int) -> Map:
    """Return how much light the vessels take: never so little that they cannot be seen."""
    full = np.float32(256 / size / rng.uniform(2.5, 5.0))
    shade = np.minimum(vessels.depth * full, 1.0) * rng.uniform(0.35, 0.75)
    return np.asarray(shade, dtype=np.float32)


def draw_octa_wide(rng: np.random.Generator, size: int) -> Drawing:
    """Draw an angiogram by OCT as any device might record it."""
    scale = size / 256
    vessels = render(_widened(plexus(rng, size), rng.uniform(0.9, 1.4)), size)
    glow = rng.uniform(0.45, 0.95) * (1.0 + 0.15 * backdrop.clouds(rng, size, 8))
    mesh = rng.uniform(0.1, 0.55) * _capillaries(rng, size)
    light = np.maximum(np.minimum(mesh, 0.75 * glow), vessels.coverage * glow)
    light += rng.uniform(0.0, 0.12) * _haze(rng, size)
    speckle = rng.standard_normal((size, size), dtype=np.float32)
    light *= 1.0 + rng.uniform(0.05, 0.4) * speckle
    light += rng.uniform(0.0, 0.18)
    light *= 1.0 + rng.uniform(0.0, 0.3) * backdrop.ramp(rng, size)
    mask = vessels.mask
    if rng.random() < 0.35:
        light = light + _stripes(rng, size)
    if rng.random() < 0.25:
        light, mask = _shaken(rng, light, mask)
    grey = 255.0 * np.clip(light, 0.0, None) ** rng.uniform(0.8, 1.3)
    if rng.random() < 0.6:
        grey = ndimage.gaussian_filter(grey, rng.uniform(0.4, 1.0) * scale)
    return backdrop.to_rgb(grey.astype(np.float32)), phrases.bright_only(mask)


def _capillaries(rng: np.random.Generator, size: int) -> Map:
    """Return the net of capillaries around a centre that has none, in [0, 1]."""
    scale = size / 256
    x, y = backdrop.grid(size)
    waves = rng.standard_normal((size, size), dtype=np.float32)
    fine, coarse = rng.uniform(0.8, 1.8) * scale, rng.uniform(2.0, 3.4) * scale
    waves = ndimage.gaussian_filter(waves, fine) - ndimage.gaussian_filter(waves, coarse)
    # The zero lines of band-passed noise form a net with meshes of one size.
    width = np.float32(rng.uniform(0.25, 0.6)) * waves[::4, ::4].std()
    mesh = np.exp(-np.square(waves / width))
    mesh *= 1.0 - rng.uniform(0.0, 0.5) * (backdrop.clouds(rng, size, 12) > 0.8)
    shift = rng.uniform(-0.1, 0.1, 2)
    squared = (x - shift[0]) ** 2 + (rng.uniform(0.8, 1.25) * (y - shift[1])) ** 2
    hole = np.exp(-np.square(squared / rng.uniform(0.01, 0.1)))
    return np.asarray(mesh * (1.0 - hole), dtype=np.float32)


def _haze(rng: np.random.Generator, size: int) -> Map:
    """Return what deeper layers project: soft blobs, never negative."""
    return np.asarray(np.abs(backdrop.clouds(rng, size, int(rng.integers(4, 30)))))


def _stripes(rng: np.random.Generator, size: int) -> Map:
    """Return bright lines across the whole image, where the eye moved."""
    rows = np.zeros((size, 1), dtype=np.float32)
    places = rng.integers(0, size, int(rng.integers(1, 6)))
    rows[places] = rng.uniform(0.1, 0.45, (len(places), 1))
    return np.repeat(rows, size, axis=1)


def _shaken(
    rng: np.random.Generator, light: Map, mask: Bool[np.ndarray, "h w"]
) -> tuple[Map, Bool[np.ndarray, "h w"]]:
    """Return image and mask with what lies below a line moved sideways, by a few pixels."""
    fifth = len(light) // 5
    start = int(rng.integers(fifth, len(light) - fifth))
    step = int(rng.choice([-1, 1]) * rng.integers(1, max(len(light) // 64, 1) + 1))
    light, mask = light.copy(), mask.copy()
    light[start:] = np.roll(light[start:], step, axis=1)
    mask[start:] = np.roll(mask[start:], step, axis=1)
    return light, mask


_DISC = np.array((250.0, 215.0, 140.0), dtype=np.float32)
_ABSORPTION = np.array((0.5, 1.0, 0.75), dtype=np.float32)
