"""`data check` as a user types it, on sets with planted faults."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from vasculora.cli.app import app
from vasculora.core.io import read_image, read_mask_image, write_image, write_json


def call(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def found(data, *words):
    """Return the exit code and what the JSON says, without the slow part."""
    result = call("data", "check", data, "--json", "--set", "num_ceilings=0", *words)
    assert result.exit_code in (0, 1), result.output
    return result.exit_code, json.loads(result.stdout)


@pytest.fixture
def data(tmp_path, drawn_dir):
    shutil.copytree(drawn_dir, tmp_path / "set")
    return tmp_path / "set"


def mask_of(data, name="0003"):
    return data / "masks" / f"{name}.png"


def cut_off(data):
    path = data / "images" / "0003.png"
    path.write_bytes(path.read_bytes()[:200])


def turn(data):
    mask = read_mask_image(mask_of(data))
    write_image(mask_of(data), mask[:50].astype(np.uint8) * 255)


def empty(data):
    write_image(mask_of(data), np.zeros((64, 64), dtype=np.uint8))


def invert(data):
    write_image(mask_of(data), (~read_mask_image(mask_of(data))).astype(np.uint8) * 255)


def see_through(data):
    path = data / "images" / "0003.png"
    alpha = np.full((64, 64, 1), 40, dtype=np.uint8)
    Image.fromarray(np.concatenate([read_image(path), alpha], axis=2)).save(path)


def number_classes(data):
    mask = read_mask_image(mask_of(data)).astype(np.uint8)
    mask[:, ::2] *= 3
    write_image(mask_of(data), mask)


def darken_16_bit(data):
    path = data / "images" / "0003.png"
    Image.fromarray(read_image(path)[..., 0].astype(np.uint16) * 4).save(path)


STOPPING = {
    cut_off: ("unusable", "cannot be read as an image"),
    turn: ("unusable", "mask is 64x50 but image is 64x64"),
    empty: ("unusable", "the mask of 'blood vessel' is empty"),
    see_through: ("unusable", "has transparent pixels"),
    number_classes: ("unusable", "these are class numbers"),
    darken_16_bit: ("unusable", "probably 10 or 12 bit"),
    invert: ("inverted", "Invert it."),
}


def test_a_healthy_set_passes_and_is_described(drawn_dir):
    code, told = found(drawn_dir)
    assert code == 0
    assert told["ok"]
    assert not [one for one in told["findings"] if one["level"] == "error"]
    assert (told["images"], told["targets"], told["groups"]) == (10, 10, 10)
    assert told["parts"] == {"train": 8, "val": 2}
    assert told["sizes"] == {"64x64": 10}
    assert told["modalities"] == {"xray": 10}
    assert told["mask_encodings"] == {"8 bit grey, 0/255": 10}
    shares = [read_mask_image(path).mean() for path in sorted((drawn_dir / "masks").glob("*.png"))]
    assert told["foreground"]["mean"] == pytest.approx(np.mean(shares))
    assert told["foreground"]["max"] == pytest.approx(max(shares))
    assert 1 <= told["vessel_width"]["median"] <= 8
    assert told["target"] == "full"


@pytest.mark.parametrize("plant", STOPPING, ids=lambda plant: plant.__name__)
def test_what_must_stop_a_run_fails_the_check(data, plant):
    plant(data)
    code, told = found(data)
    kind, text = STOPPING[plant]
    errors = [one for one in told["findings"] if one["level"] == "error"]
    assert code == 1
    assert [(one["kind"], one["cases"]) for one in errors] == [(kind, ["0003"])]
    assert text in errors[0]["text"]
    assert errors[0]["files"][0].endswith("0003.png")


def test_every_bad_case_is_listed_not_the_first(data):
    for name in ("0001", "0002", "0004", "0006", "0007"):
        write_image(mask_of(data, name), np.zeros((64, 64), dtype=np.uint8))
    code, told = found(data)
    assert code == 1
    assert [one["cases"] for one in told["findings"] if one["kind"] == "unusable"] == [
        ["0001"],
        ["0002"],
        ["0004"],
        ["0006"],
        ["0007"],
    ]
    code, told = found(data, "--set", "data.allow_empty=true")
    assert code == 0


def test_the_same_picture_on_both_sides_of_the_split_fails(data):
    shutil.copy(data / "images" / "0001.png", data / "images" / "0008.png")
    write_json(
        data / "split.json", {"train": [f"000{n}" for n in range(8)], "val": ["0008", "0009"]}
    )
    code, told = found(data)
    kinds = {one["kind"]: one for one in told["findings"]}
    assert code == 1
    assert set(kinds["leak"]["cases"]) == {"0001", "0008"}
    assert kinds["duplicate"]["cases"] == ["0001", "0008"]
    assert "the same file, but have different masks" in kinds["duplicate"]["text"]
    code, told = found(data, "--set", "data.leaks=warn")
    assert code == 0
    # in one part it harms nobody, and is told all the same
    write_json(data / "split.json", {"train": ["0001", "0008", "0002"], "val": ["0009"]})
    code, told = found(data)
    assert code == 0
    assert [one["kind"] for one in told["findings"] if "0001" in one["cases"]] == ["duplicate"]


def test_a_loop_that_was_filled_is_told(tmp_path):
    """A ring of vessel given as its outline alone, beside nine that leave their inside out."""
    rows, columns = np.mgrid[:96, :96]
    rng = np.random.default_rng(0)
    annotations = []
    for index in range(6):
        middle, radius = rng.uniform(40, 56, size=2), 22 + index
        away = np.hypot(rows - middle[0], columns - middle[1])
        ring = np.abs(away - radius) < 3
        pixels = np.where(ring, 60, 160) + rng.integers(-30, 30, (96, 96))
        write_image(tmp_path / "images" / f"{index}.png", pixels.astype(np.uint8))
        angles = np.linspace(0, 2 * np.pi, 60)
        circle = [
            np.stack([middle[1] + r * np.cos(angles), middle[0] + r * np.sin(angles)], axis=1)
            for r in (radius + 3, radius - 3)
        ]
        # winding numbers: the inner circle backwards takes its inside out again
        rings = circle[0] if index == 3 else np.concatenate([circle[0], circle[1][::-1]])
        annotations.append(
            {"image": f"{index}.png", "mask": [[rings.ravel().tolist()]], "text": ["vessel"]}
        )
    write_json(tmp_path / "annotations.json", annotations)
    code, told = found(tmp_path)
    filled = [one for one in told["findings"] if one["kind"] == "filled"]
    assert code == 0
    assert [one["cases"] for one in filled] == [["3"]]
    assert "fill what a loop of vessels encloses" in filled[0]["text"]


def test_the_screen_says_it_in_tables_and_the_sheet_is_written(data, tmp_path):
    invert(data)
    result = call("data", "check", data, "--sheet", tmp_path / "sheet.png", "--grid", "32")
    text = result.stdout
    assert result.exit_code == 1
    assert "to mend before a run, 1:" in result.stderr
    assert "1 thing to mend before a run." in text
    assert "Sheet of 10 with the outlines" in text
    rows = [line.split()[:4] for line in text.splitlines() if " full " in line]
    assert ["128", "*", "256", "full"] in rows
    assert any(row[:3] == ["32", "256", "full"] for row in rows)
    assert read_image(tmp_path / "sheet.png").shape[1] > 1600


def test_names_of_patients_are_in_nothing_that_is_kept(data, tmp_path):
    for kind in ("images", "masks"):
        for path in (data / kind).glob("*.png"):
            path.rename(path.with_name(f"Li Si(22)_1_frame_{int(path.stem)}.png"))
    path = data / "masks" / "Li Si(22)_1_frame_3.png"
    write_image(path, np.zeros((64, 64), dtype=np.uint8))
    cut = data / "images" / "Li Si(22)_1_frame_4.png"
    cut.write_bytes(cut.read_bytes()[:99])
    code, told = found(data)
    assert code == 1
    assert "Li Si" not in json.dumps(told)
    assert len(told["findings"]) >= 2
    result = call("data", "check", data, "--set", "num_ceilings=0")
    assert "Li Si" not in result.stdout
    assert "Li Si" in result.stderr


def test_a_finding_is_kept_without_names_and_whole(tmp_path, write_dicom):
    data = tmp_path / "DOE_JOHN"
    for number, side in ((1, 64), (2, 32)):
        pixels = np.full((64, 64), 90 * number, dtype=np.uint8)
        write_dicom(data / "images" / f"{number}", pixels, PatientID=f"{number}")
        write_image(data / "masks" / f"{number}.png", np.eye(side, dtype=np.uint8) * 255)
    write_json(data / "split.json", {"train": ["1"], "val": ["2"]})
    code, told = found(data, "--fold", "1/2")
    assert code == 1
    assert "DOE" not in json.dumps(told)
    texts = [one["text"] for one in told["findings"]]
    assert any(text.startswith("the data has its own split, so fold 1/2") for text in texts)
    assert any("mask is 32x32 but image is 64x64." in text for text in texts)


@pytest.mark.parametrize("option", ["--grid", "--image-size"])
def test_a_size_of_nothing_is_refused(data, option):
    assert call("data", "check", data, option, "0").exit_code == 2


def test_a_check_fails_alike_where_no_sheet_can_be_drawn(data, tmp_path):
    for path in (data / "images").glob("*.png"):
        path.write_bytes(b"no picture")
    result = call("data", "check", data, "--sheet", tmp_path / "sheet.png")
    assert result.exit_code == 1
    assert "No sheet is drawn" in result.stdout
    assert not (tmp_path / "sheet.png").exists()


def test_the_sheet_does_not_go_into_the_data(data):
    result = call("data", "check", data, "--sheet", data / "sheet.png")
    assert result.exit_code == 2
    assert "only read" in result.stderr


def test_a_set_without_one_good_case_is_told(data):
    for name in range(10):
        write_image(mask_of(data, f"{name:04}"), np.zeros((64, 64), dtype=np.uint8))
    code, told = found(data)
    assert code == 1
    assert told["findings"][0]["kind"] == "nothing"
    assert len(told["findings"]) == 11
    assert told["target"] is None
