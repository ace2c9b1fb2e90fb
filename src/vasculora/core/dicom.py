"""DICOM images: the frames of a file as RGB, each decoded alone.

A cine is never whole in memory. Frames count from 0, as pydicom counts them.
"""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from vasculora.core.dicom_file import COLOURS, CURE, NUM_KEPT, Opened, clear_errors, open_image
from vasculora.core.greys import Greys, ShownBy, grey_table, value_range

if TYPE_CHECKING:
    from pydicom import Dataset


def num_frames(path: Path) -> int:
    """Return the number of pictures in a DICOM file, at least 1.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read as DICOM, or is no image.
    """
    return open_image(path).header.num_frames


def read_dicom_frame(path: Path, frame: int | None = None) -> UInt8[np.ndarray, "h w 3"]:
    """Return one picture of a DICOM file as RGB, 0 to 255.

    Args:
        path: The file.
        frame: Which of its frames, from 0 on; None where it holds a single one.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, has no such frame, or has several and none was named.
    """
    opened = open_image(path)
    number = opened.header.num_frames
    if frame is None and number > 1:
        raise ValueError(
            f"{path}: holds {number} frames. Say which: --frames 0 to {number - 1}, all or peak; "
            '"frame" in a manifest; NAME_f031.png for the mask of frame 31.'
        )
    return _shown(opened, _stored(opened, frame or 0))


def frames_of(path: Path) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """Yield all pictures of a DICOM file as RGB, 0 to 255, one at a time.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read.
    """
    from pydicom.pixels.utils import iter_pixels

    opened = open_image(path)
    _check_decoder(opened)
    stored = iter_pixels(path, **_options(opened))
    for frame in range(opened.header.num_frames):
        with clear_errors(path, f"frame {frame} of "):
            values = next(stored, None)
            if values is None:
                raise ValueError(f"it holds {frame} frames instead of {opened.header.num_frames}")
        yield _shown(opened, _checked(opened, values, frame))


def shown_by(path: Path) -> ShownBy:
    """Return what decides the greys of a file's pictures.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read.
    """
    opened = open_image(path)
    return "its colours" if _is_coloured(opened.ds) else _greys(opened).shown_by


def _stored(opened: Opened, frame: int) -> np.ndarray:
    """Return the values of a frame as they are stored, colours as RGB.

    Raises:
        ValueError: If there is no such frame, or it cannot be decoded.
    """
    from pydicom.pixels.utils import pixel_array

    path, count = opened.path, opened.header.num_frames
    if not 0 <= frame < count:
        raise ValueError(
            f"{path}: has no frame {frame}; it holds {count}, which count from 0 to {count - 1}."
        )
    _check_decoder(opened)
    with clear_errors(path, f"frame {frame} of "):
        stored: np.ndarray = pixel_array(path, index=frame, **_options(opened))
    return _checked(opened, stored, frame)


def _options(opened: Opened) -> dict[str, Any]:
    """Return how pydicom shall decode a file.

    Bits beyond those stored say the sign of a signed value and are made good; in others they are a
    fault that must not be cut off in silence.
    """
    signed = int(opened.ds.PixelRepresentation) == 1
    return {"transfer_syntax_uid": opened.syntax, "correct_unused_bits": signed}


def _checked(opened: Opened, stored: np.ndarray, frame: int) -> np.ndarray:
    """Return a frame's values, after making sure that they are what the file says.

    Raises:
        ValueError: If size or values are others.
    """
    path, ds = opened.path, opened.ds
    if stored.shape[:2] != (int(ds.Rows), int(ds.Columns)):
        raise ValueError(
            f"{path}: frame {frame} is {stored.shape[1]}x{stored.shape[0]}, but the file says "
            f"{ds.Columns}x{ds.Rows}. {CURE}"
        )
    if ds.PhotometricInterpretation not in COLOURS:
        low, high = value_range(ds)
        if stored.min() < low or stored.max() > high:
            raise ValueError(
                f"{path}: frame {frame} has values from {stored.min()} to {stored.max()}, but "
                f"{ds.BitsStored} bits stored hold {low} to {high}. {CURE}"
            )
    return stored


def _check_decoder(opened: Opened) -> None:
    """Say which package is missing, where one is.

    Raises:
        ValueError: If nothing that is installed decodes the file.
    """
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    name = UID(opened.syntax).name
    try:
        ready = get_decoder(UID(opened.syntax)).is_available
    except NotImplementedError as error:
        raise ValueError(
            f"{opened.path}: is encoded as '{name}', which is not read. Export it uncompressed."
        ) from error
    if not ready:
        cure = "pip install 'vasculora[jpeg]'" if name.startswith("JPEG") else ""
        raise ValueError(
            f"{opened.path}: is encoded as '{name}', which needs another package. "
            + (f"Install it (GPL-3): {cure}" if cure else "Export it uncompressed.")
        )


def _is_coloured(ds: "Dataset") -> bool:
    return ds.PhotometricInterpretation in (*COLOURS, "PALETTE COLOR")


def _shown(opened: Opened, stored: np.ndarray) -> UInt8[np.ndarray, "h w 3"]:
    """Return stored values as RGB, 0 to 255."""
    ds = opened.ds
    if ds.PhotometricInterpretation == "PALETTE COLOR":
        coloured: UInt8[np.ndarray, "h w 3"] = _palette(opened)[stored]
        return coloured
    if _is_coloured(ds):
        bits = int(ds.BitsStored)
        return stored if bits == 8 else np.round(stored / (2**bits - 1) * 255).astype(np.uint8)
    greys = _greys(opened)
    if greys.shown_by != "its window":
        _check_not_black(opened, stored)
    grey = greys.table[stored.astype(np.int64) - greys.low]
    return np.repeat(grey[..., None], 3, axis=2)


def _check_not_black(opened: Opened, stored: np.ndarray) -> None:
    bits, brightest = int(opened.ds.BitsStored), int(stored.max())
    unsigned = int(opened.ds.PixelRepresentation) == 0
    if unsigned and bits == 16 and 0 < brightest < 4096:
        raise ValueError(
            f"{opened.path}: says 16 bits stored and has no usable window, but its brightest value "
            f"is {brightest}, so probably 10 or 12 bits are meant. Export it with a window, or "
            "with the right BitsStored."
        )


@lru_cache(maxsize=NUM_KEPT)
def _greys(opened: Opened) -> Greys:
    """Return the greys of a file, tried on its middle frame."""
    frame = _stored(opened, opened.header.num_frames // 2)
    with clear_errors(opened.path):
        return grey_table(opened.ds, frame)


@lru_cache(maxsize=NUM_KEPT)
def _palette(opened: Opened) -> UInt8[np.ndarray, "v 3"]:
    """Return the colour of each stored value."""
    from pydicom.pixels.processing import apply_color_lut

    with clear_errors(opened.path):
        values = np.arange(2 ** int(opened.ds.BitsStored), dtype=np.uint16)
        colours: np.ndarray = apply_color_lut(values[None], opened.ds)[0]
        # Some writers fill entries of 16 bit with values of 8.
        return (colours >> 8 if colours.max() > 255 else colours).astype(np.uint8)
