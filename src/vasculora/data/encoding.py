"""How a picture is kept in its file: what its values are, before anything is made of them.

Reading evens out what a mask may look like: 0/1, 0/255, 16 bit, a palette, soft edges. Whoever
looks at a data set wants to know which of them it was, because two kinds in one set are often two
exports of which one went wrong.
"""

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from vasculora.core.arrays import ARCHIVE_SUFFIX

_NAMES = {
    "1": "1 bit",
    "L": "8 bit grey",
    "P": "palette",
    "LA": "8 bit grey with alpha",
    "PA": "palette with alpha",
    "RGBA": "RGB with alpha",
}


def image_encoding(path: Path, frame: int | None = None) -> str:
    """Return in a few words how a readable image is kept; its pixels are not decoded.

    Args:
        path: The file.
        frame: Which picture of a DICOM file; None where the file is one picture.
    """
    if path.suffix.lower() == ARCHIVE_SUFFIX:
        return "NumPy archive"
    if frame is not None:
        return "DICOM"
    try:
        with Image.open(path) as image:
            return _kind(image)
    except UnidentifiedImageError:
        return "DICOM" if _is_dicom(path) else _suffix(path)


def mask_encoding(path: Path) -> str:
    """Return in a few words the kind of a readable mask and its values, as `8 bit grey, 0/255`."""
    try:
        with Image.open(path) as image:
            kind, values = _kind(image), np.unique(_grey(image)).tolist()
    except UnidentifiedImageError:
        return _suffix(path)
    if len(values) <= 2:
        return f"{kind}, {'/'.join(map(str, values))}"
    return f"{kind}, {values[0]} to {values[-1]}"


def _kind(image: Image.Image) -> str:
    if image.mode.startswith("I"):
        return "16 bit grey"
    return _NAMES.get(image.mode, image.mode)


def _grey(image: Image.Image) -> np.ndarray:
    """Return the values of a mask's one channel, or of the channels that are all the same."""
    if image.mode in ("1", "P", "PA", "RGBA", "RGB", "LA", "YCbCr"):
        return np.asarray(image.convert("L"))
    return np.asarray(image)


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _suffix(path: Path) -> str:
    return path.suffix.lstrip(".").upper() or "a file without suffix"
