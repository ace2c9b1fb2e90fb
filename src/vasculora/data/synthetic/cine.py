"""The base's drawn coronary angiograms, wider in every respect than real ones.

A base that has seen every chest, device and contrast agent it can meet need not guess from smooth
grounds. So real angiograms shall lie inside the spread of these, which is why every part is drawn
by chance and every strength wider than measured. Vessels are in the truth only as far as they can
be seen: the grey values they cost are compared with noise and ground along each of them.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32
from scipy import ndimage

from vasculora.data.synthetic import backdrop, chest, coronary, detector, phrases
from vasculora.data.synthetic.backdrop import Map
from vasculora.data.synthetic.coronary import Strokes
from vasculora.data.synthetic.phrases import Drawing, Mask
from vasculora.data.synthetic.tree import Stroke, render

_SHARE = (0.015, 0.13)
_NUM_REDRAWS = 5
_NUM_PATCH = 24  # points along a vessel that are judged together


class _Instruments(NamedTuple):
    """Absorption of catheter and wire, and the mask of the catheter where there is one."""

    absorption: Map
    mask: Mask | None


def draw_cine(rng: np.random.Generator, size: int) -> Drawing:
    """Draw dark coronary arteries in front of a chest, as a device shows them."""
    root = (rng.uniform(0.05, 0.95) * size, rng.uniform(0.03, 0.5) * size)
    arms = _plausible_arms(rng, size, root)
    subtracted = rng.random() < 0.1
    ground = chest.draw_subtracted(rng, size) if subtracted else _busy_ground(rng, size)
    instruments = _instruments(rng, size, root, arms)
    contrast = _contrast(rng, size, arms)
    ground = ground + _spill(rng, size, root, contrast)
    open_field = detector.draw_frame(rng, size)
    blur = rng.uniform(0.3, 1.3) * size / 256
    bare = np.exp(-ground)
    shown = np.exp(-instruments.absorption - contrast)
    loss = ndimage.gaussian_filter(bare * (1 - shown), blur, truncate=3.0)
    low, high = _window(rng, subtracted)
    first, last = np.percentile(bare[::4, ::4], [1.0, 99.0])
    # A scene without depth is not stretched: its small differences would swallow the vessels.
    gain = np.float32((high - low) / max(last - first, 0.35 * last))
    grey = high + gain * (bare - last - loss)
    noise = np.exp(rng.uniform(np.log(0.5), np.log(10.0)))
    grey += np.float32(noise) * detector.draw_noise(rng, size) * np.sqrt(bare / last)
    vessel_loss = gain * loss / np.maximum(1 - shown, 1e-3) * (1 - np.exp(-contrast))
    raw = grey.astype(np.float32)
    grey = np.clip(detector.process(rng, raw), 0.0, 255.0).astype(np.float32)
    kept_spread = np.float32(_spread(grey) / max(_spread(raw), 1e-3))
    visible = _visible(arms, vessel_loss * kept_spread, grey, noise * float(kept_spread))
    outside = float(rng.choice([0.0, rng.uniform(0.0, 130.0)]))
    grey = grey * open_field + (1 - open_field) * outside
    grey = detector.compress(rng, detector.burn_marks(rng, grey))
    by_phrase = _named(visible, size, open_field > 0.5)
    if instruments.mask is not None:
        by_phrase["catheter"] = instruments.mask & (open_field > 0.5) & ~by_phrase["blood vessel"]
    return backdrop.to_rgb(grey), by_phrase


def _plausible_arms(
    rng: np.random.Generator, size: int, root: tuple[float, float]
) -> tuple[Strokes, ...]:
    """Return the arms of a tree that covers a plausible share, estimated before rendering."""
    arms: tuple[Strokes, ...] = ()
    for _ in range(_NUM_REDRAWS):
        arms = coronary.grow_coronary(rng, size, root)
        area = 0.0
        for stroke in (stroke for arm in arms for stroke in arm):
            inside = np.all((stroke.points > 0) & (stroke.points < size), axis=1)
            area += float(stroke.radius[inside].sum()) * size / 256
        if _SHARE[0] < area / size**2 < _SHARE[1]:
            break
    return arms


def _busy_ground(rng: np.random.Generator, size: int) -> Map:
    """Return the absorption of a chest with shadows and hardware, with or without a veil."""
    ground = chest.draw_chest(rng, size) * np.float32(rng.uniform(0.4, 1.3))
    if rng.random() < 0.7:
        ground += np.float32(rng.uniform(0.02, 0.2)) * chest.draw_shadows(rng, size)
    if rng.random() < 0.4:
        ground += np.float32(rng.uniform(0.2, 1.2)) * chest.draw_hardware(rng, size)
    return ground


def _spread(grey: Map) -> float:
    """Return how far apart the dark and the light parts of a picture are, in grey values."""
    low, high = np.percentile(grey[::4, ::4], [5.0, 95.0])
    return float(high - low)


def _window(rng: np.random.Generator, subtracted: bool) -> tuple[float, float]:
    """Return the grey values of the densest and of the thinnest part of the chest."""
    if subtracted:
        high = rng.uniform(140.0, 235.0)
        return high - rng.uniform(40.0, 120.0), high
    low = rng.uniform(15.0, 110.0)
    return low, low + rng.uniform(60.0, 190.0)


def _contrast(rng: np.random.Generator, size: int, arms: tuple[Strokes, ...]) -> Map:
    """Return the absorption of the arms; where arms cross, it adds."""
    scale = size / 256
    # Below 1 thin vessels are nearly as dark as thick ones, as after a device's own processing.
    power = rng.uniform(0.55, 1.1)
    per_pixel = np.exp(rng.uniform(np.log(0.06), np.log(0.3)))
    total = np.zeros((size, size), dtype=np.float32)
    for arm in arms:
        total += np.power(render(arm, size).depth / np.float32(scale), np.float32(power))
    if rng.random() < 0.2:
        shift = rng.integers(-2, 3, 2)
        moved = np.roll(total, tuple(int(step) for step in shift), axis=(0, 1))
        total = np.float32(0.5) * (total + moved)
    return np.asarray(np.float32(per_pixel) * total, dtype=np.float32)


def _spill(rng: np.random.Generator, size: int, root: tuple[float, float], contrast: Map) -> Map:
    """Return contrast outside vessels: in the aortic root, and in the muscle behind the twigs."""
    spill = np.zeros((size, size), dtype=np.float32)
    if rng.random() < 0.3:
        x = np.arange(size, dtype=np.float32)[None, :] - np.float32(root[0])
        y = np.arange(size, dtype=np.float32)[:, None] - np.float32(root[1])
        wide = rng.uniform(6.0, 28.0, 2) * size / 256
        blob = np.exp(-((x / wide[0]) ** 2) - (y / wide[1]) ** 2)
        patchy = np.clip(0.7 + 0.5 * backdrop.clouds(rng, size, 12), 0.0, 1.5)
        spill += np.float32(rng.uniform(0.1, 0.7)) * (blob * patchy).astype(np.float32)
    if rng.random() < 0.3:
        coarse = ndimage.gaussian_filter(contrast[::4, ::4], 4.0 * size / 256)
        near = np.repeat(np.repeat(coarse / (coarse.max() + 1e-6), 4, axis=0), 4, axis=1)
        near = ndimage.uniform_filter(near[:size, :size], 5)
        patchy = np.clip(backdrop.clouds(rng, size, 8), 0.0, 2.0)
        spill += np.float32(rng.uniform(0.05, 0.3)) * near * patchy
    return spill


def _instruments(
    rng: np.random.Generator, size: int, root: tuple[float, float], arms: tuple[Strokes, ...]
) -> _Instruments:
    """Return catheter and guide wire, each there or not."""
    scale = np.float32(size / 256)
    total, mask = np.zeros((size, size), dtype=np.float32), None
    if rng.random() < 0.75:
        wide = rng.uniform(2.0, 7.0)
        catheter = coronary.draw_catheter(rng, size, root, wide)
        drawn = render(catheter, size)
        depth = drawn.depth
        if rng.random() < 0.5:
            lumen = coronary.hollow(catheter, rng.uniform(0.5, 0.8))
            depth = depth - np.float32(rng.uniform(0.5, 1.0)) * render(lumen, size).depth
        total += np.float32(rng.uniform(0.15, 0.9) / wide) / scale * depth
        mask = drawn.mask
    if rng.random() < 0.2:
        wire = coronary.guide_wire(rng, arms[int(rng.integers(len(arms)))], size)
        depth = np.minimum(render((wire,), size).depth / scale, 1.0)
        total += np.float32(rng.uniform(0.2, 0.9)) * depth
    return _Instruments(total, mask)


def _visible(arms: tuple[Strokes, ...], loss: Map, grey: Map, noise: float) -> tuple[Stroke, ...]:
    """Return what can be seen of the strokes.

    The bar is four grey values, or more where noise or the ground's own structure is stronger.
    """
    scale = len(grey) / 256
    small = grey[::2, ::2]
    rough = small - ndimage.uniform_filter(small, 9)
    # The median leaves the vessels themselves out of the measure.
    bar = max(4.0, 0.5 * noise + 0.8 * float(np.median(np.abs(rough))))
    seen = []
    for stroke in (stroke for arm in arms for stroke in arm):
        x, y = np.clip(stroke.points, 0, len(grey) - 1).astype(int).T
        window = max(int(_NUM_PATCH * scale), 3)
        along = ndimage.uniform_filter1d(loss[y, x].astype(np.float64), window, mode="nearest")
        # A longer vessel is found at less contrast, a thin one covers fewer pixels.
        kept = along * np.sqrt(np.clip(stroke.radius / scale, 0.3, 3.0)) > bar
        if kept.any():
            seen.append(_part(stroke, kept, least=0.6 * scale))
    return tuple(seen)


def _part(stroke: Stroke, kept: Bool[np.ndarray, " k"], *, least: float) -> Stroke:
    """Return the kept points of a stroke, none so thin that the mask would lose it."""
    return replace(
        stroke,
        points=stroke.points[kept],
        radius=np.maximum(stroke.radius[kept], least),
        strength=stroke.strength[kept],
    )


def _named(
    visible: tuple[Stroke, ...], size: int, field: Bool[np.ndarray, "h w"]
) -> dict[str, Mask]:
    """Return the masks by phrase, thick and thin ones only where the tree clearly has both."""
    mask = render(visible, size).mask & field
    by_phrase = phrases.dark_only(mask)
    if not visible:
        return by_phrase
    bar = _halfway(visible)
    thick = tuple(_part(s, s.radius >= bar, least=0.0) for s in visible)
    broad = render(thick, size).mask & mask
    if _clear(broad, mask) and _clear(mask & ~broad, mask) and bar >= 1.3 * size / 256:
        by_phrase["thick vessel"] = broad
        by_phrase["thin vessel"] = mask & ~broad
    return by_phrase


def _halfway(visible: tuple[Stroke, ...]) -> float:
    """Return the radius half way between the thinnest and the thickest vessels."""
    radius: Float32[np.ndarray, " k"] = np.concatenate([s.radius for s in visible])
    thin, thick = np.percentile(radius, [5.0, 97.0])
    return float(np.inf) if thick < 2.5 * thin else float(np.sqrt(thin * thick))


def _clear(part: Mask, mask: Mask) -> bool:
    """Return whether a part is a fair share of the whole."""
    return bool(part.sum() > 0.15 * mask.sum())
