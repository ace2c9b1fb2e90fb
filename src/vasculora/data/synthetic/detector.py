"""What a device makes of a drawn X-ray: noise, sharpening, window, JPEG, the frame around it."""

import io

import numpy as np
from jaxtyping import Float32
from PIL import Image
from scipy import ndimage

from vasculora.data.synthetic import backdrop
from vasculora.data.synthetic.backdrop import Map


def draw_noise(rng: np.random.Generator, size: int) -> Map:
    """Return noise of deviation 1: white, or partly or all smeared by the detector."""
    white = rng.standard_normal((size, size), dtype=np.float32)
    grain = rng.uniform(0.3, 1.1) * size / 256
    if rng.random() < 0.35:
        return white
    smeared = ndimage.gaussian_filter(white, grain, truncate=3.0)
    smeared /= smeared[::4, ::4].std()
    if rng.random() < 0.3:
        smeared = np.float32(0.6) * white + np.float32(0.8) * smeared
    return np.asarray(smeared, dtype=np.float32)


def process(rng: np.random.Generator, grey: Map) -> Map:
    """Return the grey values as a device shows them: sharpened, bent, in steps of a JPEG.

    Args:
        rng: Source of every choice.
        grey: Grey values from 0 to 255.
    """
    scale = len(grey) / 256
    if rng.random() < 0.4:
        soft = ndimage.gaussian_filter(grey, rng.uniform(1.0, 5.0) * scale, truncate=2.5)
        grey = grey + np.float32(rng.uniform(0.2, 1.5)) * (grey - soft)
    if rng.random() < 0.3:
        x, y = backdrop.grid(len(grey))
        grey = grey * (1.0 - np.float32(rng.uniform(0.1, 0.5)) * (x * x + y * y) / 2.0)
    if rng.random() < 0.4:
        gamma = np.float32(np.exp(rng.uniform(-0.45, 0.45)))
        grey = 255.0 * np.power(np.clip(grey / 255.0, 0.0, 1.0), gamma)
    return np.asarray(grey, dtype=np.float32)


def compress(rng: np.random.Generator, grey: Map) -> Map:
    """Return the grey values after a JPEG, or as they are."""
    if rng.random() > 0.3:
        return grey
    buffer = io.BytesIO()
    plain = Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8))
    plain.save(buffer, format="JPEG", quality=int(rng.integers(35, 92)))
    return np.asarray(Image.open(buffer), dtype=np.float32)


def draw_frame(rng: np.random.Generator, size: int) -> Float32[np.ndarray, "h w"]:
    """Return how open the field of view is, from 0 behind a blade to 1: round, eight-sided, box."""
    x, y = backdrop.grid(size)
    x, y = x - np.float32(rng.uniform(-0.1, 0.1)), y - np.float32(rng.uniform(-0.1, 0.1))
    kind = rng.choice(["none", "round", "octagon", "box", "blades"], p=[0.4, 0.12, 0.1, 0.22, 0.16])
    if kind == "none":
        return np.ones((size, size), dtype=np.float32)
    radius = rng.uniform(0.85, 1.25)
    box = np.maximum(np.abs(x), np.abs(y)) - rng.uniform(0.82, 1.05)
    if kind == "round":
        outside = np.hypot(x, y) - radius
    elif kind == "octagon":
        outside = np.maximum(box, (np.abs(x) + np.abs(y)) / 1.414 - radius)
    elif kind == "box":
        outside = box
    else:
        edges = rng.uniform(0.8, 1.2, 2)
        outside = np.maximum(x * rng.choice([-1, 1]) - edges[0], y * rng.choice([-1, 1]) - edges[1])
    return backdrop.soft_step(-outside.astype(np.float32), rng.uniform(0.005, 0.08))


def burn_marks(rng: np.random.Generator, grey: Map) -> Map:
    """Return the grey values with a few letters at the border, or as they are."""
    if rng.random() > 0.1:
        return grey
    size = len(grey)
    side = max(size // 128, 1)
    row = int(rng.choice([rng.uniform(0.02, 0.1), rng.uniform(0.86, 0.93)]) * size)
    column = int(rng.uniform(0.02, 0.75) * size)
    for number in range(int(rng.integers(1, 9))):
        letter = np.kron(rng.random((5, 3)) < 0.6, np.ones((side, side), dtype=bool))
        left = column + number * 4 * side
        part = grey[row : row + 5 * side, left : left + 3 * side]
        part[letter[: part.shape[0], : part.shape[1]]] = rng.choice([250.0, 5.0], p=[0.8, 0.2])
    return grey
