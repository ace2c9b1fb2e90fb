"""Coloured shapes on textured ground, each image with several phrases that mean different masks.

They teach the bundled base that the sentence chooses the mask: colour, form and side all occur, and
in some images one phrase names nothing that is there, so its mask is empty.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float32
from PIL import Image, ImageDraw

from vasculora.core.types import Sample
from vasculora.data.synthetic import backdrop

Mask = Bool[np.ndarray, "h w"]
_OVERSAMPLING = 2


def draw_shapes(*, size: int, rng: np.random.Generator, case_id: str) -> Sample:
    """Return one image of two to four shapes and three to six phrases about them.

    Args:
        size: Side of the image in pixels.
        rng: Source of everything random; the same state draws the same bytes.
        case_id: Name of the case, also its group.
    """
    image = _ground(rng, size)
    seen: dict[tuple[str, str], Mask] = {}
    kinds = [(colour, form) for colour in COLOURS for form in FORMS]
    wanted = int(rng.integers(2, 5))
    taken = np.zeros((size, size), dtype=bool)
    for index in rng.permutation(len(kinds)):
        colour, form = kinds[index]
        cover = _draw_form(rng, form, size)
        mask = cover >= 0.5
        if np.any(mask & taken) or not np.any(mask):
            continue
        tint = np.array(COLOURS[colour], dtype=np.float32) + rng.normal(0.0, 10.0, 3)
        image += cover[:, :, None] * (tint.astype(np.float32) - image)
        taken |= mask
        seen[colour, form] = mask
        if len(seen) == wanted:
            break
    image += rng.uniform(0.0, 10.0) * rng.standard_normal(image.shape, dtype=np.float32)
    named = _phrases(rng, seen, size)
    return Sample(
        case_id=case_id,
        group=case_id,
        image=np.clip(image, 0, 255).astype(np.uint8),
        masks=np.stack(list(named.values())),
        phrases=tuple(named),
    )


def _ground(rng: np.random.Generator, size: int) -> Float32[np.ndarray, "h w 3"]:
    """Return a dull textured ground, so that the named colours stand out."""
    base = rng.uniform(50.0, 150.0) + rng.normal(0.0, 8.0, 3)
    shade = rng.uniform(4.0, 14.0) * backdrop.clouds(rng, size, int(rng.integers(3, 40)))
    shade = shade + rng.uniform(0.0, 20.0) * backdrop.ramp(rng, size)
    return (base + shade[:, :, None]).astype(np.float32)


def _draw_form(rng: np.random.Generator, form: str, size: int) -> Float32[np.ndarray, "h w"]:
    """Return the coverage of one shape at a random place, entirely inside the image."""
    side = size * _OVERSAMPLING
    radius = side * rng.uniform(0.08, 0.2)
    x, y = rng.uniform(radius, side - radius, 2)
    turn = rng.uniform(0.0, 2.0 * np.pi)
    canvas = Image.new("L", (side, side))
    pen = ImageDraw.Draw(canvas)
    if form == "circle":
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    elif form == "ring":
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
        hole = 0.6 * radius
        pen.ellipse((x - hole, y - hole, x + hole, y + hole), fill=0)
    else:
        corners = turn + np.array(_CORNERS[form])
        points = np.stack([x + radius * np.cos(corners), y + radius * np.sin(corners)], axis=1)
        pen.polygon([(float(px), float(py)) for px, py in points], fill=255)
    small = canvas.resize((size, size), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32) / np.float32(255.0)


def _phrases(
    rng: np.random.Generator, seen: Mapping[tuple[str, str], Mask], size: int
) -> dict[str, Mask]:
    """Return some phrases and their masks: something named exactly first, the rest shuffled."""
    every = _all_masks(seen, size)
    exact = [f"{colour} {form}" for colour, form in seen]
    rest = [phrase for phrase in every if phrase not in exact]
    chosen = exact[: int(rng.integers(1, len(exact) + 1))]
    count = min(int(rng.integers(2, 5)), len(rest))
    chosen += [rest[index] for index in rng.permutation(len(rest))[:count]]
    if rng.random() < _ABSENT_RATE:
        absent = [phrase for phrase in SHAPE_PHRASES if phrase not in every]
        chosen.append(absent[rng.integers(len(absent))])
    empty = np.zeros((size, size), dtype=bool)
    return {phrase: every.get(phrase, empty) for phrase in chosen}


def _all_masks(seen: Mapping[tuple[str, str], Mask], size: int) -> dict[str, Mask]:
    """Return every phrase that something in the image answers to."""
    every: dict[str, Mask] = {}
    centres: dict[tuple[str, str], float] = {}
    for (colour, form), mask in seen.items():
        names = [f"{colour} {form}", form, f"{colour} shape", "shape"]
        for name in names:
            every[name] = every.get(name, np.zeros((size, size), dtype=bool)) | mask
        centres[colour, form] = float(np.nonzero(mask)[1].mean())
    every["background"] = ~every["shape"]
    every["left shape"] = seen[min(centres, key=lambda key: centres[key])]
    every["right shape"] = seen[max(centres, key=lambda key: centres[key])]
    return every


_ABSENT_RATE = 0.25

_CORNERS: Mapping[str, tuple[float, ...]] = {
    "square": (0.785, 2.356, 3.927, 5.498),
    "triangle": (0.0, 2.094, 4.189),
    "bar": (0.15, 2.99, 3.29, 6.13),
}

COLOURS: Mapping[str, tuple[int, int, int]] = {
    "red": (215, 40, 40),
    "green": (45, 175, 60),
    "blue": (45, 75, 220),
    "yellow": (230, 215, 50),
    "white": (240, 240, 240),
    "black": (12, 12, 12),
}

FORMS = ("circle", "square", "triangle", "bar", "ring")

SHAPE_PHRASES = (
    *(f"{colour} {form}" for colour in COLOURS for form in FORMS),
    *FORMS,
    *(f"{colour} shape" for colour in COLOURS),
    "shape",
    "left shape",
    "right shape",
    "background",
)
