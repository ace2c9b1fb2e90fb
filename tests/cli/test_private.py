"""No name of a patient in a DICOM file, or in what it is called, reaches anything written."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from vasculora.cli.app import app
from vasculora.core.io import write_image

PLANTED = ("MUSTERMANN", "ERIKA", "19530401", "PID778899", "ACC5511", "Weiland", "1.2.826.0.1.7")
"""Name, birth date, number, accession, physician and unique id; in headers and in paths."""
TINY = ("--set", "lora.rank=2", "--set", "lora.alpha=2", "--batch-size", 4, "--epochs", 1)


def call(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def done(*words):
    result = call(*words)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture
def cd(tmp_path, write_dicom):
    """Two patients' cines, with masks for two frames each, under names that tell who they are."""
    root = tmp_path / "MUSTERMANN ERIKA" / "cd"
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:64, :64]
    for patient in range(2):
        cine = rng.integers(120, 150, (5, 64, 64)).astype(np.uint8)
        masks = []
        for frame in range(5):
            y, x = rng.uniform(22, 42, 2)
            masks.append((rows - y) ** 2 + (columns - x) ** 2 < 15**2)
            cine[frame][masks[-1]] //= 3
        name = f"PID778899{patient}_19530401"
        write_dicom(
            root / "images" / "Weiland" / name,
            cine,
            PatientName="MUSTERMANN^ERIKA",
            PatientID=f"PID778899{patient}",
            PatientBirthDate="19530401",
            AccessionNumber="ACC5511",
            ReferringPhysicianName="Weiland^Hans",
            StudyInstanceUID="1.2.826.0.1.7.1",
            SOPInstanceUID=f"1.2.826.0.1.7.2.{patient}",
            ImageComments="MUSTERMANN ERIKA",
        )
        for frame in (1, 3):
            path = root / "masks" / "Weiland" / f"{name}_f{frame:03d}.png"
            write_image(path, masks[frame].astype(np.uint8) * 255)
    return root


def check_written(folder: Path, least: int):
    """Look for what was planted in all bytes and names below a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) >= least
    for path in files:
        data = path.read_bytes()
        for text in PLANTED:
            assert text not in str(path.relative_to(folder)), path
            for encoding in ("utf-8", "utf-16-le"):
                assert text.encode(encoding) not in data, f"{text} in {path}"


def test_frames_are_written_for_annotation(tmp_path, cd):
    out = tmp_path / "out"
    result = done("data", "import", cd / "images", "--out", out / "set.jsonl")
    check_written(out, least=4)
    lines = [json.loads(line) for line in (out / "set.jsonl").read_text().splitlines()]
    assert [sorted(line) for line in lines] == [["case", "group", "image"]] * 2
    assert lines[0]["group"] != lines[1]["group"]
    assert not any(text in result.stdout for text in PLANTED)
    # Drawn masks make that folder a data set, grouped as the files were.
    folder = out / "set_frames"
    for line in lines:
        image = out / line["image"]
        assert image.parent == folder / "images"
        write_image(folder / "masks" / image.name, np.eye(64, dtype=np.uint8) * 255)
    again = done("data", "import", folder, "--out", out / "drawn.jsonl")
    assert "Groups: 2, from groups.csv." in again.output
    # What is kept for the owner's eyes is so by his own word.
    done("data", "import", cd / "images", "--out", tmp_path / "mine.jsonl", "--keep-names")
    assert "Weiland" in (tmp_path / "mine.jsonl").read_text()
    assert (tmp_path / "mine.jsonl").stat().st_mode & 0o777 == 0o600


def test_annotated_frames_keep_their_masks(tmp_path, cd):
    out = tmp_path / "out"
    done("data", "import", cd, "--out", out / "set.jsonl")
    check_written(out, least=10)
    lines = [json.loads(line) for line in (out / "set.jsonl").read_text().splitlines()]
    assert [line["case"][-5:] for line in lines] == ["_f001", "_f003"] * 2
    assert all((out / line["mask"]).is_file() for line in lines)


@pytest.mark.slow
def test_a_run_and_its_use(tmp_path, cd, tiny_base):
    out = tmp_path / "out"
    result = done("finetune", "--model", tiny_base, "--data", cd, "--out", out / "run", *TINY)
    assert "DICOM: names of files and patients are private" in result.output
    done("evaluate", out / "run", "--data", cd, "--out", out / "scores", "--split", "all")
    done("data", "preview", cd, "--num", 4, "--out", out / "preview.png")
    checked = call("data", "check", cd, "--json", "--sheet", out / "sheet.png")
    assert checked.exit_code in (0, 1), checked.output
    (out / "check.json").write_text(checked.stdout)
    shown = done("predict", out / "run", cd / "images", "--frames", "peak", "--out", out / "masks")
    check_written(out, least=20)
    assert not any(text in shown.stdout for text in PLANTED)
    assert "Weiland" in shown.stderr  # the user himself is told which is which
    assert "PRIVATE" in (out / "run" / "config.yaml").read_text()
    refused = call("finetune", "--out", out / "run", "--resume")
    assert refused.exit_code == 2
    assert "Give it with --data" in refused.stderr.replace("\n", " ")


def test_masks_from_elsewhere_may_lie_under_a_name(tmp_path, cd, tiny_base, monkeypatch):
    masks, out = cd.parent / "drawn", tmp_path / "out"
    done("predict", tiny_base, cd / "images", "--frames", "all", "--out", masks)
    for number, words in enumerate((["--against", f"{masks}:_mask"], [f"--against={masks}:_mask"])):
        typed = ["evaluate", *words, "--data", str(cd), "--out", str(out / f"{number}")]
        monkeypatch.setattr("sys.argv", ["vasculora", *typed])  # what the report tells
        shown = done(*typed)
        assert not any(text in shown.stdout for text in PLANTED)
    check_written(out, least=6)
    assert json.loads((out / "0" / "evaluation.json").read_text())["against"] == "PRIVATE"


def test_what_is_not_annotated_is_refused(tmp_path, cd, tiny_base):
    for words in (
        ("finetune", "--model", tiny_base, "--out", tmp_path / "run"),
        ("evaluate", tiny_base, "--out", tmp_path / "scores"),
    ):
        result = call(*words, "--data", cd / "images")
        assert result.exit_code == 2
        assert "10 of 10 images are not annotated" in result.stderr.replace("\n", " ")


def test_frames_of_nothing_are_refused(tmp_path, drawn_dir, tiny_base):
    for words in (
        ("data", "import", drawn_dir, "--out", tmp_path / "set.jsonl"),
        ("predict", tiny_base, drawn_dir / "images", "--out", tmp_path / "masks"),
    ):
        result = call(*words, "--frames", "3")
        assert result.exit_code == 2
        assert "there are no DICOM files to choose from" in result.stderr.replace("\n", " ")
        assert call(*words, "--frames", "best").exit_code == 2


def test_a_frame_that_single_pictures_do_not_have_is_refused(tmp_path, write_dicom):
    single = write_dicom(tmp_path / "one.dcm", np.full((16, 16), 90, dtype=np.uint8))
    words = ("data", "import", single, "--out", tmp_path / "set.jsonl", "--frames")
    result = call(*words, "5")
    assert result.exit_code == 2
    assert "frame 5 is asked for" in result.stderr
    done(*words, "0")


def test_frames_by_number_and_all(tmp_path, cd, tiny_base):
    cine = next((cd / "images" / "Weiland").iterdir())
    for frames, numbers in (("2", [2]), ("all", range(5))):
        out = tmp_path / frames
        done("predict", tiny_base, cine, "--frames", frames, "--out", out)
        masks = sorted(path.stem[-10:] for path in out.glob("*_mask.png"))
        assert masks == [f"_f{number:03d}_mask" for number in numbers]
    result = call("predict", tiny_base, cine, "--frames", "5", "--out", tmp_path / "no")
    assert result.exit_code == 2
    assert "has no frame 5" in result.stderr.replace("\n", " ")
