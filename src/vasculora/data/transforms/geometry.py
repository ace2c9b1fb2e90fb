"""Where things are: mirror images, and one resampling that turns, zooms, shifts and bends.

The border is filled with mirror images because a black wedge is an edge no angiogram has. A bend is
a cubic B-spline through displacements drawn on a coarse lattice (Rueckert et al. 1999): with them
bounded, neighbours a pixel apart stay within `1 + 2 * elastic * SPANS` pixels of each other, so
nothing folds or tears. It is added to the affine map at the nodes of a mesh, between which Pillow
interpolates, so an image is resampled once however many things move it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from vasculora.data.transforms.sides import Flips, allowed_flips
from vasculora.data.transforms.strength import Strength

SPANS = 4
"""Spans of the spline along a side: the fewer, the slower a bend changes."""
_CELLS = 16  # of the mesh along a side: four a span, between which a spline is nearly straight


@dataclass(frozen=True)
class _Warp:
    """One resampling as Pillow wants it: from where in the padded source each pixel comes."""

    margin: int
    method: Image.Transform
    data: Any


def draw_flips(rng: np.random.Generator, phrases: Sequence[str], *, size: tuple[int, ...]) -> Flips:
    """Return one of the positions that keep shape and phrases: of 8 for a square, of 4 else.

    Args:
        rng: Source of randomness; it gives three numbers whatever is allowed.
        phrases: What the sample asks for; sides of a body forbid its mirror image.
        size: Height and width of the image.
    """
    left_right, up_down, diagonal = (rng.random(3) < 0.5).tolist()
    allowed = allowed_flips(phrases)
    return Flips(
        left_right=left_right and allowed.left_right,
        up_down=up_down and allowed.up_down,
        diagonal=diagonal and allowed.diagonal and size[0] == size[1],
    )


def mirror(
    image: UInt8[np.ndarray, "h w c"], masks: Bool[np.ndarray, "n h w"], flips: Flips
) -> tuple[UInt8[np.ndarray, "h2 w2 c"], Bool[np.ndarray, "n h2 w2"]]:
    """Return image and masks flipped alike."""
    if flips.left_right:
        image, masks = image[:, ::-1], masks[:, :, ::-1]
    if flips.up_down:
        image, masks = image[::-1], masks[:, ::-1]
    if flips.diagonal:
        image, masks = image.swapaxes(0, 1), masks.swapaxes(1, 2)
    return np.ascontiguousarray(image), np.ascontiguousarray(masks)


def move(
    image: UInt8[np.ndarray, "h w c"],
    masks: Bool[np.ndarray, "n h w"],
    rng: np.random.Generator,
    strength: Strength,
) -> tuple[UInt8[np.ndarray, "h w c"], Bool[np.ndarray, "n h w"]]:
    """Return image and masks moved and bent alike; outside lies the mirror image."""
    height, width = image.shape[:2]
    angle = math.radians(rng.uniform(-1, 1) * strength.rotation)
    zoom = strength.zoom ** rng.uniform(-1, 1)
    shift = rng.uniform(-1, 1, size=2) * strength.shift * (width, height)
    # Pillow asks where in the source a pixel of the result comes from.
    back = (
        np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]) / zoom
    )
    centre = np.array([width, height]) / 2
    offset = centre - back @ (centre + shift)
    size = (height, width)
    if strength.elastic > 0:
        lattice = rng.uniform(-1, 1, size=(2, SPANS + 3, SPANS + 3))
        warp = _bent(back, offset, lattice * strength.elastic * min(size), size)
    else:
        warp = _straight(back, offset, size)
    return _warp_image(image, warp), _warp_masks(masks, warp)


def _straight(
    back: Float[np.ndarray, "2 2"], offset: Float[np.ndarray, "2"], size: tuple[int, int]
) -> _Warp:
    height, width = size
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]]) @ back.T + offset
    margin = _margin(corners, size)
    data = (*back[0], offset[0] + margin, *back[1], offset[1] + margin)
    return _Warp(margin, Image.Transform.AFFINE, data)


def _bent(
    back: Float[np.ndarray, "2 2"],
    offset: Float[np.ndarray, "2"],
    lattice: Float[np.ndarray, "2 rows columns"],
    size: tuple[int, int],
) -> _Warp:
    height, width = size
    ys, xs = (_edges(side) for side in size)
    bend = _spline(ys / height) @ lattice @ _spline(xs / width).T
    nodes = np.stack(np.meshgrid(xs, ys), axis=-1) @ back.T + offset + np.moveaxis(bend, 0, -1)
    margin = _margin(nodes.reshape(-1, 2), size)
    nodes += margin
    # in Pillow's order: upper left, lower left, lower right, upper right
    corners = [nodes[:-1, :-1], nodes[1:, :-1], nodes[1:, 1:], nodes[:-1, 1:]]
    quads = np.concatenate(corners, axis=-1).reshape(-1, 8).tolist()
    rows, columns = ys.tolist(), xs.tolist()
    boxes = [
        (left, top, right, bottom)
        for top, bottom in pairwise(rows)
        for left, right in pairwise(columns)
    ]
    return _Warp(margin, Image.Transform.MESH, list(zip(boxes, quads, strict=True)))


def _edges(side: int) -> np.ndarray:
    cells = min(_CELLS, side)
    return np.round(np.linspace(0, side, cells + 1)).astype(int)


def _spline(at: Float[np.ndarray, " nodes"]) -> Float[np.ndarray, "nodes controls"]:
    """Return how much each control counts at positions from 0 to 1: the uniform cubic B-spline."""
    far = np.abs(at[:, None] * SPANS - np.arange(-1, SPANS + 2))
    close = 2 / 3 - far**2 + far**3 / 2
    return np.where(far < 1, close, np.clip(2 - far, 0, None) ** 3 / 6)


def _margin(points: Float[np.ndarray, "points 2"], size: tuple[int, int]) -> int:
    """Return by how much the source is to be continued, for all points to lie in it."""
    height, width = size
    outside = max(0.0, -points.min(), *(points - (width, height)).max(axis=0))
    # two pixels more than the points reach, for the interpolation
    return min(int(np.ceil(outside)) + 2, height - 1, width - 1)


def _warp_image(image: UInt8[np.ndarray, "h w c"], warp: _Warp) -> UInt8[np.ndarray, "h w c"]:
    height, width, num_channels = image.shape
    margin = warp.margin
    padded = np.pad(image, ((margin, margin), (margin, margin), (0, 0)), mode="reflect")
    picture = Image.fromarray(padded.squeeze(-1) if num_channels == 1 else padded)
    warped = picture.transform((width, height), warp.method, warp.data, Image.Resampling.BICUBIC)
    return np.asarray(warped).reshape(height, width, num_channels)


def _warp_masks(masks: Bool[np.ndarray, "n h w"], warp: _Warp) -> Bool[np.ndarray, "n h w"]:
    num_masks, height, width = masks.shape
    warped = np.empty_like(masks)
    for i in range(num_masks):
        padded = np.pad(masks[i].view(np.uint8) * np.uint8(255), warp.margin, mode="reflect")
        moved = Image.fromarray(padded).transform(
            (width, height), warp.method, warp.data, Image.Resampling.BILINEAR
        )
        # Interpolated and cut in the middle, an edge moves by fractions of a pixel instead of whole
        # ones.
        warped[i] = np.asarray(moved) >= 128
    return warped
