import json
import shutil

import pytest

from vasculora.core.io import read_json
from vasculora.engine.evaluator import Evaluation
from vasculora.recipes.config import EvaluateConfig
from vasculora.recipes.evaluate import evaluate_model, warn_if_deaf
from vasculora.recipes.finetune import finetune

KEYS = ["split", "num_cases", "seg_rate", "threshold"]
KEYS += ["prompt_sensitivity", "truth_sensitivity", "mean", "cases"]
CASE_KEYS = ["case_id", "group", "dice", "iou", "sensitivity", "precision", "seg_found"]


@pytest.fixture
def score(tmp_path, tiny_base, drawn_dir, recorder):
    def run(**changes):
        config = {"model": str(tiny_base), "data": drawn_dir, "batch_size": 4} | changes
        evaluate_model(EvaluateConfig(**config), tmp_path / "out", report=recorder)
        return read_json(tmp_path / "out" / "evaluation.json")

    return run


@pytest.fixture
def split_dir(tmp_path, drawn_dir):
    data = tmp_path / "data"
    shutil.copytree(drawn_dir, data)
    split = {"train": ["0000", "0004"], "val": ["0002", "0003", "0008"], "test": ["0005"]}
    (data / "split.json").write_text(json.dumps(split))
    return data


def test_one_mask_for_every_phrase_is_warned_of(recorder):
    def found(heard, meant):
        return Evaluation(
            cases=(), mean_probs=(), prompt_sensitivity=heard, truth_sensitivity=meant
        )

    for fine in (found(None, None), found(0.1, 0.98), found(0.0, 0.0)):
        warn_if_deaf(fine, recorder)
    assert not recorder.warnings
    warn_if_deaf(found(0.01, 0.98), recorder)
    assert "prompt sensitivity 0.010, but 0.980 between the true masks" in recorder.warnings[0]


def test_without_a_split_all_is_scored_and_said(score, recorder, drawn_dir):
    result = score(split="val")
    assert list(result) == KEYS
    assert [list(case) for case in result["cases"]] == [CASE_KEYS] * 10
    assert list(result["mean"]) == ["dice", "iou", "sensitivity", "precision"]
    assert (result["split"], result["num_cases"], result["threshold"]) == ("all", 10, 0.5)
    assert result["seg_rate"] == 1.0
    for name, mean in result["mean"].items():
        assert mean == pytest.approx(sum(case[name] for case in result["cases"]) / 10)
    assert "The data has no split.json, so all of it is scored." in recorder.notes
    assert sorted(path.name for path in drawn_dir.iterdir()) == ["images", "masks"]


@pytest.mark.parametrize(
    ("asked", "used", "cases"),
    [
        (None, "val", ["0002", "0003", "0008"]),
        ("train", "train", ["0000", "0004"]),
        ("test", "test", ["0005"]),
        ("all", "all", [f"{number:04d}" for number in range(10)]),
    ],
)
def test_the_data_s_own_split_counts(asked, used, cases, score, split_dir):
    result = score(data=split_dir, split=asked)
    assert result["split"] == used
    assert [case["case_id"] for case in result["cases"]] == cases


def test_without_a_val_the_test_part_is_scored(score, split_dir):
    (split_dir / "split.json").write_text(json.dumps({"train": ["0000"], "test": ["0005"]}))
    result = score(data=split_dir)
    assert (result["split"], result["num_cases"]) == ("test", 1)


def test_a_run_s_split_counts_for_its_own_data_only(
    score, tmp_path, tiny_settings, recorder, drawn_dir
):
    run = tmp_path / "run"
    finetune(tiny_settings(trainer__epochs=1, data__path=str(drawn_dir)), run, report=recorder)
    result = score(model=str(run), split="val")
    assert [case["case_id"] for case in result["cases"]] == read_json(run / "split.json")["val"]
    assert result == read_json(run / "evaluation.json")

    other = tmp_path / "other"
    for part in ("images", "masks"):
        (other / part).mkdir(parents=True)
        shutil.copy(drawn_dir / part / "0000.png", other / part / "elsewhere.png")
    result = score(model=str(run), data=other, split="val")
    assert (result["split"], result["num_cases"]) == ("all", 1)
    assert "The run was trained on other images, so its split does not count here." in (
        recorder.notes
    )


def test_every_phrase_of_an_image_is_a_case(score, tmp_path, drawn_dir, recorder):
    data = tmp_path / "phrases"
    data.mkdir()
    shutil.copy(drawn_dir / "images" / "0000.png", data / "a.png")
    rings = [[[5, 5, 40, 5, 40, 40]], [[10, 50, 60, 50, 60, 60]]]
    entry = {"image": "a.png", "mask": rings, "text": ["vein", "冠状动脉"]}
    (data / "annotations.json").write_text(json.dumps([entry]))
    result = score(data=data)
    assert [case["case_id"] for case in result["cases"]] == ["a: vein", "a: 冠状动脉"]
    assert recorder.counts["Scoring"] == (2, 2)


def test_the_threshold_can_be_another(score):
    low, high = score(threshold=1e-6), score(threshold=0.999999)
    assert low["threshold"] == 1e-6
    assert low["mean"]["sensitivity"] == pytest.approx(1.0)
    assert high["mean"]["sensitivity"] == 0.0


def test_nothing_is_written_into_the_data(drawn_dir, tiny_base, recorder):
    config = EvaluateConfig(model=str(tiny_base), data=drawn_dir)
    with pytest.raises(ValueError, match="lies inside the data folder"):
        evaluate_model(config, drawn_dir / "scores", report=recorder)


def test_the_score_is_told_in_a_table(score, recorder, tiny_base):
    result = score()
    title, columns, rows = recorder.tables[-1]
    assert title == f"{tiny_base} on all (10 cases, threshold 0.5)"
    assert columns == ("Dice", "IoU", "sensitivity", "precision", "answers with [SEG]")
    assert rows == [(*(f"{result['mean'][n]:.4f}" for n in result["mean"]), "100.0%")]
