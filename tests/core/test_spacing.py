import math

import numpy as np
import pytest
from pydicom import Dataset, Sequence

from vasculora.core.dicom_file import read_header
from vasculora.core.spacing import as_spacing, dicom_spacing

FACTOR = "EstimatedRadiographicMagnificationFactor"
KIND = "PixelSpacingCalibrationType"


def shared(spacing):
    measures, groups = Dataset(), Dataset()
    measures.PixelSpacing = spacing
    groups.PixelMeasuresSequence = Sequence([measures])
    return {"SharedFunctionalGroupsSequence": Sequence([groups])}


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({}, None),
        ({"Modality": "OP", "PixelSpacing": [0.01, 0.02]}, (0.01, 0.02)),
        ({"Modality": "OPT", **shared([0.01, 0.02])}, (0.01, 0.02)),
        # Of an X-ray image it may be the detector's.
        ({"Modality": "XA", "PixelSpacing": [0.2, 0.2]}, None),
        ({"Modality": "XA", "PixelSpacing": [0.2, 0.3], KIND: "FIDUCIAL"}, (0.2, 0.3)),
        ({"Modality": "XA", "PixelSpacing": [0.2, 0.2], "ImagerPixelSpacing": [0.2, 0.2]}, None),
        ({"PixelSpacing": ["0.2", "0.2"], "ImagerPixelSpacing": ["0.20", "0.20001"]}, None),
        ({"PixelSpacing": [0.2, 0.2], "NominalScannedPixelSpacing": [0.2, 0.2]}, None),
        (
            {"Modality": "XA", "PixelSpacing": [0.2, 0.2], "ImagerPixelSpacing": [0.3, 0.3]},
            (0.2,) * 2,
        ),
        ({"ImagerPixelSpacing": [0.3, 0.36]}, None),
        ({"ImagerPixelSpacing": [0.3, 0.36], FACTOR: 1.2}, (0.25, 0.3)),
        ({"PixelSpacing": [0.3, 0.3], "ImagerPixelSpacing": [0.3, 0.3], FACTOR: 1.5}, (0.2, 0.2)),
        ({"PixelSpacing": [0, 0], "ImagerPixelSpacing": [0.3, 0.3], FACTOR: 1.5}, (0.2, 0.2)),
        # What cannot be is not known.
        ({"ImagerPixelSpacing": [0.3, 0.3], FACTOR: 0}, None),
        ({"ImagerPixelSpacing": [0.3, 0.3], FACTOR: 0.5}, None),
        ({"ImagerPixelSpacing": [0.3, 0.3], FACTOR: 1200}, None),
        ({"Modality": "OP", "PixelSpacing": [0.01]}, None),
        ({"Modality": "OP", "PixelSpacing": 0.01}, None),
        ({"Modality": "OP", "PixelSpacing": None}, None),
        ({"Modality": "OP", "PixelSpacing": [-0.01, 0.01]}, None),
        ({"Modality": "OP", "PixelSpacing": [1000, 1000]}, None),
    ],
)
def test_a_pixel_is_measured_in_the_patient_or_not_at_all(elements, expected):
    ds = Dataset()
    for name, value in elements.items():
        setattr(ds, name, value)
    found = dicom_spacing(ds)
    assert found == (None if expected is None else pytest.approx(expected))


def test_a_text_where_numbers_belong_says_nothing():
    ds = Dataset()
    ds.add_new("PixelSpacing", "LO", "12")
    assert dicom_spacing(ds) is None


@pytest.mark.parametrize(
    "raw", [b"wide\\tall ", b"\xff\xfe", b"1e999\\1 ", b"nan\\nan ", b"0,2\\0,2 "]
)
def test_elements_that_say_nothing_stop_nothing(raw, tmp_path, write_dicom):
    path = write_dicom(
        tmp_path / "a.dcm", np.zeros((2, 2), np.uint8), Modality="OP", PixelSpacing=[0.25, 0.5]
    )
    data = path.read_bytes()
    good = b"0.25\\0.5"
    assert data.count(good) == 1
    assert read_header(path).spacing == (0.25, 0.5)
    (tmp_path / "b.dcm").write_bytes(data.replace(good, raw[:8].ljust(8)))
    assert read_header(tmp_path / "b.dcm").spacing is None


@pytest.mark.parametrize(
    "values",
    [(), (1,), (1, 1, 1), (0, 1), (1, -1), (math.nan, 1), (math.inf, 1), (10**400, 1), (0.1, 9)],
)
def test_what_is_no_size_of_a_pixel(values):
    assert as_spacing(values) is None
