"""Light as each kind of picture knows it, made uneven: LIGHTS is the table.

Changes of an X-ray angiogram multiply the detector's signal, as anatomy out of focus, the tube's
heel and the collimator do, and its noise grows with the root of the signal because it counts
quanta. A fundus camera lights one side more, and its flash and its sensor have a colour. OCTA is
interference: its speckle grows with the signal, its stripes are rows scanned while the eye moved.
None of it hides a vessel completely, for the mask stays.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from vasculora.data.modality import Modality

Picture = UInt8[np.ndarray, "h w c"]


def shade(image: Picture, rng: np.random.Generator) -> Picture:
    """Return the image brighter and darker from place to place, by at most 30 %."""
    field = _clouds(rng, image.shape[:2])
    return _scaled(image, 1 + np.float32(rng.uniform(0.1, 0.3)) * field)


def vignette(image: Picture, rng: np.random.Generator) -> Picture:
    """Return the image darker away from a point near its middle, by at most 45 % in a corner."""
    far = _distance(image.shape[:2], rng.uniform(-0.2, 0.2, size=2))
    return _scaled(image, 1 - np.float32(rng.uniform(0.1, 0.45)) * (far / far.max()) ** 2)


def collimate(image: Picture, rng: np.random.Generator) -> Picture:
    """Return the image with one edge half in the shadow of a slightly slanted blade."""
    height, width = image.shape[:2]
    turned = bool(rng.random() < 0.5)
    across, along = (height, width) if turned else (width, height)
    depth, slant = rng.uniform(0.02, 0.12), rng.uniform(-0.08, 0.08)
    edge = (depth + slant * np.linspace(-0.5, 0.5, along, dtype=np.float32)) * across
    inside = (np.arange(across, dtype=np.float32)[:, None] - edge) / (0.01 * across)
    lit = np.clip(inside + 0.5, 0, 1).astype(np.float32)
    if rng.random() < 0.5:
        lit = lit[::-1]
    dark = np.float32(rng.uniform(0.3, 0.6))
    return _scaled(image, dark + (1 - dark) * (lit if turned else lit.T))


def quanta(image: Picture, rng: np.random.Generator) -> Picture:
    """Return the image with noise that grows with the root of the signal."""
    scale = np.float32(rng.uniform(0.2, 0.8))
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    return _to_greys(image + scale * np.sqrt(image, dtype=np.float32) * noise)


def tint(image: Picture, rng: np.random.Generator) -> Picture:
    """Return the image with another white balance and another saturation; grey ones stay."""
    gains = rng.uniform(0.85, 1.15, size=3).astype(np.float32)
    saturation = np.float32(rng.uniform(0.6, 1.3))
    if image.shape[2] == 1:
        return image
    grey = image.mean(axis=2, keepdims=True, dtype=np.float32)
    coloured: Float32[np.ndarray, "h w 3"] = (grey + saturation * (image - grey)) * gains
    return _to_greys(coloured)


def speckle(image: Picture, rng: np.random.Generator) -> Picture:
    """Return the image with noise that grows with the signal."""
    deviation = np.float32(rng.uniform(0.05, 0.2))
    return _scaled(image, 1 + deviation * rng.standard_normal(image.shape[:2], dtype=np.float32))


def stripe(image: Picture, rng: np.random.Generator) -> Picture:
    """Return the image with a few rows brighter or darker, as an eye that moves leaves them."""
    factors = np.ones((image.shape[0], 1), dtype=np.float32)
    for _ in range(int(rng.integers(1, 7))):
        top, thick = int(rng.integers(image.shape[0])), int(rng.integers(1, 4))
        factors[top : top + thick] = rng.uniform(0.6, 1.5)
    return _scaled(image, factors)


def _clouds(rng: np.random.Generator, size: tuple[int, ...]) -> Float32[np.ndarray, "h w"]:
    """Return a field in [-1, 1] that changes slowly: a few random numbers, interpolated."""
    coarse = Image.fromarray(rng.uniform(-1, 1, size=(4, 4)).astype(np.float32))
    return np.asarray(coarse.resize((size[1], size[0]), Image.Resampling.BILINEAR))


def _distance(size: tuple[int, ...], centre: np.ndarray) -> Float32[np.ndarray, "h w"]:
    """Return how far each pixel is from a point given in halves of the sides, 0 the middle."""
    ys, xs = (np.linspace(-1, 1, side, dtype=np.float32) for side in size)
    far: Float32[np.ndarray, "h w"] = np.hypot(
        ys[:, None] - np.float32(centre[0]), xs - np.float32(centre[1])
    )
    return far


def _scaled(image: Picture, factors: Float32[np.ndarray, "rows columns"]) -> Picture:
    return _to_greys(image * factors[..., None])


def _to_greys(values: Float32[np.ndarray, "h w c"]) -> Picture:
    # Adding a half makes cutting off the decimals a rounding.
    greys: Picture = np.clip(values + np.float32(0.5), 0, 255).astype(np.uint8)
    return greys


LIGHTS: dict[Modality, tuple[Callable[[Picture, np.random.Generator], Picture], ...]] = {
    "xray": (shade, vignette, collimate, quanta),
    "fundus": (shade, vignette, tint),
    "octa": (shade, speckle, stripe),
}
"""What may happen to the light of each kind of picture, in this order."""
