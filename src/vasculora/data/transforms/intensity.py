"""What grey level a pixel has: gamma, contrast, brightness, sharpness, noise, local contrast."""

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageFilter

from vasculora.data.transforms.strength import Strength


def recolour(
    image: UInt8[np.ndarray, "h w c"], rng: np.random.Generator, strength: Strength
) -> UInt8[np.ndarray, "h w c"]:
    """Return the image with other gamma, contrast, brightness, sharpness and noise."""
    gamma = strength.gamma ** rng.uniform(-1, 1)
    contrast = 1 + rng.uniform(-1, 1) * strength.contrast
    brightness = rng.uniform(-1, 1) * strength.brightness
    blurred = rng.random() < strength.blur_share
    radius = rng.uniform(0, strength.blur)
    deviation = rng.uniform(0, strength.noise)
    table = 255 * (np.arange(256) / 255) ** gamma
    mean = table[image].mean()
    table = (table - mean) * contrast + mean + brightness
    image = np.clip(np.round(table), 0, 255).astype(np.uint8)[image]
    if blurred:
        picture = Image.fromarray(image.squeeze(-1) if image.shape[2] == 1 else image)
        image = np.array(picture.filter(ImageFilter.GaussianBlur(radius))).reshape(image.shape)
    if deviation > 0:
        image = _noisy(image, rng, deviation)
    return image


def equalise(image: UInt8[np.ndarray, "h w c"], *, clip_limit: float) -> UInt8[np.ndarray, "h w c"]:
    """Return the image with its local contrast evened out (CLAHE, Zuiderveld 1994).

    A colour image keeps its colours: only its lightness is changed.

    Args:
        image: Grey or RGB.
        clip_limit: How much contrast a place may gain, in (0, 1]; scanners use about 0.01.
    """
    # late: it takes a while to import, and only some levels need it
    from skimage.exposure import equalize_adapthist

    if image.shape[2] == 3:
        lightness, *colours = Image.fromarray(image).convert("YCbCr").split()
        evened = equalise(np.asarray(lightness)[..., None], clip_limit=clip_limit)
        picture = Image.merge("YCbCr", (Image.fromarray(evened[..., 0]), *colours))
        return np.asarray(picture.convert("RGB"))
    shares = equalize_adapthist(image[..., 0], clip_limit=clip_limit)
    greys: UInt8[np.ndarray, "h w 1"] = np.round(shares * 255).astype(np.uint8)[..., None]
    return greys


def _noisy(
    image: UInt8[np.ndarray, "h w c"], rng: np.random.Generator, deviation: float
) -> UInt8[np.ndarray, "h w c"]:
    noise = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(deviation)
    # Adding a half makes cutting off the decimals a rounding.
    noisy: UInt8[np.ndarray, "h w c"] = np.clip(image + noise + 0.5, 0, 255).astype(np.uint8)
    return noisy
