import numpy as np
import pytest
from PIL import Image

from vasculora.data.encoding import image_encoding, mask_encoding


def mask(high=255, low=0, dtype=np.uint8):
    values = np.full((8, 8), low, dtype=dtype)
    values[3] = high
    return values


@pytest.mark.parametrize(
    ("image", "told"),
    [
        (Image.fromarray(mask()), "8 bit grey, 0/255"),
        (Image.fromarray(mask(1)), "8 bit grey, 0/1"),
        (Image.fromarray(mask(0)), "8 bit grey, 0"),
        (Image.fromarray(mask() > 0), "1 bit, 0/255"),
        (Image.fromarray(mask()).convert("RGBA"), "RGB with alpha, 0/255"),
        (Image.fromarray(mask()).convert("P"), "palette, 0/255"),
        (Image.fromarray(mask(65535, dtype=np.uint16)), "16 bit grey, 0/65535"),
        (Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)), "8 bit grey, 0 to 63"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_mask_is_told_by_its_kind_and_values(tmp_path, image, told):
    image.save(tmp_path / "mask.png")
    assert mask_encoding(tmp_path / "mask.png") == told


def test_an_image_is_told_by_its_kind(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.jpg")
    assert image_encoding(tmp_path / "a.jpg") == "RGB"
    assert image_encoding(tmp_path / "a.jpg", 3) == "DICOM"
    (tmp_path / "a.xyz").write_bytes(b"no picture")
    assert image_encoding(tmp_path / "a.xyz") == "XYZ"
    (tmp_path / "IM6").write_bytes(bytes(128) + b"DICM")
    assert image_encoding(tmp_path / "IM6") == "DICOM"
