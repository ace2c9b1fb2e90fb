"""A run that was stopped ends as the run left alone: the same bytes, each epoch told once."""

import os
import shutil
import signal
import subprocess
import sys

import pytest
import torch

from vasculora.core.io import read_json
from vasculora.engine.checkpoint import load_checkpoint, save_checkpoint
from vasculora.model.predictor import Predictor
from vasculora.recipes.finetune import finetune

pytestmark = pytest.mark.slow

PLAIN = {"trainer__epochs": 3, "optim__lr": 3e-3, "trainer__batch_size": 2}
EVERYTHING_RANDOM = PLAIN | {
    "trainer__epochs": 2,
    "lora__dropout": 0.3,
    "data__augment": "strong",
    "trainer__batch_size": 1,
    "trainer__accumulation": 3,
    "lora__trainable": ["mllm_lora", "projector", "mask_decoder", "grounding_lora"],
}


def weights(out):
    return (out / "adapter" / "adapter_model.safetensors").read_bytes()


def scores(out):
    keys = ("epoch", "train_loss", "train_dice", "val_dice", "val_recall", "val_seg_rate")
    return [tuple(row[key] for key in keys) for row in read_json(out / "metrics.json")["epochs"]]


def same_checkpoint(first, second):
    ours, theirs = (load_checkpoint(out / "resume.pt") for out in (first, second))
    assert list(ours.weights) == list(theirs.weights)
    assert all(torch.equal(ours.weights[name], theirs.weights[name]) for name in ours.weights)


@pytest.fixture(scope="module")
def alone(tmp_path_factory, tiny_settings, train, new_recorder):
    """The run left alone."""
    out = tmp_path_factory.mktemp("alone") / "run"
    scores = train(tiny_settings(**PLAIN), out, report=new_recorder())
    assert scores["best"]["epoch"] > 2, "a kept adapter must come from an epoch after the stops"
    return out


def stop(settings, out, report):
    with pytest.raises(KeyboardInterrupt):
        finetune(settings, out, report=report)


@pytest.mark.parametrize(
    ("stop_in", "after"),
    [("Untouched model", 0), ("Epoch 1/3", 0), ("Epoch 3/3", 5), ("Validation", 0)],
)
def test_a_stopped_run_ends_as_the_run_left_alone(
    stop_in, after, alone, tmp_path, tiny_settings, train, new_recorder
):
    config, out, report = tiny_settings(**PLAIN), tmp_path / "run", new_recorder()
    stop(config, out, new_recorder(stop_in=stop_in, after=after))
    finished = []
    if (out / "metrics.json").exists():
        finished = read_json(out / "metrics.json")["epochs"]
    trainable = set()
    if (out / "resume.pt").exists():
        trainable = set(load_checkpoint(out / "resume.pt").weights)
    train(config, out, report=report, resume=True)
    assert trainable in (set(), set(load_checkpoint(out / "resume.pt").weights))
    assert weights(out) == weights(alone)
    assert scores(out) == scores(alone)
    same_checkpoint(out, alone)
    assert read_json(out / "metrics.json")["epochs"][: len(finished)] == finished
    assert len(finished) == {"Epoch 3/3": 2}.get(stop_in, 0)
    told = [line for line in report.lines if line.startswith("Epoch")]
    assert told == [f"Epoch {number}/3" for number in range(len(finished) + 1, 4)]


def test_dropout_augmentation_and_accumulation_resume_too(
    tmp_path, tiny_settings, train, new_recorder
):
    config = tiny_settings(**EVERYTHING_RANDOM)
    train(config, tmp_path / "alone", report=new_recorder())
    stop(config, tmp_path / "run", new_recorder(stop_in="Epoch 2/2", after=4))
    train(config, tmp_path / "run", report=new_recorder(), resume=True)
    assert weights(tmp_path / "run") == weights(tmp_path / "alone")
    same_checkpoint(tmp_path / "run", tmp_path / "alone")


def kill_in_mid_epoch(settings, out):
    """Start the run as a program of its own and kill it after two epochs, in the third."""
    flags = [f"--{name}={value}" for name, value in settings.items()]
    command = [sys.executable, "-m", "vasculora", "finetune", "--out", str(out), *flags]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        for line in child.stdout:
            if line.startswith("Epoch 2/"):
                os.kill(child.pid, signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL


def test_a_killed_program_ends_as_the_run_left_alone(
    alone, tmp_path, tiny_base, disc_dir, tiny_settings, train, new_recorder
):
    # Told epochs are finished epochs: it is killed as soon as it says so, with one more to come.
    flags = {"model": tiny_base, "data": disc_dir, "epochs": 3, "lr": 3e-3, "batch-size": 2}
    out = tmp_path / "killed"
    kill_in_mid_epoch(flags, out)
    finished = read_json(out / "metrics.json")["epochs"]
    assert len(finished) == 2
    train(tiny_settings(**PLAIN), out, report=new_recorder(), resume=True)
    assert weights(out) == weights(alone)
    assert scores(out) == scores(alone)
    same_checkpoint(out, alone)
    assert read_json(out / "metrics.json")["epochs"][:2] == finished


def test_a_stopped_run_can_be_used(tmp_path, tiny_settings, disc_dir, new_recorder):
    out = tmp_path / "run"
    stop(tiny_settings(**PLAIN), out, new_recorder(stop_in="Epoch 2/3"))
    prediction = Predictor.from_pretrained(out)(disc_dir / "images" / "0.png")
    assert prediction.mask.shape == (64, 64)


def test_a_finished_run_says_so_and_stays_as_it_is(alone, tiny_settings, recorder):
    before = (weights(alone), (alone / "metrics.json").read_bytes())
    finetune(tiny_settings(**PLAIN), alone, report=recorder, resume=True)
    assert (weights(alone), (alone / "metrics.json").read_bytes()) == before
    assert any(note.startswith("All 3 epochs of this run are finished") for note in recorder.notes)
    assert recorder.lines == []


def test_a_run_of_before_the_report_gets_one(alone, tmp_path, tiny_settings, recorder):
    out = tmp_path / "old"
    shutil.copytree(alone, out)
    checkpoint = load_checkpoint(out / "resume.pt")
    del checkpoint.metrics["baseline"]["cases"]
    save_checkpoint(out / "resume.pt", checkpoint)
    (out / "audit.json").unlink()
    finetune(tiny_settings(**PLAIN), out, report=recorder, resume=True)
    assert read_json(out / "report" / "evaluation.json")["comparisons"] == []
    assert (out / "report" / "report.html").is_file()
    assert "Not looked at." in (out / "adapter" / "README.md").read_text()


def test_other_settings_are_refused_by_name(alone, tiny_settings, recorder):
    changed = tiny_settings(**PLAIN | {"trainer__epochs": 9, "lora__rank": 8})
    with pytest.raises(ValueError, match=r"lora\.rank was 64 and is 8 now; trainer\.epochs was 3"):
        finetune(changed, alone, report=recorder, resume=True)


def test_settings_without_a_say_in_learning_may_change(alone, tiny_settings, train, recorder):
    changed = tiny_settings(**PLAIN | {"eval_batch_size": 1, "trainer__num_workers": 1})
    train(changed, alone, report=recorder, resume=True)


def test_data_may_move_but_not_change(alone, tmp_path, tiny_settings, disc_dir, train, recorder):
    moved = tmp_path / "moved"
    shutil.copytree(disc_dir, moved)
    config = tiny_settings(**PLAIN, data__path=str(moved))
    train(config, alone, report=recorder, resume=True)
    shutil.copy(moved / "masks" / "0.png", moved / "masks" / "1.png")
    with pytest.raises(ValueError, match="the data has changed since the run was started"):
        finetune(config, alone, report=recorder, resume=True)


def test_there_must_be_a_run_to_resume(tmp_path, tiny_settings, recorder):
    with pytest.raises(FileNotFoundError, match=r"no run to resume \(no config.yaml\)"):
        finetune(tiny_settings(), tmp_path, report=recorder, resume=True)


def test_a_damaged_checkpoint_is_named(tmp_path, tiny_settings, new_recorder):
    out = tmp_path / "run"
    stop(tiny_settings(**PLAIN), out, new_recorder(stop_in="Epoch 1/3"))
    (out / "resume.pt").write_bytes(b"half a fi")
    with pytest.raises(ValueError, match=r"resume.pt: the file is damaged"):
        finetune(tiny_settings(**PLAIN), out, report=new_recorder(), resume=True)
