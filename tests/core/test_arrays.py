import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vasculora.core.arrays import Archive, read_archive
from vasculora.core.io import read_image, read_mask_image

GREYS = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
MASK = GREYS > 100
STACK = np.stack([GREYS, GREYS + 1])
MASKS = np.stack([MASK, ~MASK])


def save(path: Path, **arrays: Any) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def with_members(path: Path, **members: bytes) -> Path:
    """Write an archive of these bytes, as they are."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return path


def head(shape: str, kind: str = "|u1") -> bytes:
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def plain(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array)
    return buffer.getvalue()


@pytest.mark.parametrize("keys", [("img", "label"), ("imgs", "gts"), ("images", "masks")])
def test_a_picture_and_its_mask(tmp_path: Path, keys: tuple[str, str]) -> None:
    path = save(tmp_path / "a.npz", **dict(zip(keys, (GREYS, MASK), strict=True)), spacing=[1, 1])
    assert read_archive(path) == Archive(image=keys[0], mask=keys[1], num_frames=None)
    np.testing.assert_array_equal(read_image(path), np.repeat(GREYS[..., None], 3, axis=2))
    np.testing.assert_array_equal(read_mask_image(path), MASK)


@pytest.mark.parametrize(
    ("image", "mask", "num_frames"),
    [
        (STACK, MASKS, 2),
        (STACK[..., None], MASKS[..., None], 2),
        (np.repeat(STACK[..., None], 3, axis=3), MASKS, 2),
        (np.repeat(GREYS[..., None], 3, axis=2), MASK, None),
        (GREYS[..., None], MASK[..., None], None),
        (np.asfortranarray(STACK), MASKS, 2),
        # Three columns are no colours where the masks have them too.
        (STACK[..., :3], MASKS[..., :3], 2),
    ],
)
def test_shapes_tell_pictures_from_stacks(
    tmp_path: Path, image: np.ndarray, mask: np.ndarray, num_frames: int | None
) -> None:
    path = save(tmp_path / "a.npz", image=image, mask=mask)
    archive = read_archive(path)
    assert archive is not None
    assert archive.num_frames == num_frames
    frame = None if num_frames is None else 1
    expected = GREYS if num_frames is None else STACK[1]
    width = 3 if image.shape == (2, 3, 3) else 4
    np.testing.assert_array_equal(read_image(path, frame)[..., 2], expected[:, :width])
    truth = MASK if num_frames is None else ~MASK
    np.testing.assert_array_equal(read_mask_image(path, frame), truth[:, :width])


def test_the_full_range_of_a_stack_is_that_of_all_its_frames(tmp_path: Path) -> None:
    dark = np.array([[[0, 257]], [[25700, 65535]]], dtype=np.uint16)
    path = save(tmp_path / "a.npz", image=dark, mask=dark > 0)
    assert read_image(path, 0)[..., 0].tolist() == [[0, 1]]
    assert read_image(path, 1)[..., 0].tolist() == [[100, 255]]
    path = save(tmp_path / "b.npz", image=np.array([[0.0, 0.2, 1.0]]), mask=np.array([[0.0, 1, 0]]))
    assert read_image(path)[..., 0].tolist() == [[0, 51, 255]]
    assert read_mask_image(path).tolist() == [[False, True, False]]


def test_full_and_empty_masks(tmp_path: Path) -> None:
    for mask in (MASK | True, MASK & False, GREYS * 0):
        path = save(tmp_path / "a.npz", image=GREYS, mask=mask)
        np.testing.assert_array_equal(read_mask_image(path), mask.astype(bool))


def test_a_changed_archive_is_read_anew(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", image=GREYS, mask=MASK)
    assert read_image(path)[0, 1, 0] == 20
    save(path, image=GREYS[:2] + 1, mask=~MASK[:2])
    assert read_image(path)[0, 1, 0] == 21
    read_image(path)[:] = 0  # what is handed out is the caller's own
    assert read_image(path)[0, 1, 0] == 21


def test_an_archive_may_name_its_patients(tmp_path: Path) -> None:
    for groups in (np.array(["p1", " p2"]), np.array([1, 2])):
        archive = read_archive(save(tmp_path / "a.npz", imgs=STACK, gts=MASKS, groups=groups))
        assert archive is not None
        assert [group.strip("p") for group in archive.groups] == ["1", "2"]
    archive = read_archive(save(tmp_path / "a.npz", image=GREYS, mask=MASK, group="p1"))
    assert archive is not None
    assert archive.groups == ("p1",)


def test_other_archives_are_none(tmp_path: Path) -> None:
    assert read_archive(save(tmp_path / "a.npz", image=GREYS, spacing=[1])) is None


OBJECTS = np.array([GREYS, GREYS[:2]], dtype=object)
BAD = {
    "two images": ({"image": GREYS, "imgs": GREYS, "gts": MASK}, "holds image and imgs, and only"),
    "objects": ({"imgs": OBJECTS, "gts": MASKS}, "'imgs' is of kind 'object'.* Save an array"),
    "texts": ({"imgs": np.array([["a"]]), "gts": MASK}, "which holds no plain numbers"),
    "complex": ({"imgs": GREYS * 1j, "gts": MASK}, "which holds no plain numbers"),
    "another size": ({"imgs": GREYS, "gts": MASK.T}, r"\(3, 4\) and masks of shape \(4, 3\) do"),
    "fewer masks": ({"imgs": STACK, "gts": MASKS[:1]}, "do not belong together. Save"),
    "four dimensions": ({"imgs": STACK[None], "gts": MASKS[None]}, "do not belong together. Save"),
    "empty": ({"imgs": STACK[:0], "gts": MASKS[:0]}, r"'imgs' is empty, of shape \(0, 3, 4\)"),
    "a number": ({"imgs": 3, "gts": 1}, r"'imgs' is empty, of shape \(\)"),
    "one group": ({"imgs": STACK, "gts": MASKS, "groups": ["p"]}, "each of 2 pictures, as text"),
    "groups as floats": ({"imgs": STACK, "gts": MASKS, "groups": [0.5, 1]}, "Save it so, or take"),
    "an endless group": ({"imgs": STACK, "gts": MASKS, "groups": ["p", "q" * 2000]}, "8000 bytes"),
    "an empty group": ({"imgs": STACK, "gts": MASKS, "groups": ["", "p"]}, "leaves a group empty"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_with_an_archive_is_said(tmp_path: Path, name: str) -> None:
    arrays, message = BAD[name]
    path = save(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=rf"a\.npz: .*{message}"):
        read_archive(path)


@pytest.mark.parametrize(
    ("image", "mask", "message"),
    [
        (GREYS.astype(np.int64), MASK, r"'image' holds int64 from 0 to 220\. Expected uint8"),
        (GREYS.astype(np.float32), MASK, r"'image' holds float32 from 0 to 220\. Expected"),
        (GREYS / 5000, MASK, r"'image' holds float64 .* make use of their range. Scale it"),
        (GREYS.astype(np.uint16) * 10, MASK, r"'image' holds uint16 from 0 to 2200"),
        (np.where(MASK, np.nan, 0.5), MASK, "'image' holds float64 from nan to nan"),
        (MASK, MASK, "'image' holds bool"),
        (GREYS, GREYS, "'mask' holds uint8 from 0 to 220, which is no mask of 0 and one other"),
        (GREYS, np.where(MASK, np.nan, 0), "'mask' holds float64 from nan to nan"),
        (GREYS, -MASK.astype(int), "'mask' holds int64 from -1 to 0, which is no mask"),
        (GREYS, MASK + 1, "'mask' holds int64 from 1 to 2"),
    ],
)
def test_values_that_would_have_to_be_guessed_at(
    tmp_path: Path, image: np.ndarray, mask: np.ndarray, message: str
) -> None:
    path = save(tmp_path / "a.npz", image=image, mask=mask)
    with pytest.raises(ValueError, match=rf"a\.npz: its array {message}"):
        read_mask_image(path)


@pytest.mark.parametrize(
    "shape", ["(40000, 40000, 10)", "(1000000, 1000000, 1000000)", "(99999999999999999999, 9)"]
)
def test_a_bomb_is_refused_by_its_head_alone(tmp_path: Path, shape: str) -> None:
    path = with_members(tmp_path / "a.npz", imgs=head(shape), gts=head(shape))
    with pytest.raises(ValueError, match=r"a\.npz: its array 'imgs' takes .*Divide it into"):
        read_archive(path)


def test_a_picture_too_large_is_refused(tmp_path: Path) -> None:
    members = {"imgs": head("(20000, 20000)"), "gts": head("(20000, 20000)", "|b1")}
    with pytest.raises(ValueError, match=r"larger than 175 million pixels\. Cut it"):
        read_archive(with_members(tmp_path / "a.npz", **members))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no array",
        head("(3, 4)")[:20],
        head("(3, 'a')"),
        head("(3,"),
        head("(3, 4)", "|O"),
        b"\x93NUMPY\x03\x00" + plain(GREYS)[8:],
        b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31) + b" " * 50,
    ],
)
def test_a_damaged_array_is_named(tmp_path: Path, data: bytes) -> None:
    path = with_members(tmp_path / "a.npz", imgs=data, gts=plain(MASK))
    with pytest.raises(ValueError, match=r"a\.npz: .*Save (it|an array)"):
        read_archive(path)


def test_arrays_that_end_too_early_are_named(tmp_path: Path) -> None:
    path = with_members(tmp_path / "a.npz", imgs=plain(GREYS)[:-3], gts=plain(MASK))
    assert read_archive(path) is not None
    with pytest.raises(ValueError, match=r"a\.npz: cannot be read as a NumPy archive"):
        read_image(path)


@pytest.mark.parametrize("size", [0, 30, 200])
def test_a_cut_archive_is_named(tmp_path: Path, size: int) -> None:
    path = save(tmp_path / "a.npz", image=GREYS, mask=MASK)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match=r"a\.npz: cannot be read as a NumPy archive .*Save it"):
        read_image(path)


def test_a_frame_that_is_not_there(tmp_path: Path) -> None:
    stack = save(tmp_path / "a.npz", image=STACK, mask=MASKS)
    for frame in (None, 2, -1):
        with pytest.raises(ValueError, match=r"a\.npz: there is no frame .*holds frames 0 to 1"):
            read_image(stack, frame)
    with pytest.raises(ValueError, match=r"no frame 0; it holds one picture"):
        read_mask_image(save(tmp_path / "b.npz", image=GREYS, mask=MASK), 0)
    with pytest.raises(FileNotFoundError, match=r"c\.npz: no such archive"):
        read_image(tmp_path / "c.npz")
    with pytest.raises(ValueError, match=r"holds no image with a mask\. Name the arrays"):
        read_image(save(tmp_path / "d.npz", image=GREYS))
