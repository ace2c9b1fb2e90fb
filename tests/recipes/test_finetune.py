import json
import re
import shutil
import stat

import numpy as np
import pytest
from peft import PeftModel
from PIL import Image
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from vasculora.core.config import load_config
from vasculora.core.errors import CannotLearnError
from vasculora.core.io import read_json
from vasculora.model.sa2va import Sa2VA
from vasculora.recipes.config import FinetuneConfig
from vasculora.recipes.finetune import finetune

FAST = {"optim__lr": 3e-3}
FILES = {
    "adapter/README.md",
    "adapter/adapter_config.json",
    "adapter/adapter_model.safetensors",
    "adapter/vasculora.json",
    "audit.json",
    "config.yaml",
    "curve.png",
    "metrics.json",
    "overlays/best.png",
    "overlays/median.png",
    "overlays/worst.png",
    "report/cases.csv",
    "report/evaluation.json",
    "report/report.html",
    "resume.pt",
    "split.json",
}
EPOCH_KEYS = [
    "epoch",
    "train_loss",
    "train_dice",
    "val_dice",
    "val_recall",
    "val_seg_rate",
    "val_best_threshold",
    "seconds",
    "images_per_second",
]


def files(folder):
    return {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}


def state(folder):
    return {name: (p.stat().st_mtime_ns, p.read_bytes()) for name, p in files(folder).items()}


def case_number(case_id):
    return int(case_id)


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_settings, new_recorder, disc_dir):
    out = tmp_path_factory.mktemp("runs") / "first"
    before = state(disc_dir)
    report = new_recorder()
    config = tiny_settings(trainer__epochs=3, trainer__batch_size=4, **FAST)
    command = ("vasculora", "finetune", "--out", "a b")
    tracker = finetune(config, out, report=report, command=command)
    assert state(disc_dir) == before
    return out, report, tracker


def test_a_run_leaves_exactly_these_files(run):
    names = set(files(run[0]))
    events = {name for name in names if name.startswith("tensorboard/events.out.tfevents.")}
    assert len(events) == 1
    assert names - events == FILES


def test_everybody_who_may_read_the_settings_may_read_the_weights(run):
    modes = {name: stat.S_IMODE(path.stat().st_mode) for name, path in files(run[0]).items()}
    assert set(modes.values()) == {modes["config.yaml"]}


def test_metrics_hold_the_promised_keys(run):
    out, _, tracker = run
    metrics = read_json(out / "metrics.json")
    assert metrics == tracker.metrics
    assert list(metrics) == ["baseline", "epochs", "best"]
    assert list(metrics["baseline"]) == ["dice", "recall", "seg_rate", "cases"]
    assert [list(row) for row in metrics["epochs"]] == [EPOCH_KEYS] * 3
    assert [row["epoch"] for row in metrics["epochs"]] == [1, 2, 3]
    assert list(metrics["best"]) == ["epoch", "val_dice"]
    best = max(metrics["epochs"], key=lambda row: row["val_dice"])
    assert metrics["best"] == {"epoch": best["epoch"], "val_dice": best["val_dice"]}
    for row in metrics["epochs"]:
        assert row["images_per_second"] == pytest.approx(8 / row["seconds"])


def test_the_log_is_exactly_the_promised_blocks(run):
    _, report, tracker = run
    expected = [f"Baseline - Dice: {tracker.baseline['dice']:.4f}"]
    for row in tracker.epochs:
        expected += [
            f"Epoch {row['epoch']}/3",
            f"  Train - Loss: {row['train_loss']:.4f}, Dice: {row['train_dice']:.4f}",
            f"  Val   - Dice: {row['val_dice']:.4f}, Recall: {row['val_recall']:.4f}",
        ]
    assert report.lines == expected


def test_every_bar_ends_full(run):
    _, report, _ = run
    assert report.counts["Run of 3 epochs"] == (24, 24)
    assert {done == total for done, total in report.counts.values()} == {True}


def test_what_learns_is_told_once(run):
    _, report, _ = run
    (told,) = (note for note in report.notes if note.startswith("LoRA: "))
    assert re.fullmatch(
        r"LoRA: ([\d,]+) weights attached, \1 learn\. Without LoRA learn: projector [\d,]+, "
        r"mask_decoder [\d,]+\.",
        told,
    )


def test_the_official_preset_runs_and_its_run_is_what_was_scored(
    tmp_path, tiny_settings, disc_dir, recorder
):
    config = tiny_settings(preset="official", trainer__epochs=1, trainer__batch_size=4, **FAST)
    out = tmp_path / "run"
    tracker = finetune(config, out, report=recorder)
    memory = read_json(out / "adapter" / "vasculora.json")
    assert tuple(memory["trainable"]) == config.lora.trainable
    scores = read_json(out / "report" / "evaluation.json")
    assert scores["at_half"]["dice"] == pytest.approx(tracker.best["val_dice"], abs=1e-6)
    saved = load_file(out / "adapter" / "adapter_model.safetensors")
    rows = [name for name in saved if "trainable_tokens_delta" in name]
    assert [saved[name].shape[0] for name in rows] == [1, 1]


def test_the_run_learns(run):
    _, _, tracker = run
    assert tracker.best["val_dice"] > tracker.baseline["dice"] + 0.3


def test_the_split_and_its_scores_are_kept(run):
    out, _, tracker = run
    split = read_json(out / "split.json")
    assert list(split) == ["train", "val", "test"]
    assert {part: len(ids) for part, ids in split.items()} == {"train": 8, "val": 2, "test": 0}
    scores = read_json(out / "report" / "evaluation.json")
    assert scores["split"] == "val"
    assert [case["case_id"] for case in scores["cases"]] == split["val"]
    assert scores["at_half"]["dice"] == pytest.approx(tracker.best["val_dice"], abs=1e-6)
    (untouched,) = scores["comparisons"]
    assert untouched["mean"]["dice"] == pytest.approx(tracker.baseline["dice"])
    gain = untouched["paired"]["dice"]["difference"]["mean"]
    assert gain == pytest.approx(tracker.best["val_dice"] - tracker.baseline["dice"], abs=1e-6)


def test_the_settings_say_where_the_run_came_from(run):
    config = load_config(FinetuneConfig, run[0] / "config.yaml")
    provenance = config.provenance
    assert provenance.command == "vasculora finetune --out 'a b'"
    assert {"vasculora", "torch", "transformers", "peft", "python"} <= set(provenance.versions)
    assert len(provenance.base_fingerprint) == len(provenance.data_fingerprint) == 16


def test_peft_alone_loads_the_adapter(run, tiny_base):
    adapter = run[0] / "adapter"
    model = PeftModel.from_pretrained(Sa2VA.from_pretrained(tiny_base), adapter)
    saved = load_file(adapter / "adapter_model.safetensors")
    assert any("seg_projector" in name for name in saved)
    assert any("mask_decoder" in name for name in saved)
    held = {k.replace(".default", ""): v for k, v in model.state_dict().items()}
    lora = [name for name in saved if "lora_B" in name]
    assert lora
    assert any(saved[name].any() for name in lora)
    assert all((held[name] == saved[name]).all() for name in lora)


def test_the_adapter_remembers_how_to_be_used(run, tiny_base):
    memory = read_json(run[0] / "adapter" / "vasculora.json")
    assert list(memory) == ["processor", "prompt", "base", "fingerprint", "trainable"]
    assert memory["base"] == str(tiny_base)
    row = run[2].epochs[int(run[2].best["epoch"]) - 1]
    scores = read_json(run[0] / "report" / "evaluation.json")
    best = max(scores["sweep"]["dice"])
    assert memory["processor"]["threshold"] == scores["threshold"] == row["val_best_threshold"]
    assert scores["sweep"]["best"] == scores["threshold"]
    assert scores["mean"]["dice"] == pytest.approx(best)
    assert best >= scores["at_half"]["dice"]
    assert memory["prompt"]["phrase"] == "blood vessel"


def test_the_pictures_open(run):
    for name, path in files(run[0]).items():
        if path.suffix == ".png":
            with Image.open(path) as image:
                assert min(image.size) > 300, name
                assert not set(image.info) - {"Software", "dpi"}, name


def test_tensorboard_holds_every_epoch(run):
    events = EventAccumulator(str(run[0] / "tensorboard"))
    events.Reload()
    assert "val/dice" in events.Tags()["scalars"]
    dice = [(event.step, event.value) for event in events.Scalars("val/dice")]
    assert [step for step, _ in dice] == [1, 2, 3]
    assert [value for _, value in dice] == pytest.approx(
        [row["val_dice"] for row in run[2].epochs], abs=1e-6
    )


def test_a_run_can_be_trained_further(run, tmp_path, tiny_settings, recorder, train):
    out, _, tracker = run
    config = tiny_settings(model=str(out), trainer__epochs=1)
    further = train(config, tmp_path / "second", report=recorder)
    assert further["baseline"]["dice"] == pytest.approx(tracker.best["val_dice"], abs=1e-3)
    memory = read_json(tmp_path / "second" / "adapter" / "vasculora.json")
    assert memory["base"] == str(out.resolve())


@pytest.mark.parametrize("preset", ["seed", "light", "grounding_lora"])
def test_presets_run(preset, tmp_path, tiny_settings, recorder, train):
    config = tiny_settings(preset=preset, trainer__epochs=1)
    train(config, tmp_path / "run", report=recorder)
    reached = {row[0] for row in recorder.tables[0][2]}
    assert reached == set(config.lora.trainable)
    saved = load_file(tmp_path / "run" / "adapter" / "adapter_model.safetensors")
    only_lora = all("lora_" in name for name in saved)
    assert only_lora == (preset == "seed")


def test_the_largest_seed_trains(tmp_path, tiny_settings, recorder, train):
    config = tiny_settings(seed=2**32 - 1, trainer__epochs=1)
    assert len(train(config, tmp_path / "run", report=recorder)["epochs"]) == 1


def test_a_part_without_a_gradient_stops_the_run(tmp_path, tiny_settings, recorder):
    deaf = dict.fromkeys(("objective__dice", "objective__focal", "objective__bce"), 0.0)
    told = r"(?s)projector, mask_decoder cannot learn\..*Raise objective\.dice"
    with pytest.raises(CannotLearnError, match=told):
        finetune(tiny_settings(**deaf), tmp_path / "run", report=recorder)
    assert not any(line.startswith("Epoch") for line in recorder.lines)


def test_splits_never_share_a_group(tmp_path, tiny_settings, disc_dir, recorder, train):
    data = tmp_path / "data"
    for part in ("images", "masks"):
        (data / part).mkdir(parents=True)
        for path in sorted((disc_dir / part).iterdir()):
            number = case_number(path.stem)
            shutil.copy(path, data / part / f"p{number % 4}_{number}.png")
    values = {"data__path": str(data), "data__group_regex": r"^p(\d)_", "trainer__epochs": 1}
    train(tiny_settings(**values), tmp_path / "run", report=recorder)
    split = read_json(tmp_path / "run" / "split.json")
    groups = [{case_id[:2] for case_id in split[part]} for part in ("train", "val")]
    assert groups[0]
    assert groups[1]
    assert not groups[0] & groups[1]
    assert recorder.warnings == []

    train(
        tiny_settings(**values, data__split_by="sorted", data__train_share=0.5),
        tmp_path / "sorted",
        report=recorder,
    )
    assert any("groups have images in train and val" in text for text in recorder.warnings)


def test_the_data_s_own_split_is_obeyed(tmp_path, tiny_settings, disc_dir, recorder, train):
    data = tmp_path / "data"
    shutil.copytree(disc_dir, data)
    own = {"train": ["1", "2", "3"], "val": ["7"], "test": ["9"]}
    (data / "split.json").write_text(json.dumps(own))
    before = state(data)
    train(
        tiny_settings(data__path=str(data), trainer__epochs=1),
        tmp_path / "run",
        report=recorder,
    )
    assert read_json(tmp_path / "run" / "split.json") == own
    assert state(data) == before
    assert recorder.counts["Epoch 1/1"] == (3, 3)


def test_several_phrases_an_image_are_learnt_and_shown(tmp_path, tiny_settings, recorder):
    data = tmp_path / "data"
    data.mkdir()
    rng = np.random.default_rng(0)
    entries = []
    for number in range(5):
        pixels = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(data / f"{number}.png")
        rings = [[[5, 5, 40, 5, 40, 40]], [[10, 50, 60, 50, 60, 60, 10, 60]]]
        entries.append({"image": f"{number}.png", "mask": rings, "text": ["vein", "artery"]})
    (data / "annotations.json").write_text(json.dumps(entries))
    out = tmp_path / "run"
    finetune(tiny_settings(data__path=str(data), trainer__epochs=1), out, report=recorder)
    val = read_json(out / "split.json")["val"]
    cases = [case["case_id"] for case in read_json(out / "report" / "evaluation.json")["cases"]]
    assert cases == [f"{val[0]}: vein", f"{val[0]}: artery"]
    assert len(list((out / "overlays").iterdir())) == 3
    assert recorder.counts["Scoring the saved adapter"] == (2, 2)


PATIENTS = ("ZHANGSAN(123456)", "Li Si(99)", "王五(7)", "Maria Muster(31)", "ÅNGSTRÖM(5)")


@pytest.fixture(scope="module")
def private_dir(tmp_path_factory, disc_dir):
    data = tmp_path_factory.mktemp("hospital")
    for part in ("images", "masks"):
        (data / part).mkdir()
        for path in sorted((disc_dir / part).iterdir()):
            number = case_number(path.stem)
            name = f"{PATIENTS[number % 5]}_RUN{number}_frame_{number}.png"
            shutil.copy(path, data / part / name)
    return data


def test_no_patient_s_name_is_written_anywhere(private_dir, tmp_path, tiny_settings, recorder):
    out = tmp_path / "run"
    finetune(tiny_settings(data__path=str(private_dir)), out, report=recorder)
    spoken = "\n".join([*recorder.lines, *recorder.notes, str(recorder.tables)])
    words = [re.split(r"\(", name)[0] for name in PATIENTS]
    left = files(out)
    private = left.pop("cases_private.csv")
    for word in words:
        assert word not in spoken
        for name, path in left.items():
            assert word not in name
            assert word.encode() not in path.read_bytes(), name
            assert json.dumps(word)[1:-1].encode() not in path.read_bytes(), name
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    rows = dict(line.split(",") for line in private.read_text().splitlines()[1:])
    split = read_json(out / "split.json")
    assert set(split["train"]) | set(split["val"]) == set(rows)
    patients = [{rows[case_id].split("_RUN")[0] for case_id in split[p]} for p in ("train", "val")]
    assert not patients[0] & patients[1]
    assert len(patients[0] | patients[1]) == 5
    assert any("4 patients" in note or "5 patients" in note for note in recorder.notes)


def test_nothing_is_written_into_the_data(tmp_path, tiny_settings, disc_dir, recorder):
    with pytest.raises(ValueError, match="lies inside the data folder"):
        finetune(tiny_settings(), disc_dir / "run", report=recorder)
    with pytest.raises(ValueError, match="lies inside the data folder"):
        finetune(tiny_settings(), disc_dir, report=recorder)
    assert sorted(path.name for path in disc_dir.iterdir()) == ["images", "masks"]


def test_a_folder_with_something_in_it_is_refused(tmp_path, tiny_settings, recorder):
    (tmp_path / "thesis.docx").touch()
    with pytest.raises(ValueError, match=r"is not empty\. Take up the run in it with --resume"):
        finetune(tiny_settings(), tmp_path, report=recorder)


def test_the_best_epoch_is_kept_not_the_last(tmp_path, tiny_settings, recorder):
    # Without a text loss, steps this long make the model unlearn to say [SEG]: from then on its own
    # answers come to nothing, however good its teacher-forced masks are.
    long_steps = {"optim__lr": 0.02, "optim__warmup": 0.9, "objective__text": 0.0}
    long_steps["data__stratify"] = False  # the split on which that comes before the last epoch
    out = tmp_path / "run"
    tracker = finetune(tiny_settings(trainer__epochs=4, **long_steps), out, report=recorder)
    dice = [row["val_dice"] for row in tracker.epochs]
    best = tracker.best["epoch"]
    assert best < 4
    assert dice[best - 1] == max(dice) > 0.5
    assert dice[-1] == 0.0
    assert tracker.epochs[-1]["train_dice"] > 0.5
    assert recorder.lines[-1] == "  Answers with [SEG]: 0.0%"
    scores = read_json(out / "report" / "evaluation.json")
    assert scores["at_half"]["dice"] == pytest.approx(max(dice), abs=1e-6)
    assert scores["seg_rate"] == tracker.epochs[best - 1]["val_seg_rate"]
    assert not recorder.warnings[1:]
