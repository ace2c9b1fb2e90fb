"""Millimetres a pixel: what counts as a size of pixels, and what a DICOM file says of it.

An X-ray detector sees everything magnified, so the size of its own pixels is not that of the
patient's vessels: it is divided by the magnification where the file estimates one, and else nothing
is known. A wrong millimetre is worse than none, so what is doubtful is None and never an error.
DICOM PS3.3, 10.7.1.1 (calibrated or not), 10.7.1.3 (rows before columns, above zero) and C.7.6.16
(Pixel Measures of multi-frame images).
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydicom import Dataset

Spacing = tuple[float, float]
"""Millimetres from one row to the next, and from one column to the next."""

SPACING_KEYWORDS = (
    "Modality",
    "PixelSpacing",
    "PixelSpacingCalibrationType",
    "ImagerPixelSpacing",
    "NominalScannedPixelSpacing",
    "EstimatedRadiographicMagnificationFactor",
)
"""Elements of a DICOM file that are asked, beside its functional groups."""

LEAST, MOST = 0.0005, 10.0
"""Millimetres a pixel may measure: from far below a capillary to far above an artery."""

_MOST_UNEVEN = 10  # times as high as wide, or the other way
_MOST_MAGNIFIED = 10  # times; a C-arm's factor is 1.2 to 2
_X_RAY = ("CR", "DX", "IO", "MG", "PX", "RF", "RG", "XA")
_CALIBRATED = ("FIDUCIAL", "GEOMETRY")
_ALIKE = 1e-3  # decimal strings are rounded


def as_spacing(values: Sequence[float]) -> Spacing | None:
    """Return two numbers as a size of pixels in mm; None where they cannot be one."""
    if len(values) != 2:
        return None
    # NaN fails every comparison, and a whole number beyond the floats' range does not raise here.
    if not all(LEAST <= value <= MOST for value in values):
        return None
    rows, columns = float(values[0]), float(values[1])
    return (rows, columns) if 1 / _MOST_UNEVEN <= rows / columns <= _MOST_UNEVEN else None


def dicom_spacing(ds: "Dataset") -> Spacing | None:
    """Return how large a pixel is in the patient, by a DICOM file's elements; None where unknown.

    Args:
        ds: The elements; those of `SPACING_KEYWORDS` and the shared functional groups are asked.
    """
    own = _pair(ds, "PixelSpacing") or _measured(ds)
    detector = _pair(ds, "ImagerPixelSpacing")
    scanned = _pair(ds, "NominalScannedPixelSpacing")
    if own is not None and _is_in_patient(ds, own, detector or scanned):
        return own
    factor = _number(ds, "EstimatedRadiographicMagnificationFactor")
    if detector is None or not 1 <= factor <= _MOST_MAGNIFIED:
        return None
    return as_spacing((detector[0] / factor, detector[1] / factor))


def _is_in_patient(ds: "Dataset", own: Spacing, plane: Spacing | None) -> bool:
    """Return whether PixelSpacing is that of the patient, and not of a detector or a film."""
    if _text(ds, "PixelSpacingCalibrationType") in _CALIBRATED:
        return True
    if plane is None:
        # Of an X-ray image nobody can tell; other kinds magnify nothing.
        return _text(ds, "Modality") not in _X_RAY
    return not all(math.isclose(a, b, rel_tol=_ALIKE) for a, b in zip(own, plane, strict=True))


def _measured(ds: "Dataset") -> Spacing | None:
    """Return the PixelSpacing that all frames share."""
    shared = _first(ds, "SharedFunctionalGroupsSequence")
    measures = None if shared is None else _first(shared, "PixelMeasuresSequence")
    return None if measures is None else _pair(measures, "PixelSpacing")


def _first(ds: "Dataset", keyword: str) -> "Dataset | None":
    items = _value(ds, keyword)
    return items[0] if items else None


def _pair(ds: "Dataset", keyword: str) -> Spacing | None:
    values = _value(ds, keyword) or ()
    try:
        return None if isinstance(values, str) else as_spacing([float(value) for value in values])
    except (TypeError, ValueError, OverflowError):
        return None


def _number(ds: "Dataset", keyword: str) -> float:
    try:
        return float(_value(ds, keyword) or 0)
    except (TypeError, ValueError, OverflowError):
        return 0.0


def _text(ds: "Dataset", keyword: str) -> str:
    return str(_value(ds, keyword) or "").strip().upper()


def _value(ds: "Dataset", keyword: str) -> Any:
    """Return an element's value; None where it is missing or its bytes say nothing."""
    try:
        return ds.get(keyword)
    except (AttributeError, ArithmeticError, LookupError, TypeError, ValueError):
        return None
