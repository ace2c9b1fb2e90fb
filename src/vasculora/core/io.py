"""Files: atomic writing, and bounded reading of images and masks with errors that name the cure.

A file appears whole or not at all: it is written beside its place and moved there, so a killed run
or a full disk never leaves half a file. JSON is also flushed to the disk, because resuming depends
on it.

What an image may be: DICOM (`core/dicom.py`), and anything Pillow reads that is 8 bit grey, palette
or RGB, turned upright by its EXIF tag (as the program showed it in which it was annotated). An
opaque alpha channel is dropped, a real one refused. 16 bit grey is divided by 257, the full range
of the format, and never stretched by an image's own range, which would make brightness depend on
the picture. Where that leaves it nearly black (brightest value below 4096, so 10 or 12 bit in a 16
bit file) it is refused, because only its owner knows the true range.
"""

import json
import os
import secrets
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Integer, UInt8
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from vasculora.core.arrays import ARCHIVE_SUFFIX, read_archive_image, read_archive_mask
from vasculora.core.dicom import read_dicom_frame
from vasculora.core.dicom_file import is_dicom
from vasculora.core.limits import MAX_PIXELS

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".gif", ".bmp", ".ppm", ".pgm")
"""What counts as an image file, in lower case."""

MAX_BYTES = 2 * 2**30
"""Largest image file that is opened: twice what such an image needs at 16 bit in three colours."""

_MAX_GREY_SHARE = 0.05
_PLAIN_MODES = ("1", "L", "P", "RGB", "LA", "PA", "RGBA", "YCbCr")
# Pillow's decoders raise all of these on a damaged file.
_UNREADABLE = (
    ArithmeticError,
    EOFError,
    LookupError,
    OSError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)


def write_bytes(path: Path, data: bytes, *, flush: bool = False, mode: int = 0o666) -> None:
    """Write bytes, atomically.

    Args:
        path: Where to.
        data: What.
        flush: Wait until the disk has them.
        mode: Access rights of a new file, less the process's mask.

    Raises:
        OSError: If the file cannot be written.
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                if flush:
                    os.fsync(descriptor)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise type(error)(
            f"{path}: cannot be written: {error.strerror or error}. Free some space there, or "
            "choose a folder you may write to."
        ) from error


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON, atomically and flushed to the disk.

    Raises:
        ValueError: If it holds something JSON cannot say (NaN, an object).
        OSError: If the file cannot be written.
    """
    try:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: this value cannot be written as JSON: {error}.") from error
    write_bytes(path, _encode(text + "\n"), flush=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` in UTF-8, atomically.

    Raises:
        OSError: If the file cannot be written.
    """
    write_bytes(path, _encode(text))


def write_private_text(path: Path, text: str) -> None:
    """Write `text` atomically, readable by its owner only (mode 0600) from the first byte on."""
    write_bytes(path, _encode(text), mode=0o600)


def write_image(path: Path, array: UInt8[np.ndarray, "h w"] | UInt8[np.ndarray, "h w 3"]) -> None:
    """Write a grey or RGB image in the format its suffix names, atomically.

    Raises:
        ValueError: If the suffix is no image format.
        OSError: If the file cannot be written.
    """
    image_format = Image.registered_extensions().get(path.suffix.lower())
    if image_format is None:
        raise ValueError(f"{path}: '{path.suffix}' is no known image format. Use .png.")
    buffer = BytesIO()
    Image.fromarray(array).save(buffer, image_format)
    write_bytes(path, buffer.getvalue())


def read_json(path: Path) -> Any:
    """Return what a JSON file holds.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not JSON; says where.
    """
    check_file(path, "file")
    try:
        return json.loads(path.read_bytes().decode("utf-8-sig", "surrogateescape"))
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path}: not valid JSON at line {error.lineno}, column {error.colno}: {error.msg}. "
            "Mend or rewrite the file."
        ) from error
    except (ValueError, RecursionError) as error:  # a number or a nesting beyond Python's limits
        raise ValueError(f"{path}: no JSON that can be read: {error}. Rewrite the file.") from error


def check_file(path: Path, what: str) -> None:
    """Make sure that a path is a plain file, which alone can be read to its end.

    Args:
        path: The file.
        what: What it should be, as `image file`.

    Raises:
        FileNotFoundError: If there is nothing.
        ValueError: If it is a folder, a pipe, a device, or a link that leads nowhere.
    """
    if path.is_file():
        return
    if path.is_symlink() and not path.exists():
        raise FileNotFoundError(
            f"{path}: is a link to a file that is not there. Fetch that file, or remove the link."
        )
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such {what}.")
    found = "a folder" if path.is_dir() else "a pipe or device"
    raise ValueError(f"{path}: is {found}, not a file. Put the {what} there, or remove it.")


def read_image(path: Path, frame: int | None = None) -> UInt8[np.ndarray, "h w 3"]:
    """Return an image as RGB, 0 to 255, the right way up.

    Args:
        path: The file, DICOM and NumPy archives among them.
        frame: Which picture of a DICOM file or a stack, from 0 on; None where it holds a single
            one.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read or would have to be guessed at: names the file and the
            cure.
    """
    if path.suffix.lower() == ARCHIVE_SUFFIX:
        check_file(path, "archive")
        return read_archive_image(path, frame)
    if path.suffix.lower() not in IMAGE_SUFFIXES and is_dicom(path):
        return read_dicom_frame(path, frame)
    if frame is not None:
        raise ValueError(
            f"{path}: frame {frame} is asked for, but only DICOM files and NumPy archives hold "
            "frames. Leave it out."
        )
    image = _decode(path)
    if _is_16_bit(image):
        return np.repeat(_full_range(path, np.asarray(image))[..., None], 3, axis=2)
    return np.array(_without_alpha(path, image).convert("RGB"))


def read_mask_image(path: Path, frame: int | None = None) -> Bool[np.ndarray, "h w"]:
    """Return a mask: True where it is white.

    A mask of 0 and one other value (0/1, 0/255, 0/65535) is True above 0; any other is cut at 128,
    in the middle of a softened edge.

    Args:
        path: The file.
        frame: Which picture it belongs to; counts only where the file is a NumPy archive.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read or is no mask: names the file and the cure.
    """
    if path.suffix.lower() == ARCHIVE_SUFFIX:
        check_file(path, "archive")
        return read_archive_mask(path, frame)
    image = _decode(path)
    values = np.asarray(image) if _is_16_bit(image) else _one_channel(path, image)
    found = np.unique(values)
    if found[0] == 0 and len(found) <= 2:
        return values > 0
    if _is_16_bit(image):
        values = values // 257
    _check_two_valued(path, values, brightest=int(found[-1]))
    return values >= 128


def _encode(text: str) -> bytes:
    # File names in another encoding than UTF-8 reach Python as lone surrogates; this gives their
    # bytes back.
    return text.encode("utf-8", "surrogateescape")


def _decode(path: Path) -> Image.Image:
    check_file(path, "image file")
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(
            f"{path}: larger than {MAX_BYTES // 2**30} GiB. Export it as 8 bit PNG, in smaller "
            "images."
        )
    with _clear_read_errors(path):
        image = Image.open(BytesIO(path.read_bytes()))
        num_frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
        mode, size = image.mode, image.size
    if size[0] * size[1] > MAX_PIXELS:
        raise _too_large(path)
    if not size[0] * size[1]:
        raise ValueError(f"{path}: has no pixels ({size[0]}x{size[1]}). Export it anew.")
    if num_frames > 1:
        raise ValueError(
            f"{path}: holds {num_frames} frames. Export each frame as an image of its own."
        )
    if mode not in _PLAIN_MODES and not _is_16_bit(image):
        raise ValueError(
            f"{path}: its pixels are of kind '{mode}' (32 bit, floating point or print colours). "
            "Export it as 8 bit grey or RGB PNG."
        )
    with _clear_read_errors(path):
        image.load()
        # A copy that is turned forgets its file format, so it is made only where there is something
        # to turn.
        upright = image.getexif().get(ExifTags.Base.Orientation, 1) == 1
        return image if upright else ImageOps.exif_transpose(image)


@contextmanager
def _clear_read_errors(path: Path) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            # Between Pillow's warning and MAX_PIXELS an image is large, not suspicious.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            # Remarks on notes in a file's head that are left aside; the pixels are whole or fail.
            warnings.simplefilter("ignore", UserWarning)
            yield
    except Image.DecompressionBombError as error:
        raise _too_large(path) from error
    except PermissionError as error:
        raise PermissionError(
            f"{path}: you may not read this file. Ask its owner, or change its rights (chmod u+r)."
        ) from error
    except _UNREADABLE as error:
        # Pillow's own words for an unknown format name an object in memory.
        unknown = isinstance(error, UnidentifiedImageError)
        reason = "not a known format, or cut off" if unknown else error
        raise ValueError(
            f"{path}: cannot be read as an image ({reason}). Open it in a viewer and export it "
            "anew."
        ) from error


def _too_large(path: Path) -> ValueError:
    return ValueError(
        f"{path}: larger than {MAX_PIXELS // 1_000_000} million pixels. Cut it into smaller images."
    )


def _is_16_bit(image: Image.Image) -> bool:
    # Pillow opens 16 bit PNM files, scaled to the full range, as 32 bit integers.
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")


def _full_range(path: Path, values: Integer[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    brightest = int(values.max())
    if brightest < 4096:
        raise ValueError(
            f"{path}: 16 bit file whose brightest value is {brightest} of 65535, so probably 10 or "
            "12 bit data. Export it as 8 bit, scaled by its true range."
        )
    return np.round(values / 257).astype(np.uint8)


def _without_alpha(path: Path, image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image
    full = image.convert("RGBA")
    least, _ = full.getchannel("A").getextrema()
    if least != 255:
        raise ValueError(
            f"{path}: has transparent pixels. Export it without transparency (flattened on its "
            "background)."
        )
    return full.convert("RGB")


def _one_channel(path: Path, image: Image.Image) -> UInt8[np.ndarray, "h w"]:
    if image.mode in ("1", "L", "P"):
        # Palette indices may be inverted: only the grey they stand for counts.
        return np.asarray(image.convert("L"))
    channels = np.asarray(_without_alpha(path, image).convert("RGB"))
    if (channels != channels[..., :1]).any():
        raise ValueError(
            f"{path}: is in colour, so no mask. Export one grey image, white where the vessel is "
            "and black elsewhere."
        )
    return np.ascontiguousarray(channels[..., 0])


def _check_two_valued(path: Path, values: Integer[np.ndarray, "h w"], *, brightest: int) -> None:
    grey_share = float(((values >= 32) & (values <= 223)).mean())
    if grey_share > _MAX_GREY_SHARE:
        raise ValueError(
            f"{path}: {grey_share:.0%} of its pixels are grey, so this is no mask but a picture or "
            "a probability. Export it with two values, white (255) where the vessel is and black "
            "(0) elsewhere."
        )
    if values.max() < 128:
        raise ValueError(
            f"{path}: nothing in it is white (values up to {brightest}), so these are "
            "class numbers. Export one mask, 0 and 255, for what is to be learnt."
        )
