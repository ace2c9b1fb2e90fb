"""From the values a DICOM file stores to greys of 0 to 255: one table for all frames of a file.

The table is that of the file's own window where it has one that makes sense, else the full range of
the bits stored; never the range of a picture, which would make brightness depend on the picture and
flicker through a cine. A window makes no sense where it cuts off more of the picture than it shows,
or is so wide that less than half of the greys are left.

PS3.3 of the DICOM standard: C.11.2 (window, VOI LUT), C.11.1 (modality LUT) and C.8.7.1.1.2, by
which an angiogram's modality LUT leads back to intensities and is not for display.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float, Integer, UInt8

if TYPE_CHECKING:
    from pydicom import Dataset

ShownBy = Literal["its window", "the full range of its bits", "its colours"]

_X_RAY = ("1.2.840.10008.5.1.4.1.1.12.1", "1.2.840.10008.5.1.4.1.1.12.2")
_FAINTEST = 0.5  # of the greys: a window that leaves fewer is too wide


@dataclass(frozen=True, kw_only=True)
class Greys:
    """How the stored values of a file are shown.

    Attributes:
        low: The value the table begins with.
        table: Grey of each stored value.
        shown_by: Where it comes from.
    """

    low: int
    table: UInt8[np.ndarray, " v"]
    shown_by: ShownBy


def grey_table(ds: "Dataset", frame: Integer[np.ndarray, "h w"]) -> Greys:
    """Return the greys of a file's stored values.

    Args:
        ds: The file's elements, without its pixels.
        frame: Stored values of one of its frames, on which its window is tried.

    Raises:
        ValueError: If an element it needs is missing or senseless.
    """
    low, high = value_range(ds)
    values = _modality(ds, np.arange(low, high + 1, dtype=np.float64))
    level = _lookup(ds, values)
    if level is None:
        level = _window(ds, values, values[frame - low])
    shown_by: ShownBy = "its window"
    if level is None:
        span = float(values.max() - values.min()) or 1.0
        level, shown_by = (values - values.min()) / span, "the full range of its bits"
    if ds.PhotometricInterpretation == "MONOCHROME1":
        level = 1 - level
    table = np.round(level * 255).astype(np.uint8)
    return Greys(low=low, table=table, shown_by=shown_by)


def value_range(ds: "Dataset") -> tuple[int, int]:
    """Return the lowest and the highest value that the bits stored can say."""
    bits = int(ds.BitsStored)
    if int(ds.PixelRepresentation) == 1:
        return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    return 0, 2**bits - 1


def _modality(ds: "Dataset", stored: Float[np.ndarray, " v"]) -> Float[np.ndarray, " v"]:
    """Return what stored values mean to the window."""
    backwards = ds.get("PixelIntensityRelationship") in ("LOG", "DISP")
    if backwards and str(ds.get("SOPClassUID")) in _X_RAY:
        return stored
    if ds.get("ModalityLUTSequence"):
        return _by_table(ds.ModalityLUTSequence[0], stored)
    item = _shared(ds, "PixelValueTransformationSequence")
    slope, intercept = item.get("RescaleSlope"), item.get("RescaleIntercept")
    if slope is None or float(slope) == 0:
        return stored
    return stored * float(slope) + float(intercept or 0)


def _lookup(ds: "Dataset", values: Float[np.ndarray, " v"]) -> Float[np.ndarray, " v"] | None:
    """Return the share of white that the file's VOI LUT gives each value; None without one."""
    item = _shared(ds, "FrameVOILUTSequence")
    if not item.get("VOILUTSequence"):
        return None
    table = item.VOILUTSequence[0]
    share = _by_table(table, values) / (2.0 ** int(table.LUTDescriptor[2]) - 1)
    return np.clip(share, 0.0, 1.0)


def _window(
    ds: "Dataset", values: Float[np.ndarray, " v"], shown: Float[np.ndarray, "h w"]
) -> Float[np.ndarray, " v"] | None:
    """Return the share of white that the file's window gives each value; None without a sane one.

    Args:
        ds: The file's elements.
        values: What the stored values mean.
        shown: One of its pictures in these values.
    """
    item = _shared(ds, "FrameVOILUTSequence")
    center, width = _first(item.get("WindowCenter")), _first(item.get("WindowWidth"))
    if center is None or width is None or not np.isfinite([center, width]).all() or width < 1:
        return None
    if float(values.max() - values.min()) < _FAINTEST * (width - 1):
        return None
    # Borders, collimators and burnt-in text are the darkest and brightest; they may well be cut.
    inner = shown[(shown > shown.min()) & (shown < shown.max())]
    if inner.size and (np.abs(inner - center) > width / 2).mean() > 0.5:
        return None
    function = item.get("VOILUTFunction") or "LINEAR"
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -500, 500)))
    if function == "LINEAR_EXACT":
        return np.clip((values - center) / width + 0.5, 0.0, 1.0)
    # A width of 1 is a threshold, with nothing between black and white.
    step = max(width - 1, 1e-9)
    return np.clip((values - (center - 0.5)) / step + 0.5, 0.0, 1.0)


def _by_table(table: "Dataset", values: Float[np.ndarray, " v"]) -> Float[np.ndarray, " v"]:
    """Return the entry of each value in a lookup table; the ends hold for what lies beyond."""
    first, bits = int(table.LUTDescriptor[1]), int(table.LUTDescriptor[2])
    data = table.LUTData
    if isinstance(data, bytes):
        data = np.frombuffer(data, dtype="<u2")
    entries = np.asarray(data, dtype=np.float64)
    num = int(table.LUTDescriptor[0]) or 65536
    if len(entries) * 2 == num and bits <= 8:  # two entries of 8 bit in a word
        words = entries.astype(np.uint16)
        entries = np.stack([words & 255, words >> 8], axis=1).ravel().astype(np.float64)
    if len(entries) < num:
        raise ValueError(f"a lookup table holds {len(entries)} entries instead of {num}")
    found: Float[np.ndarray, " v"] = entries[
        np.clip(np.round(values) - first, 0, num - 1).astype(np.int64)
    ]
    return found


def _shared(ds: "Dataset", macro: str) -> "Dataset":
    """Return where the elements of a macro stand: in functional groups, or in the file itself.

    What differs from frame to frame is taken from the first, as one table serves all.
    """
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for item in ds.get(groups) or ():
            if item.get(macro):
                found: Dataset = item[macro].value[0]
                return found
            break
    return ds


def _first(value: Any) -> float | None:
    """Return the first of one or several numbers; None where there is none."""
    several = isinstance(value, list | tuple) or hasattr(value, "append")
    value = (value[0] if len(value) else None) if several else value
    return None if value is None or value == "" else float(value)
