"""DICOM files without their pixels: what a file says of itself, read once and checked.

Files are known by `DICM` after 128 bytes, or by their suffix where that is missing (pydicom then
reads them by force). Only the elements that are needed are read.

Everything here may hold names, numbers and dates of patients. What is returned of them, to tell one
patient from another, must pass through `core/pseudonyms.py` before anything is written.
"""

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from vasculora.core.limits import MAX_PIXELS
from vasculora.core.spacing import SPACING_KEYWORDS, Spacing, dicom_spacing

if TYPE_CHECKING:
    from pydicom import Dataset

DICOM_SUFFIXES = (".dcm", ".dicom")
"""Suffixes of DICOM files, in lower case; many have none."""
NUM_KEPT = 256
"""Headers that are kept in memory."""
COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
"""Kinds of pixels that are decoded to RGB."""
CURE = "Open it in a DICOM viewer and export it anew."

_PREAMBLE = 128
_MAX_REASON = 200
_NEEDED = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "BurnedInAnnotation",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PlanarConfiguration",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelIntensityRelationship",
    "ModalityLUTSequence",
    "RescaleSlope",
    "RescaleIntercept",
    "VOILUTSequence",
    "VOILUTFunction",
    "WindowCenter",
    "WindowWidth",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    *SPACING_KEYWORDS,
    *(
        f"{kind}{colour}PaletteColorLookupTable{what}"
        for colour in ("Red", "Green", "Blue")
        for kind, what in (("", "Descriptor"), ("", "Data"), ("Segmented", "Data"))
    ),
)
# pydicom and the decoders behind it raise all of these on damaged files.
_UNREADABLE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BufferError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
)


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a DICOM file says of itself; private, but for the numbers.

    Attributes:
        num_frames: How many pictures it holds; 0 where it is no image (a report, an index).
        instance: Its unique id; empty where it says none.
        patient: What all files of one patient share; empty where nothing says whose it is.
        patient_by: Which element that comes from.
        burned_in: Whether names may stand in the pictures themselves.
        spacing: Millimetres a pixel in the patient; None where they are not known.
    """

    num_frames: int
    instance: str
    patient: str
    patient_by: str
    burned_in: bool
    spacing: Spacing | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Opened:
    """A DICOM file without its pixels.

    Attributes:
        path: The file.
        ds: Its elements.
        syntax: How its pixels are encoded.
        header: What matters of the elements.
    """

    path: Path
    ds: "Dataset"
    syntax: str
    header: Header


def is_dicom(path: Path) -> bool:
    """Return whether a file is DICOM, by its magic word or else by its suffix."""
    return path.is_file() and (path.suffix.lower() in DICOM_SUFFIXES or _has_magic(path))


def read_header(path: Path) -> Header:
    """Return what a DICOM file says of itself.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read as DICOM: names the file and the cure.
    """
    return _open(path).header


def _has_magic(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            file.seek(_PREAMBLE)
            return file.read(4) == b"DICM"
    except OSError:
        return False  # whoever opens it says what is wrong with it


def open_image(path: Path) -> Opened:
    """Return a DICOM file that holds pictures.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read as DICOM, or is no image.
    """
    opened = _open(path)
    if not opened.header.num_frames:
        raise ValueError(
            f"{path}: is DICOM but no image (a report, an index or the like). Leave it out."
        )
    return opened


def _open(path: Path) -> Opened:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such DICOM file.")
    state = path.stat()
    return _opened(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=NUM_KEPT)
def _opened(path: Path, size: int, _time: int) -> Opened:
    """Return a file's elements, read once for all of its frames as long as it does not change."""
    from pydicom import dcmread
    from pydicom.filereader import read_file_meta_info
    from pydicom.uid import (
        DeflatedExplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
    )

    with clear_errors(path):
        magic = _has_magic(path)
        syntax = read_file_meta_info(path).get("TransferSyntaxUID") if magic else None
    if syntax == DeflatedExplicitVRLittleEndian:
        raise ValueError(f"{path}: is a zipped (deflated) DICOM file. Export it uncompressed.")
    with clear_errors(path):
        ds = dcmread(path, stop_before_pixels=True, specific_tags=list(_NEEDED), force=not magic)
        if not len(ds):
            raise ValueError("no element of DICOM in it")
        own = ds.file_meta.get("TransferSyntaxUID")
        plain = ImplicitVRLittleEndian if ds.original_encoding[0] else ExplicitVRLittleEndian
        header = _header(ds)
        opened = Opened(path=path, ds=ds, syntax=str(own or plain), header=header)
    if header.num_frames:
        _check_size(opened, size)
    elif not ds.get("SOPClassUID") and not ds.file_meta.get("MediaStorageSOPClassUID"):
        raise ValueError(f"{path}: holds nothing that DICOM asks for, so it is none, or cut off.")
    return opened


def _header(ds: "Dataset") -> Header:
    count = int(ds.get("NumberOfFrames") or 1) if "Rows" in ds else 0
    patient, patient_by = _patient(ds)
    return Header(
        num_frames=count,
        instance=str(ds.get("SOPInstanceUID") or ""),
        patient=patient,
        patient_by=patient_by,
        burned_in=str(ds.get("BurnedInAnnotation") or "").upper() == "YES",
        spacing=dicom_spacing(ds),
    )


def _patient(ds: "Dataset") -> tuple[str, str]:
    """Return what all files of one patient share, and which element says so."""

    def said(keyword: str) -> str:
        # Typed with other blanks or capitals it is the same patient.
        return "".join(str(ds.get(keyword) or "").casefold().split())

    if said("PatientID"):
        return f"id {said('PatientID')}", "PatientID"
    if said("PatientName").strip("^=") and said("PatientBirthDate"):
        name = f"name {said('PatientName')} {said('PatientBirthDate')}"
        return name, "PatientName and PatientBirthDate"
    study = said("StudyInstanceUID")
    return (f"study {study}", "StudyInstanceUID") if study else ("", "nothing")


def _check_size(opened: Opened, size: int) -> None:
    """Refuse what is too large, or promises more than the file can hold."""
    path, ds, count = opened.path, opened.ds, opened.header.num_frames
    with clear_errors(path):
        rows, columns, bits = int(ds.Rows), int(ds.Columns), int(ds.BitsAllocated)
        stored, kind = int(ds.BitsStored), str(ds.PhotometricInterpretation)
        samples, signed = int(ds.get("SamplesPerPixel") or 1), int(ds.PixelRepresentation)
        if signed not in (0, 1):
            raise ValueError(f"PixelRepresentation is {signed} instead of 0 or 1")
        if rows < 1 or columns < 1 or count < 1 or samples not in (1, 3):
            raise ValueError(f"{count} frames of {columns}x{rows} with {samples} values a pixel")
    if rows * columns > MAX_PIXELS:
        raise ValueError(
            f"{path}: {columns}x{rows} is larger than {MAX_PIXELS // 1_000_000} million pixels. "
            "Cut it into smaller images."
        )
    if bits not in (8, 16) or not 1 <= stored <= bits:
        raise ValueError(
            f"{path}: {stored} bits stored in {bits}, but images of 8 to 16 bits are read. {CURE}"
        )
    if kind not in (*COLOURS, "MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"):
        raise ValueError(f"{path}: its pixels are '{kind}', which is not read. {CURE}")
    packed = kind == "YBR_FULL_422" and opened.syntax in _PLAIN
    least = rows * columns * (2 if packed else samples) * (bits // 8)
    needed = count * (least if opened.syntax in _PLAIN else 8)
    if size < needed:
        raise ValueError(
            f"{path}: {count} frames of {columns}x{rows} need {needed} bytes, but the file has "
            f"{size}, so it is cut off. Copy or export it anew."
        )


# Uncompressed: implicit and explicit, big endian.
_PLAIN = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")


@contextmanager
def clear_errors(path: Path, what: str = "") -> Iterator[None]:
    """Turn whatever decoders raise and warn of into one message.

    Args:
        path: The file.
        what: What of it is worked on, as `frame 3 of `.

    Raises:
        ValueError: If something is raised inside: names the file and the cure.
    """
    try:
        with warnings.catch_warnings():
            # A birth date written wrongly, an element of odd length: pictures do not suffer.
            warnings.simplefilter("ignore")
            yield
    except _UNREADABLE as error:
        raise ValueError(
            f"{path}: {what}it cannot be read as DICOM ({_reason(error)}). {CURE}"
        ) from error


def _reason(error: BaseException) -> str:
    """Return what is wrong in one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _MAX_REASON else text[:_MAX_REASON] + " ..."
