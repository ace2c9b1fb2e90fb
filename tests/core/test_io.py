import json
import os
import stat
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from vasculora.core.io import (
    MAX_PIXELS,
    read_image,
    read_json,
    read_mask_image,
    write_image,
    write_json,
    write_private_text,
    write_text,
)

GREY = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20


def save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def mask_file(path: Path, values: np.ndarray) -> Path:
    return save(path, Image.fromarray(values))


def striped(low: int, high: int, dtype: type = np.uint8) -> np.ndarray:
    values = np.full((10, 10), low, dtype=dtype)
    values[:, 4] = high
    return values


def test_json_survives_the_way_there_and_back(tmp_path: Path) -> None:
    value = {"phrase": "血管", "dice": [0.5, None], "name": "caf\udce9"}
    write_json(tmp_path / "deep" / "a.json", value)
    assert read_json(tmp_path / "deep" / "a.json") == value
    assert "血管".encode() in (tmp_path / "deep" / "a.json").read_bytes()


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"epoch": 1})
    with pytest.raises(ValueError, match=r"a\.json: this value cannot be written as JSON"):
        write_json(path, {"epoch": float("nan")})
    assert json.loads(path.read_text()) == {"epoch": 1}
    assert names(tmp_path) == ["a.json"]


def test_an_unwritable_place_is_named_with_its_cure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"b\.txt: cannot be written: .*\. Free some space"):
        write_text(tmp_path / "file" / "b.txt", "x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder: cannot be written"):
        write_text(tmp_path / "folder", "x")
    assert names(tmp_path) == ["file", "folder"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_an_os_error_and_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_json(tmp_path / "a.json", {"epoch": 1})
    real_open = os.open
    monkeypatch.setattr(os, "open", lambda path, flags, mode: real_open("/dev/full", os.O_WRONLY))
    with pytest.raises(OSError, match="cannot be written: No space left on device"):
        write_json(tmp_path / "a.json", {"epoch": 2})
    assert names(tmp_path) == ["a.json"]
    assert read_json(tmp_path / "a.json") == {"epoch": 1}


def test_private_text_is_for_its_owner_only_and_other_text_is_not(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        write_private_text(tmp_path / "private.csv", "a")
        write_text(tmp_path / "public.txt", "a")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "private.csv").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "public.txt").stat().st_mode) == 0o644


def test_bad_json_says_where(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": 1,\n "b": }')
    with pytest.raises(ValueError, match=r"a\.json: not valid JSON at line 2, column 7"):
        read_json(tmp_path / "a.json")
    with pytest.raises(FileNotFoundError, match=r"b\.json: no such file"):
        read_json(tmp_path / "b.json")


def test_json_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf[1]")
    assert read_json(tmp_path / "a.json") == [1]


def test_written_images_come_back(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    write_image(tmp_path / "rgb.png", rgb)
    write_image(tmp_path / "grey.png", GREY)
    np.testing.assert_array_equal(read_image(tmp_path / "rgb.png"), rgb)
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png"), np.stack([GREY] * 3, axis=-1))
    with pytest.raises(ValueError, match="no known image format"):
        write_image(tmp_path / "grey.xyz", GREY)


def test_an_opaque_alpha_channel_is_dropped_and_a_real_one_refused(tmp_path: Path) -> None:
    rgba = np.dstack([GREY, GREY, GREY, np.full_like(GREY, 255)])
    path = save(tmp_path / "a.png", Image.fromarray(rgba))
    np.testing.assert_array_equal(read_image(path), rgba[..., :3])
    rgba[0, 0, 3] = 254
    path = save(tmp_path / "b.png", Image.fromarray(rgba))
    with pytest.raises(ValueError, match=r"b\.png: has transparent pixels. Export it without"):
        read_image(path)


def test_a_transparent_palette_colour_is_refused_where_it_is_used(tmp_path: Path) -> None:
    palette = Image.fromarray(GREY).convert("P")
    path = save(tmp_path / "a.png", palette, transparency=palette.getpixel((0, 0)))
    with pytest.raises(ValueError, match="has transparent pixels"):
        read_image(path)


def test_16_bit_grey_is_scaled_by_the_full_range(tmp_path: Path) -> None:
    values = np.array([[0, 257], [25700, 65535]], dtype=np.uint16)
    path = save(tmp_path / "a.png", Image.fromarray(values))
    np.testing.assert_array_equal(read_image(path)[..., 0], [[0, 1], [100, 255]])


def test_12_bits_in_a_16_bit_file_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", Image.fromarray(np.full((3, 3), 4095, dtype=np.uint16)))
    with pytest.raises(ValueError, match=r"a\.tif: 16 bit file whose brightest value is 4095"):
        read_image(path)


def test_floating_point_and_print_colours_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", Image.fromarray(np.ones((3, 3), dtype=np.float32)))
    with pytest.raises(ValueError, match=r"a\.tif: its pixels are of kind 'F'"):
        read_image(path)
    path = save(tmp_path / "b.jpg", Image.new("CMYK", (3, 3)))
    with pytest.raises(ValueError, match=r"b\.jpg: its pixels are of kind 'CMYK'"):
        read_image(path)


def test_damaged_and_missing_files_are_named(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", Image.effect_noise((64, 64), 50))
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match=r"a\.png: cannot be read as an image"):
        read_image(path)
    (tmp_path / "b.png").write_text("no image")
    with pytest.raises(ValueError, match=r"b\.png: cannot be read as an image"):
        read_image(tmp_path / "b.png")
    with pytest.raises(FileNotFoundError, match=r"c\.png: no such image file"):
        read_image(tmp_path / "c.png")


def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    side = int(MAX_PIXELS**0.5) + 1
    path = save(tmp_path / "a.png", Image.new("1", (side, side)))
    with pytest.raises(ValueError, match=r"a\.png: larger than 175 million pixels"):
        read_image(path)


def test_several_frames_are_refused(tmp_path: Path) -> None:
    frames = [Image.new("L", (4, 4), value) for value in (0, 200)]
    path = save(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match=r"a\.gif: holds 2 frames"):
        read_image(path)


def test_a_photograph_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / "a.png", Image.fromarray(GREY), exif=exif)
    np.testing.assert_array_equal(read_image(path)[..., 0], np.rot90(GREY, -1))


@pytest.mark.parametrize("high", [1, 38, 128, 255])
def test_two_valued_masks_are_cut_above_zero(tmp_path: Path, high: int) -> None:
    mask = read_mask_image(mask_file(tmp_path / "m.png", striped(0, high)))
    np.testing.assert_array_equal(mask, striped(0, 1).astype(bool))
    mask = read_mask_image(mask_file(tmp_path / "m16.png", striped(0, high * 257, np.uint16)))
    np.testing.assert_array_equal(mask, striped(0, 1).astype(bool))


def test_soft_edges_are_cut_at_128(tmp_path: Path) -> None:
    values = striped(0, 255)
    values[0, :3] = (127, 128, 60)
    mask = read_mask_image(mask_file(tmp_path / "m.png", values))
    np.testing.assert_array_equal(mask[0, :5], [False, True, False, False, True])


def test_full_and_empty_masks(tmp_path: Path) -> None:
    assert read_mask_image(mask_file(tmp_path / "f.png", np.full((4, 4), 255, np.uint8))).all()
    assert not read_mask_image(mask_file(tmp_path / "e.png", np.zeros((4, 4), np.uint8))).any()


def test_one_bit_palette_alpha_and_grey_rgb_masks_are_read(tmp_path: Path) -> None:
    truth = striped(0, 1).astype(bool)
    grey = Image.fromarray(striped(0, 255))
    # Index 0 stands for white here: the grey counts, not the index.
    inverted = Image.fromarray(striped(1, 0)).convert("P")
    inverted.putpalette([255, 255, 255, 0, 0, 0])
    for name, image in {
        "bit.png": grey.convert("1"),
        "rgb.png": grey.convert("RGB"),
        "la.png": grey.convert("LA"),
        "rgba.png": grey.convert("RGBA"),
        "p.gif": grey.convert("P"),
        "inverted.gif": inverted,
    }.items():
        np.testing.assert_array_equal(read_mask_image(save(tmp_path / name, image)), truth, name)


def test_what_is_no_mask_is_refused_with_the_reason(tmp_path: Path) -> None:
    picture = Image.linear_gradient("L")
    with pytest.raises(ValueError, match=r"a\.png: 75% of its pixels are grey, so this is no mask"):
        read_mask_image(save(tmp_path / "a.png", picture))
    colours = Image.new("RGB", (9, 9))
    ImageDraw.Draw(colours).point((1, 1), (255, 0, 0))
    with pytest.raises(ValueError, match=r"b\.png: is in colour"):
        read_mask_image(save(tmp_path / "b.png", colours))
    classes = striped(0, 1)
    classes[0, 0] = 2
    with pytest.raises(ValueError, match=r"d\.png: nothing in it is white \(values up to 2\)"):
        read_mask_image(mask_file(tmp_path / "d.png", classes.astype(np.uint16)))
    with pytest.raises(ValueError, match=r"c\.png: nothing in it is white \(values up to 2\)"):
        read_mask_image(mask_file(tmp_path / "c.png", classes))
