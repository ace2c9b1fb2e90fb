"""Coloured shapes on textured ground, each image with several phrases that mean different masks.

They teach the bundled base that the sentence chooses the mask: colour, form, size and side all
occur, and in some images one phrase names nothing that is there, so its mask is empty. Most images
hold two shapes of one colour or one form, so that no word of "red circle" can be spared. A shape is
large or small, left or right beyond doubt, and phrases about size and side are only said of images
where both kinds are.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image, ImageDraw

from vasculora.core.types import Sample
from vasculora.data.synthetic import backdrop
from vasculora.data.synthetic.phrases import Drawing, Mask

_OVERSAMPLING = 2


@dataclass(frozen=True, kw_only=True)
class _Shape:
    """One shape to draw: what it is, and its centre and radius as shares of the side."""

    colour: str
    form: str
    x: float
    y: float
    radius: float


def draw_shapes(*, size: int, rng: np.random.Generator, case_id: str) -> Sample:
    """Return one image of two to four shapes and three to seven phrases about them.

    Args:
        size: Side of the image in pixels.
        rng: Source of everything random; the same state draws the same bytes.
        case_id: Name of the case, also its group.
    """
    image, seen = _picture(rng, size)
    named = _phrases(rng, seen, size)
    return Sample(
        case_id=case_id,
        group=case_id,
        image=image,
        masks=np.stack(list(named.values())),
        phrases=tuple(named),
    )


def draw_named_shapes(rng: np.random.Generator, size: int) -> Drawing:
    """Draw shapes and return every phrase that something in the image answers to."""
    image, seen = _picture(rng, size)
    by_phrase: dict[str, Mask] = {}
    for group in _groups(seen, size).values():
        by_phrase |= group
    return image, by_phrase


def _picture(
    rng: np.random.Generator, size: int
) -> tuple[UInt8[np.ndarray, "h w 3"], list[tuple[_Shape, Mask]]]:
    """Return an image and what is drawn in it."""
    image = _ground(rng, size)
    seen = []
    for shape in _arrange(rng):
        cover = _draw_form(rng, shape, size)
        tint = np.array(COLOURS[shape.colour], dtype=np.float32) + rng.normal(0.0, 10.0, 3)
        image += cover[:, :, None] * (tint.astype(np.float32) - image)
        seen.append((shape, cover >= 0.5))
    image += rng.uniform(0.0, 10.0) * rng.standard_normal(image.shape, dtype=np.float32)
    return np.clip(image, 0, 255).astype(np.uint8), seen


def _arrange(rng: np.random.Generator) -> list[_Shape]:
    """Return two to four different shapes that lie apart from each other."""
    kinds = _kinds(rng, int(rng.choice([2, 3, 4], p=[0.4, 0.4, 0.2])))
    sided = rng.random() < _SIDED_RATE
    shapes: list[_Shape] = []
    for index, (colour, form) in enumerate(kinds):
        for _ in range(_NUM_TRIES):
            radius = rng.uniform(*_SIZES[int(rng.random() < 0.4)])
            x, y = rng.uniform(radius + 0.01, 0.99 - radius, 2)
            if sided and (abs(x - 0.5) < _MIDDLE or (index == 1 and _same_side(x, shapes[0].x))):
                continue
            if all(np.hypot(x - o.x, y - o.y) > radius + o.radius + 0.01 for o in shapes):
                shapes.append(_Shape(colour=colour, form=form, x=x, y=y, radius=radius))
                break
        if len(shapes) == index:
            break
    return shapes


def _same_side(x: float, other: float) -> bool:
    return bool((x < 0.5) == (other < 0.5))


def _kinds(rng: np.random.Generator, count: int) -> list[tuple[str, str]]:
    """Return different colours and forms, of which the second mostly shares one with the first."""
    every = [(colour, form) for colour in COLOURS for form in FORMS]
    every = [every[index] for index in rng.permutation(len(every))]
    first, rest = every[0], every[1:]
    shared = int(rng.integers(3))
    if shared < 2:
        rest.sort(key=lambda kind: kind[shared] != first[shared])
        rest[1:] = [rest[1 + index] for index in rng.permutation(len(rest) - 1)]
    return [first, *rest][:count]


def _ground(rng: np.random.Generator, size: int) -> Float32[np.ndarray, "h w 3"]:
    """Return a dull textured ground, so that the named colours stand out."""
    base = rng.uniform(80.0, 155.0) + rng.normal(0.0, 8.0, 3)
    shade = rng.uniform(4.0, 14.0) * backdrop.clouds(rng, size, int(rng.integers(3, 40)))
    shade = shade + rng.uniform(0.0, 20.0) * backdrop.ramp(rng, size)
    return (base + shade[:, :, None]).astype(np.float32)


def _draw_form(rng: np.random.Generator, shape: _Shape, size: int) -> Float32[np.ndarray, "h w"]:
    """Return the coverage of one shape, turned at random."""
    side = size * _OVERSAMPLING
    form, radius, x, y = shape.form, side * shape.radius, side * shape.x, side * shape.y
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
    rng: np.random.Generator, seen: list[tuple[_Shape, Mask]], size: int
) -> dict[str, Mask]:
    """Return something named exactly, then up to two phrases of a few attributes by lot."""
    groups = _groups(seen, size)
    exact = groups.pop("exact")
    chosen = dict(list(exact.items())[: int(rng.integers(1, len(exact) + 1))])
    names = [name for name in groups if groups[name]]
    for index in rng.permutation(len(names))[:2]:
        group = groups[names[index]]
        phrases = [list(group)[i] for i in rng.permutation(len(group))[:2]]
        chosen |= {phrase: group[phrase] for phrase in phrases}
    if rng.random() < _ABSENT_RATE:
        chosen[_absent(rng, [shape for shape, _ in seen])] = np.zeros((size, size), dtype=bool)
    if len(chosen) < 3:
        chosen |= exact | groups["every"]
    return chosen


def _absent(rng: np.random.Generator, shapes: list[_Shape]) -> str:
    """Return a colour and a form that are in the image, but never together, if there are such."""
    there = {(shape.colour, shape.form) for shape in shapes}
    crossed = [(one.colour, other.form) for one in shapes for other in shapes]
    absent = [kind for kind in crossed if kind not in there]
    if not absent:
        absent = [(c, f) for c in COLOURS for f in FORMS if (c, f) not in there]
    colour, form = absent[int(rng.integers(len(absent)))]
    return f"{colour} {form}"


def _groups(seen: list[tuple[_Shape, Mask]], size: int) -> dict[str, dict[str, Mask]]:
    """Return every phrase that something in the image answers to, by what it tells apart."""
    groups: dict[str, dict[str, Mask]] = {
        name: {} for name in ("exact", "form", "colour", "size", "side", "every")
    }
    clear = all(abs(shape.x - 0.5) >= _MIDDLE for shape, _ in seen)
    for shape, mask in seen:
        names = {
            "exact": f"{shape.colour} {shape.form}",
            "form": shape.form,
            "colour": f"{shape.colour} shape",
            "size": "small shape" if shape.radius <= _SIZES[0][1] else "large shape",
            "every": "shape",
        }
        if clear:
            names["side"] = "left shape" if shape.x < 0.5 else "right shape"
        for group, name in names.items():
            known = groups[group].get(name, np.zeros((size, size), dtype=bool))
            groups[group][name] = known | mask
    for attribute in ("size", "side"):
        if len(groups[attribute]) < 2:
            groups[attribute] = {}
    groups["every"]["background"] = ~groups["every"]["shape"]
    return groups


_ABSENT_RATE = 0.15
_SIDED_RATE = 0.6
_MIDDLE = 0.1
"""How far from the middle column a centre lies that is left or right of it."""
_SIZES = ((0.09, 0.125), (0.19, 0.25))
"""Radii of small and of large shapes, as shares of the side."""
_NUM_TRIES = 40

_CORNERS: Mapping[str, tuple[float, ...]] = {
    "square": (0.785, 2.356, 3.927, 5.498),
    "triangle": (0.0, 2.094, 4.189),
    "bar": (0.25, 2.892, 3.392, 6.033),
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
    "large shape",
    "small shape",
    "background",
)
