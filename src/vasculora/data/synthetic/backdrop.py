"""What lies behind drawn vessels: clouds, slopes, a chest, noise, the edge of the field of view.

X-ray backdrops are maps of absorption, added up and then put through `expose`, so that ribs,
catheter and vessels overlap as they do on a detector: darkness adds, nothing covers anything.
"""

import numpy as np
from jaxtyping import Bool, Float32, UInt8
from PIL import Image
from scipy import ndimage

Map = Float32[np.ndarray, "h w"]


def clouds(rng: np.random.Generator, size: int, num_cells: int) -> Map:
    """Return a smooth random map of mean near 0 and deviation near 1, `num_cells` blobs across."""
    coarse = rng.standard_normal((num_cells + 2, num_cells + 2)).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC))


def ramp(rng: np.random.Generator, size: int) -> Map:
    """Return a straight slope from -1 to 1 in a random direction."""
    x, y = grid(size)
    angle = rng.uniform(0.0, 2.0 * np.pi)
    return np.float32(np.cos(angle)) * x + np.float32(np.sin(angle)) * y


def grid(size: int) -> tuple[Float32[np.ndarray, "1 w"], Float32[np.ndarray, "h 1"]]:
    """Return x and y from -1 to 1, ready to broadcast."""
    axis = np.linspace(-1.0, 1.0, size, dtype=np.float32)
    return axis[None, :], axis[:, None]


def soft_step(value: Map, width: float) -> Map:
    """Return a step from 0 to 1 at zero, `width` wide."""
    return np.clip(value / np.float32(width) + np.float32(0.5), 0.0, 1.0)


def ribs(rng: np.random.Generator, size: int) -> Map:
    """Return the absorption of a few ribs: broad arcs, denser along their edges.

    The arcs are level lines of one bent coordinate, so that neighbours run alongside each other.
    """
    x, y = grid(size)
    side = np.float32(rng.choice([-1.0, 1.0]))
    across = y + rng.uniform(0.1, 0.5) * (x - side * rng.uniform(0.2, 0.8)) ** 2
    across = across + side * rng.uniform(-0.6, -0.1) * x
    across = across.astype(np.float32)
    period, half = rng.uniform(0.42, 0.65), rng.uniform(0.055, 0.095)
    place = np.abs((across / period + rng.uniform()) % 1.0 - 0.5) * period
    body = soft_step((half - place).astype(np.float32), 0.02)
    cortex = np.exp(-(((place - 0.9 * half) / 0.014) ** 2)).astype(np.float32)
    fade = soft_step(side * x + np.float32(rng.uniform(-0.2, 0.8)), 0.9)
    return np.asarray((0.6 * body + rng.uniform(0.3, 0.9) * cortex) * fade, dtype=np.float32)


def spine(rng: np.random.Generator, size: int) -> Map:
    """Return the absorption of the spine: vertebral bodies with brighter discs between them."""
    x, y = grid(size)
    lean, half = rng.uniform(-0.25, 0.25), rng.uniform(0.16, 0.26)
    centre = rng.choice([-1.0, 1.0]) * rng.uniform(0.35, 0.95)
    across = np.abs(x - centre - lean * y - rng.uniform(-0.1, 0.1) * y * y).astype(np.float32)
    period = rng.uniform(0.42, 0.6)
    along = np.abs((y + 0.15 * x + rng.uniform()) / period % 1.0 - 0.5) * 2.0
    along = np.broadcast_to(along, (size, size)).astype(np.float32)
    waist = half - 0.035 * (1.0 - along)
    body = soft_step((waist - across).astype(np.float32), 0.04) * soft_step(0.86 - along, 0.12)
    plate = np.exp(-(((along - 0.83) / 0.05) ** 2)) * soft_step((waist - across), 0.03)
    band = 0.45 * soft_step(half - across, 0.15)
    return np.asarray(band + 0.4 * body + 0.3 * plate, dtype=np.float32)


def diaphragm(rng: np.random.Generator, size: int) -> Map:
    """Return the absorption below the dome of the diaphragm."""
    x, y = grid(size)
    dome = rng.uniform(0.35, 0.8) + rng.uniform(0.2, 0.5) * (x - rng.uniform(-0.8, 0.8)) ** 2
    return soft_step((y - dome).astype(np.float32), rng.uniform(0.03, 0.1))


def heart(rng: np.random.Generator, size: int) -> Map:
    """Return the absorption of the heart against the lung: a large soft-edged ellipse."""
    x, y = grid(size)
    centre_x, centre_y = rng.uniform(-0.5, 0.5), rng.uniform(-0.1, 0.5)
    turn = rng.uniform(-0.8, 0.8)
    u = np.cos(turn) * (x - centre_x) + np.sin(turn) * (y - centre_y)
    v = np.cos(turn) * (y - centre_y) - np.sin(turn) * (x - centre_x)
    inside = 1.0 - np.sqrt((u / rng.uniform(0.9, 1.3)) ** 2 + (v / rng.uniform(0.6, 0.95)) ** 2)
    return soft_step(inside.astype(np.float32), rng.uniform(0.06, 0.25))


def expose(
    rng: np.random.Generator,
    absorption: Map,
    *,
    blur: float,
    noise: float,
    grain: float,
    grey: tuple[float, float],
) -> Map:
    """Return the picture of an absorption map, as grey values from 0 to 255.

    Args:
        rng: Source of the noise.
        absorption: Line integral at each pixel.
        blur: Standard deviation of the detector's blur, in pixels.
        noise: Quantum noise relative to full signal; it grows with the root of the signal.
        grain: Standard deviation of the noise's own blur, in pixels; 0 is white noise.
        grey: Grey values that the first and the ninety-ninth percentile are put at.
    """
    signal = np.exp(-absorption)
    if blur > 0:
        signal = ndimage.gaussian_filter(signal, blur)
    low, high = np.percentile(signal[::4, ::4], [1.0, 99.0])
    static = rng.standard_normal(signal.shape, dtype=np.float32)
    if grain > 0:
        static = ndimage.gaussian_filter(static, grain)
        static /= static[::4, ::4].std()
    level = (signal - low) / max(high - low, 1e-6)
    level += noise * static * np.sqrt(signal / high)
    return np.asarray(grey[0] + (grey[1] - grey[0]) * level, dtype=np.float32)


def collimator(rng: np.random.Generator, size: int) -> Bool[np.ndarray, "h w"]:
    """Return the field of view left by a round collimator."""
    x, y = grid(size)
    radius = rng.uniform(1.0, 1.25)
    return np.asarray(
        (x - rng.uniform(-0.15, 0.15)) ** 2 + (y - rng.uniform(-0.15, 0.15)) ** 2 < radius**2
    )


def shutters(rng: np.random.Generator, size: int) -> Bool[np.ndarray, "h w"]:
    """Return the field of view left by slanted blades over corners and straight ones at sides."""
    x, y = grid(size)
    open_field = np.ones((size, size), dtype=bool)
    for sign_x in (-1.0, 1.0):
        for sign_y in (-1.0, 1.0):
            if rng.random() < 0.3:
                slant = rng.uniform(0.8, 1.25)
                open_field &= sign_x * x * slant + sign_y * y / slant < rng.uniform(1.5, 1.85)
    edge = rng.uniform(0.97, 1.1, 4)
    open_field &= (x < edge[0]) & (-x < edge[1]) & (y < edge[2]) & (-y < edge[3])
    return open_field


def to_rgb(grey: Map) -> UInt8[np.ndarray, "h w 3"]:
    """Return a grey map as an RGB image."""
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)
