"""NumPy archives (`.npz`): an image and its mask, or a stack of both, one picture at a time.

An archive holds one array of images and one of masks, known by their names, as MedSAM's `imgs` and
`gts`. Their shapes decide what they are: (h, w) or (h, w, 3) is one picture, (n, h, w) or
(n, h, w, 3) a stack of n.

Sizes are read from the arrays' own heads before anything is unpacked, and nothing is unpickled. As
with image files, no value is stretched by a picture's own range: images are 8 bit, or 16 bit and
floats (0 to 1) by their full range, judged over the whole stack, for its frames belong together. A
mask has 0 and one other value.
"""

import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped, UInt8

from vasculora.core.limits import MAX_PIXELS

ARCHIVE_SUFFIX = ".npz"
IMAGE_KEYS = ("image", "images", "img", "imgs")
MASK_KEYS = ("mask", "masks", "label", "labels", "gt", "gts")
GROUP_KEYS = ("group", "groups")

MAX_ARRAY_BYTES = 2**30
"""Largest array that is unpacked; it is in memory as a whole."""

_LEAST_SHARE = 1 / 16  # of the full range; what stays below is of another range
_MAX_GROUP_BYTES = 4096  # a thousand letters
_NUM_KEPT = 2
_CURE = "Save it anew with numpy.savez_compressed."
# zipfile and NumPy raise all of these on damaged archives.
_UNREADABLE = (
    ArithmeticError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True, kw_only=True)
class Archive:
    """What an archive holds.

    Attributes:
        image: Name of the array of images.
        mask: Name of the array of masks.
        num_frames: Pictures in it; None where it is one picture and no stack.
        groups: Patient of each picture; empty where it does not say.
    """

    image: str
    mask: str
    num_frames: int | None
    groups: tuple[str, ...] = ()


def read_archive(path: Path) -> Archive | None:
    """Return what an archive holds, without unpacking a picture; None without image and mask.

    Raises:
        ValueError: If it is damaged, or its arrays are no images and masks that belong together.
    """
    with _opened(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
        image, mask = (_one_of(path, names, keys) for keys in (IMAGE_KEYS, MASK_KEYS))
        if image is None or mask is None:
            return None
        shapes = [_shape(path, archive, name) for name in (image, mask)]
        num_frames = _num_frames(path, *shapes)
        key = _one_of(path, names, GROUP_KEYS)
        groups = () if key is None else _groups(path, archive, key, num_frames or 1)
    return Archive(image=image, mask=mask, num_frames=num_frames, groups=groups)


def read_archive_image(path: Path, frame: int | None) -> UInt8[np.ndarray, "h w 3"]:
    """Return a picture of an archive as RGB.

    Args:
        path: The archive.
        frame: Which picture of a stack, from 0 on; None where it is no stack.

    Raises:
        ValueError: If it cannot be read, has no such picture, or would have to be guessed at.
    """
    values = _one(path, *_arrays(path, _stamp(path))[0], frame)
    return np.repeat(values[..., None], 3, axis=2) if values.ndim == 2 else values.copy()


def read_archive_mask(path: Path, frame: int | None) -> Bool[np.ndarray, "h w"]:
    """Return a mask of an archive; arguments and errors as with `read_archive_image`."""
    return _one(path, *_arrays(path, _stamp(path))[1], frame).copy()


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except PermissionError:
        raise
    except _UNREADABLE as error:
        if str(error).startswith(str(path)):  # said below in full
            raise
        raise ValueError(
            f"{path}: cannot be read as a NumPy archive ({error or type(error).__name__}). {_CURE}"
        ) from error


def _one_of(path: Path, names: list[str], keys: tuple[str, ...]) -> str | None:
    found = [name for name in names if name in keys]
    if len(found) > 1:
        raise ValueError(
            f"{path}: holds {' and '.join(found)}, and only one of them can count. Take one out."
        )
    return found[0] if found else None


def _head(file: Any) -> tuple[tuple[int, ...], "np.dtype[Any]"]:
    """Return the shape and kind of an array in an open file from its head alone."""
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    shape, _, dtype = readers[np.lib.format.read_magic(file)](file)
    return shape, dtype


def _shape(path: Path, archive: zipfile.ZipFile, name: str) -> tuple[int, ...]:
    """Return the shape of an array that may be unpacked."""
    with archive.open(f"{name}.npy") as file:
        shape, dtype = _head(file)
    if dtype.kind not in "buif":
        raise ValueError(
            f"{path}: its array '{name}' is of kind '{dtype}', which holds no plain numbers. Save "
            "an array of numbers, as uint8, of one size for all pictures."
        )
    if not shape or min(shape) < 1:
        raise ValueError(f"{path}: its array '{name}' is empty, of shape {shape}. Save it anew.")
    num_bytes = dtype.itemsize
    for length in shape:
        num_bytes *= length
    if num_bytes > MAX_ARRAY_BYTES:
        raise ValueError(
            f"{path}: its array '{name}' takes {num_bytes / 2**30:.1f} GiB unpacked, and "
            f"{MAX_ARRAY_BYTES / 2**30:g} is the most. Divide it into several archives."
        )
    return shape


def _num_frames(path: Path, image: tuple[int, ...], mask: tuple[int, ...]) -> int | None:
    """Return the number of frames of a stack, None for one picture."""
    layout = _layout(image, mask)
    if layout is None:
        raise ValueError(
            f"{path}: images of shape {image} and masks of shape {mask} do not belong together. "
            "Save (h, w) or (h, w, 3) with (h, w), or (n, h, w) or (n, h, w, 3) with (n, h, w)."
        )
    if layout[-1] * layout[-2] > MAX_PIXELS:
        raise ValueError(
            f"{path}: larger than {MAX_PIXELS // 1_000_000} million pixels. Cut it into smaller "
            "images."
        )
    return layout[0] if len(layout) == 3 else None


def _layout(image: tuple[int, ...], mask: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the shape that images, but for their channels, and masks have in common."""
    # A last length of 1 is a channel rather than a column.
    of_masks = [mask[:-1], mask] if mask[-1] == 1 else [mask]
    of_images = [image, image[:-1]] if image[-1] in (1, 3) else [image]
    both = (shape for shape in of_masks if shape in of_images and len(shape) in (2, 3))
    return next(both, None)


def _groups(path: Path, archive: zipfile.ZipFile, key: str, num_wanted: int) -> tuple[str, ...]:
    with archive.open(f"{key}.npy") as file:
        shape, dtype = _head(file)
    if dtype.kind not in "Uiu" or shape not in ((num_wanted,), () if num_wanted == 1 else None):
        raise ValueError(
            f"{path}: its array '{key}' has shape {shape} and kind '{dtype}', but must name the "
            f"patient of each of {num_wanted} pictures, as text or numbers. Save it so, or take it "
            "out."
        )
    if dtype.kind == "U" and dtype.itemsize > _MAX_GROUP_BYTES:
        raise ValueError(
            f"{path}: its array '{key}' keeps {dtype.itemsize} bytes for each name of a group, and "
            f"{_MAX_GROUP_BYTES} is the most. Use shorter names."
        )
    with archive.open(f"{key}.npy") as file:
        values = np.lib.format.read_array(file, allow_pickle=False)
    groups = tuple(str(value).strip() for value in np.atleast_1d(values).tolist())
    if not all(groups):
        raise ValueError(f"{path}: its array '{key}' leaves a group empty. Fill it in.")
    return groups


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size


@lru_cache(maxsize=_NUM_KEPT)
def _arrays(path: Path, stamp: tuple[int, int]) -> tuple[tuple[Any, bool], tuple[Any, bool]]:
    """Return images and masks of an archive, and whether they are stacks.

    The last ones are kept, because all frames of a stack are asked for one after the other.
    """
    held = read_archive(path)
    if held is None:
        raise ValueError(
            f"{path}: holds no image with a mask. Name the arrays image and mask, or imgs and gts."
        )
    stacked = held.num_frames is not None
    with _opened(path) as archive:
        images, masks = (_unpacked(archive, name) for name in (held.image, held.mask))
        layout = _layout(images.shape, masks.shape)
        assert layout is not None  # `read_archive` has seen the same shapes
        greys = images.reshape(layout if images.size == masks.size else (*layout, 3))
        return (
            (_as_bytes(path, held.image, greys), stacked),
            (_as_mask(path, held.mask, masks.reshape(layout)), stacked),
        )


def _unpacked(archive: zipfile.ZipFile, name: str) -> Shaped[np.ndarray, "..."]:
    with archive.open(f"{name}.npy") as file:
        return np.asarray(np.lib.format.read_array(file, allow_pickle=False))


def _as_bytes(path: Path, name: str, values: Shaped[np.ndarray, "..."]) -> UInt8[np.ndarray, "..."]:
    if values.dtype == np.uint8:
        return values
    full = {"u2": 65535.0, "f2": 1.0, "f4": 1.0, "f8": 1.0}.get(values.dtype.str[1:])
    low, high = float(values.min()), float(values.max())
    # NaN fails every comparison.
    if full is None or not (low >= 0 and _LEAST_SHARE * full <= high <= full):
        raise ValueError(
            f"{path}: its array '{name}' holds {values.dtype} from {low:g} to {high:g}. Expected "
            "uint8, or uint16 or floats (0 to 1) that make use of their range. Scale it by its "
            "true range and save it as uint8."
        )
    pictures = values if values.ndim > 2 else values[None]
    scaled = [np.round(picture * (255 / full)).astype(np.uint8) for picture in pictures]
    return np.stack(scaled).reshape(values.shape)


def _as_mask(path: Path, name: str, values: Shaped[np.ndarray, "..."]) -> Bool[np.ndarray, "..."]:
    if values.dtype == bool:
        return values
    low, high = values.min(), values.max()
    inside = np.asarray(values == high)
    if high != 0 and low == 0 and bool((inside | (values == 0)).all()):
        return inside
    if low == high == 0:
        return np.zeros(values.shape, dtype=bool)
    raise ValueError(
        f"{path}: its array '{name}' holds {values.dtype} from {float(low):g} to {float(high):g}, "
        "which is no mask of 0 and one other value. Save one mask, 0 and 1, for what is to be "
        "learnt."
    )


def _one(
    path: Path, values: Shaped[np.ndarray, "..."], stacked: bool, frame: int | None
) -> Shaped[np.ndarray, "..."]:
    if not stacked and frame is None:
        return values
    if not stacked or frame is None or not 0 <= frame < len(values):
        there = f"frames 0 to {len(values) - 1}" if stacked else "one picture, which has no number"
        raise ValueError(f"{path}: there is no frame {frame}; it holds {there}. Correct the frame.")
    return np.asarray(values[frame])
