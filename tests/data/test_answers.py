from pathlib import Path

import numpy as np
import pytest

from vasculora.core.io import write_image
from vasculora.core.types import Record, Target
from vasculora.data.answers import find_answers, read_answer
from vasculora.data.dataset import load_sample
from vasculora.data.sources import read_source
from vasculora.metrics.mask import count, dice


def put(folder: Path, *names: str, height: int = 6) -> Path:
    mask = np.zeros((height, 8), np.uint8)
    mask[1:3] = 255
    for name in names:
        write_image(folder / name, mask)
    return folder


def records_of(
    folder: Path, *names: str, frame: int | None = None, num_targets: int = 1
) -> tuple[Record, ...]:
    return tuple(
        Record(
            case_id=f"case_{number}",
            group="g",
            image_path=folder / name,
            targets=(Target(absent=True),) * num_targets,
            frame=frame,
        )
        for number, name in enumerate(names)
    )


ONE_TWO_THREE = ("1.png", "2.jpg", "3.v2.tif")


@pytest.mark.parametrize(
    ("files", "suffix"),
    [
        (("1.png", "2.png", "3.v2.gif"), ""),
        (("1_mask.png", "2_mask.png", "3.v2_mask.png"), ":_mask"),
        # Another kind of file does not count, nor do other files of `predict`.
        (("1_mask.png", "2_mask.png", "3.v2_mask.png", "1_mask.tif", "1_prob.png"), ":_mask.png"),
        (("1.png", "2.png", "3.v2.png", "2.bmp"), ":.png"),
        # Pseudonyms, as `predict` calls what it makes of DICOM.
        (("case_0_mask.png", "case_1_mask.png", "case_2_mask.png"), ":_mask"),
        (("images/1.png", "images/2.png", "images/3.v2.png"), ""),
        (("p/images/1.png", "images/2.png", "3.v2.png"), ""),
    ],
)
def test_an_answer_is_called_like_its_image(
    tmp_path: Path, files: tuple[str, ...], suffix: str
) -> None:
    records = records_of(tmp_path / "p" / "images", *ONE_TWO_THREE)
    out = put(tmp_path / "out", *files)
    assert find_answers(f"{out}{suffix}", records) == {
        record.case_id: out / file for record, file in zip(records, files[:3], strict=True)
    }


def test_an_image_is_not_its_own_answer(tmp_path: Path) -> None:
    put(tmp_path, "1.jpg", "1.png", "2.png")
    answers = find_answers(str(tmp_path), records_of(tmp_path, "1.jpg"))
    assert answers == {"case_0": tmp_path / "1.png"}
    (tmp_path / "again").symlink_to(tmp_path)
    with pytest.raises(FileNotFoundError, match="1 of 1 images have no answer"):
        find_answers(str(tmp_path / "again"), records_of(tmp_path, "2.png"))


def test_a_colon_may_be_part_of_a_folders_name(tmp_path: Path) -> None:
    folder = put(tmp_path / "to:day", "1.png", "1_mask.png")
    for where, file in ((f"{folder}", "1.png"), (f"{folder}:_mask", "1_mask.png")):
        answers = find_answers(where, records_of(tmp_path / "data", "1.png"))
        assert answers == {"case_0": folder / file}


def test_a_frame_is_asked_for_by_its_case(tmp_path: Path) -> None:
    out = put(tmp_path / "out", "run_mask.png", "case_0_mask.png")
    records = records_of(tmp_path, "run.dcm", frame=3)
    assert find_answers(f"{out}:_mask", records) == {"case_0": out / "case_0_mask.png"}


@pytest.mark.parametrize(
    ("where", "names", "num_targets", "message"),
    [
        ("gone", ("1.png",), 1, "gone: no such folder. Give the folder of the masks"),
        ("C:\\gone\\masks", ("1.png",), 1, r"C:\\gone\\masks: no such folder"),
        ("gone:_mask", ("1.png",), 1, "gone: no such folder"),
        (":_mask", ("1.png",), 1, ":_mask: no such folder"),
        ("out/1.png", ("1.png",), 1, "is a file, not a folder"),
        (
            "out",
            ("1.png", "7.png"),
            1,
            r"1 of 2 images have no answer there: 7\. Looked for '7' \(",
        ),
        (
            "out",
            tuple(f"x{i}.png" for i in range(12)),
            1,
            r"12 of 12 .*: x0, x1, .*, x9 \.\.\.\. Look",
        ),
        ("out:_mask.PNG", ("1.png",), 1, r"Looked for '1_mask\.png'; it holds 2 images, as 1\.png"),
        ("out", ("2.png",), 1, r"image 2 has 2 answers: 2\.gif, 2\.png\. Keep one"),
        (
            "out",
            ("a/1.png", "b/1.png"),
            1,
            r"1\.png: would be the answer to .*a/1\.png and to .*b/1",
        ),
        ("out", ("1.png",), 2, r"1 of 1 images have several masks \(first: case_0, 2\)"),
    ],
)
def test_what_is_no_answer_for_each_image(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    names: tuple[str, ...],
    num_targets: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "out", "1.png", "2.png", "2.gif")
    records = records_of(tmp_path / "data", *names, num_targets=num_targets)
    with pytest.raises((FileNotFoundError, ValueError), match=message):
        find_answers(where, records)


def test_an_answer_must_be_a_mask_on_its_image(tmp_path: Path) -> None:
    image = np.zeros((6, 8, 3), np.uint8)
    put(tmp_path, "good.png")
    put(tmp_path, "large.png", height=7)
    assert read_answer(tmp_path / "good.png", image).sum() == 16
    with pytest.raises(ValueError, match=r"large\.png: mask is 8x7 but image is 8x6\. Re-export"):
        read_answer(tmp_path / "large.png", image)
    write_image(tmp_path / "prob.png", np.arange(48, dtype=np.uint8).reshape(6, 8) * 5)
    with pytest.raises(ValueError, match=r"prob\.png: .*this is no mask but a picture"):
        read_answer(tmp_path / "prob.png", image)


def test_real_observers_agree_as_far_as_is_published(shared_dir: Path) -> None:
    data = shared_dir / "data" / "chase_db1"
    records = read_source(data).records
    answers = find_answers(f"{data / 'CHASEDB1'}:_2ndHO", records)
    assert list(answers.values()) == [record.second_path for record in records]
    scores = []
    for record in records:
        sample = load_sample(record, phrase="x")
        scores.append(
            dice(count(read_answer(answers[record.case_id], sample.image), sample.masks[0]))
        )
    assert np.mean(scores) == pytest.approx(0.777, abs=0.002)
