import csv
import json
import shutil

import numpy as np
import pytest

from vasculora.core.config import load_config
from vasculora.core.io import read_json, write_image
from vasculora.engine.scores import Evaluation
from vasculora.metrics.panel import COUNT_METRICS, METRICS
from vasculora.recipes.config import EvaluateConfig
from vasculora.recipes.evaluate import MASK_METRICS, evaluate_model, warn_if_deaf
from vasculora.recipes.finetune import finetune

KEYS = ["model", "against", "data", "split", "num_cases", "num_groups", "threshold", "options"]
KEYS += ["num_trained_on", "seg_rate", "num_absent"]
KEYS += ["false_mask_rate", "prompt_sensitivity", "truth_sensitivity"]
KEYS += [
    "is_deaf",
    "mean",
    "num_defined",
    "interval",
    "at_half",
    "teacher_forced",
    "sweep",
    "reliability",
]
KEYS += ["comparisons", "groups", "cases"]
CASE_KEYS = ["case_id", "group", "seg_found", "absent", *METRICS, "dice_at_half"]
CASE_KEYS += ["dice_teacher_forced"]


@pytest.fixture
def score(tmp_path, tiny_base, drawn_dir, recorder):
    def run(**changes):
        values = {"model": str(tiny_base), "data": str(drawn_dir), "batch_size": 4, "gallery": 3}
        config = load_config(EvaluateConfig, values=values | changes)
        evaluate_model(config, tmp_path / "out", report=recorder)
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
        return Evaluation(cases=(), prompt_sensitivity=heard, truth_sensitivity=meant)

    for fine in (found(None, None), found(0.1, 0.98), found(0.0, 0.0)):
        warn_if_deaf(fine, recorder)
    assert not recorder.warnings
    warn_if_deaf(found(0.01, 0.98), recorder)
    assert "prompt sensitivity 0.010, but 0.980 between the true masks" in recorder.warnings[0]


def test_without_a_split_all_is_scored_and_said(score, recorder, drawn_dir):
    result = score()
    assert list(result) == KEYS
    assert [list(case) for case in result["cases"]] == [CASE_KEYS] * 10
    assert list(result["mean"]) == list(METRICS)
    assert (result["split"], result["num_cases"], result["threshold"]) == ("all", 10, 0.5)
    assert result["seg_rate"] == 1.0
    for name, mean in result["mean"].items():
        known = [case[name] for case in result["cases"] if case[name] is not None]
        assert result["num_defined"][name] == len(known)
        assert mean == (pytest.approx(sum(known) / len(known)) if known else None)
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
    result = score(data=str(split_dir), split=asked)
    assert result["split"] == used
    assert [case["case_id"] for case in result["cases"]] == cases


def test_without_a_val_the_test_part_is_scored(score, split_dir):
    (split_dir / "split.json").write_text(json.dumps({"train": ["0000"], "test": ["0005"]}))
    result = score(data=str(split_dir))
    assert (result["split"], result["num_cases"]) == ("test", 1)


@pytest.mark.slow
def test_a_run_s_split_counts_for_its_own_data_only(
    score, tmp_path, tiny_settings, recorder, drawn_dir
):
    run = tmp_path / "run"
    finetune(tiny_settings(trainer__epochs=1, data__path=str(drawn_dir)), run, report=recorder)
    result = score(model=str(run), split="val")
    assert [case["case_id"] for case in result["cases"]] == read_json(run / "split.json")["val"]
    written = read_json(run / "report" / "evaluation.json")
    assert written.pop("comparisons")[0]["kind"] == "untouched"
    assert result.pop("comparisons") == []
    for scores in (result, written):
        del scores["model"]
    assert result == written

    other = tmp_path / "other"
    for part in ("images", "masks"):
        (other / part).mkdir(parents=True)
        shutil.copy(drawn_dir / part / "0000.png", other / part / "elsewhere.png")
    with pytest.raises(ValueError, match=r"--split val, but the data has no split\.json"):
        score(model=str(run), data=str(other), split="val")
    result = score(model=str(run), data=str(other))
    assert (result["split"], result["num_cases"]) == ("all", 1)
    assert "The run was trained on other images, so its split does not count here." in (
        recorder.notes
    )
    learnt = len(read_json(run / "split.json")["train"])
    assert score(model=str(run), split="train")["num_trained_on"] == learnt
    told = f"{learnt} of {learnt} images are called as images that {run} was trained on."
    assert any(text.startswith(told) for text in recorder.warnings)


def test_every_phrase_of_an_image_is_a_case(score, tmp_path, drawn_dir, recorder):
    data = tmp_path / "phrases"
    data.mkdir()
    shutil.copy(drawn_dir / "images" / "0000.png", data / "a.png")
    rings = [[[5, 5, 40, 5, 40, 40]], [[10, 50, 60, 50, 60, 60]]]
    entry = {"image": "a.png", "mask": rings, "text": ["vein", "冠状动脉"]}
    (data / "annotations.json").write_text(json.dumps([entry]))
    result = score(data=str(data))
    assert [case["case_id"] for case in result["cases"]] == ["a: vein", "a: 冠状动脉"]
    assert recorder.counts["Scoring"] == (2, 2)


def test_the_threshold_can_be_another(score):
    low, high = score(threshold=1e-6), score(threshold=0.999999)
    assert low["threshold"] == 1e-6
    assert low["mean"]["sensitivity"] == pytest.approx(1.0)
    assert high["mean"]["sensitivity"] == 0.0


def test_the_report_of_a_run_is_not_written_over(drawn_dir, tiny_base, recorder, tmp_path):
    (tmp_path / "run" / "report").mkdir(parents=True)
    (tmp_path / "run" / "config.yaml").touch()
    config = EvaluateConfig(model=str(tiny_base), data=drawn_dir)
    with pytest.raises(ValueError, match="holds the report that the run in"):
        evaluate_model(config, tmp_path / "run" / "report", report=recorder)


@pytest.mark.parametrize("name", ["cases.csv", "report.html"])
def test_another_program_s_file_is_never_written_over(name, score, tmp_path):
    own = tmp_path / "out" / name
    own.parent.mkdir()
    own.write_text("hours of work")
    with pytest.raises(ValueError, match=rf"{name} is there already and is none of an earlier"):
        score()
    assert [path.name for path in own.parent.iterdir()] == [name]
    assert own.read_text() == "hours of work"


def test_nothing_is_written_into_the_data(drawn_dir, tiny_base, recorder):
    config = EvaluateConfig(model=str(tiny_base), data=drawn_dir)
    with pytest.raises(ValueError, match="lies inside the data folder"):
        evaluate_model(config, drawn_dir / "scores", report=recorder)


def test_the_score_is_told_in_a_table(score, recorder, tiny_base):
    result = score()
    title, columns, rows = recorder.tables[-1]
    assert title == f"{tiny_base} on all (10 cases of 10 groups, threshold 0.5)"
    assert columns == ("", "mean", "95 % interval")
    dice = result["interval"]["dice"]
    told = ("Dice", f"{dice['mean']:.4f}", f"[{dice['low']:.3f}, {dice['high']:.3f}]")
    assert rows[0] == told
    shown = [metric.title for name, metric in METRICS.items() if result["mean"][name] is not None]
    assert [row[0] for row in rows] == [title.removesuffix(" error") for title in shown]


def test_the_cases_are_a_table_for_other_programs(score, tmp_path):
    result = score()
    with (tmp_path / "out" / "cases.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == CASE_KEYS
    for row, case in zip(rows, result["cases"], strict=True):
        assert float(row["dice"]) == case["dice"]
        assert row["seg_found"] == "true"
        assert row["hd95_mm"] == ""


def test_a_model_is_no_better_than_itself(score, tiny_base):
    result = score(baseline=str(tiny_base))
    (other,) = result["comparisons"]
    assert (other["kind"], other["name"]) == ("baseline", str(tiny_base))
    assert other["mean"] == result["mean"]
    for found in other["paired"].values():
        assert found["difference"]["mean"] == 0
        assert found["verdict"] == "no clear difference"
        assert found["num_improved"] == 0


def test_a_baseline_that_is_not_there_is_told_before_anything_is_scored(score, recorder, tmp_path):
    with pytest.raises(FileNotFoundError):
        score(baseline=str(tmp_path / "nowhere"))
    assert "Scoring" not in recorder.counts


def test_what_options_change_is_measured(score, recorder):
    plain = score()
    cleaned = score(**{"answer.min_size": 40})
    (other,) = cleaned["comparisons"]
    assert (other["kind"], other["name"]) == ("plain", "without post-processing")
    assert other["mean"] == plain["mean"]
    gain = cleaned["mean"]["dice"] - plain["mean"]["dice"]
    assert other["paired"]["dice"]["difference"]["mean"] == pytest.approx(gain)
    assert cleaned["options"] == {"tta": "none", "min_size": 40, "hysteresis": None}
    assert cleaned["teacher_forced"] is None
    assert cleaned["at_half"] is None
    assert {case["dice_at_half"] for case in cleaned["cases"]} == {None}
    assert any(
        note.startswith("Dice against the answers without post-processing: ")
        for note in recorder.notes
    )


def test_the_trained_answer_stands_beside_the_free_one(score):
    result = score()
    forced = result["teacher_forced"]
    assert list(forced["mean"]) == list(COUNT_METRICS)
    if forced["num_other_answers"] == 0:
        assert forced["mean"]["dice"] == result["mean"]["dice"]


def test_a_threshold_is_swept_on_validation_only(score, split_dir):
    swept = score(data=str(split_dir), split="val")["sweep"]
    assert max(swept["dice"]) == swept["dice"][swept["thresholds"].index(swept["best"])]
    assert score(data=str(split_dir), split="test")["sweep"] is None


@pytest.fixture
def observed_dir(tmp_path):
    """Three images in two groups, whose second observer's lines are one pixel lower."""
    data, seconds = tmp_path / "eyes", tmp_path / "seconds"
    rng = np.random.default_rng(0)
    for name, top in (("p1_a", 10), ("p1_b", 20), ("p2_a", 30)):
        mask = np.zeros((48, 40), dtype=np.uint8)
        mask[top : top + 4, 5:35] = 255
        write_image(data / "images" / f"{name}.png", rng.integers(0, 255, (48, 40, 3), np.uint8))
        write_image(data / "masks" / f"{name}.png", mask)
        write_image(seconds / f"{name}_second.png", np.roll(mask, 1, axis=0))
    return data, seconds


def test_masks_from_elsewhere_are_scored_without_a_model(score, observed_dir, tmp_path):
    data, seconds = observed_dir
    against = f"{seconds}:_second"
    result = score(model=None, against=against, data=str(data), group_regex="^(p.)_")
    assert list(result) == KEYS
    assert (result["model"], result["against"], result["threshold"]) == (None, against, None)
    assert (result["num_cases"], result["num_groups"]) == (3, 2)
    assert list(result["mean"]) == list(MASK_METRICS)
    assert result["mean"]["dice"] == pytest.approx(0.75)  # three of four rows in common
    assert result["mean"]["hd95"] == pytest.approx(1.0)
    for gone in ("seg_rate", "at_half", "teacher_forced", "sweep", "reliability"):
        assert result[gone] is None
    assert [group["num_cases"] for group in result["groups"]] == [2, 1]
    assert (tmp_path / "out" / "report.html").is_file()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"against": "masks"}, "a model or masks are scored, but both were given"),
        ({"model": None}, "a model or masks are scored, but neither was given"),
        (
            {"model": None, "against": "masks", "threshold": 0.4},
            "threshold says how a model is asked, but masks are scored",
        ),
        (
            {"model": None, "against": "masks", "answer.tta": "flips"},
            "answer says how a model is asked",
        ),
    ],
)
def test_settings_that_cannot_count_are_refused(changes, message, score):
    with pytest.raises(ValueError, match=message):
        score(**changes)
