"""Large images through the program: trained on windows, and predicted so without being told."""

import numpy as np
import pytest
import torch
from PIL import Image
from tests.cli.telling import refusal
from tests.cli.telling import run as call
from tests.recipes.conftest import Recorder

from vasculora.core.io import read_json
from vasculora.model.memory import read_memory
from vasculora.model.predictor import Predictor
from vasculora.recipes.config import finetune_settings
from vasculora.recipes.run_folder import read_data
from vasculora.recipes.setup import open_base, samples_of

pytestmark = pytest.mark.slow

WINDOWED = ("--window", 48, "--set", "window.per_image=2", "--set", "window.overlap=0.5")
WINDOWED += ("--set", "fit=letterbox")


@pytest.fixture(scope="module")
def wide_dir(tmp_path_factory, drawn_dir):
    """Drawn angiograms of 64 x 40 pixels: windows of 48 are neither the whole nor square."""
    path = tmp_path_factory.mktemp("wide")
    for file in sorted(drawn_dir.glob("*/*.png")):
        kept = path / file.parent.name / file.name
        kept.parent.mkdir(exist_ok=True)
        Image.fromarray(np.asarray(Image.open(file))[12:52]).save(kept)
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_base, wide_dir):
    path = tmp_path_factory.mktemp("windows") / "run"
    words = ("finetune", "--model", tiny_base, "--data", wide_dir, "--out", path, "--epochs", 1)
    result = call(*words, *WINDOWED)
    assert result.exit_code == 0, result.output
    assert "Images larger than 48 pixels are seen in windows of that." in result.stdout
    assert "the saved adapter scores" not in result.output
    return path


def settings(model, data, **values):
    flags = {"model": str(model), "data.path": str(data)}
    flags |= {key.replace("__", "."): value for key, value in values.items()}
    return finetune_settings(config_path=None, preset=None, overrides=(), values=flags)


def test_what_was_trained_is_remembered(run, tiny_base, wide_dir):
    processor = read_memory(run / "adapter").processor
    assert (processor.window, processor.window_overlap, processor.fit) == (48, 0.5, "letterbox")
    cpu = torch.device("cpu")
    again = open_base(settings(run, wide_dir), cpu, Recorder()).processor.config
    assert (again.window, again.window_overlap, again.fit) == (48, 0.5, "letterbox")
    whole = open_base(settings(run, wide_dir, window__size=0, fit="squash"), cpu, Recorder())
    assert (whole.processor.config.window, whole.processor.config.fit) == (None, "squash")
    plain = open_base(settings(tiny_base, wide_dir), cpu, Recorder()).processor.config
    assert (plain.window, plain.fit) == (None, "squash")


def test_an_epoch_draws_several_windows_of_each_image(run, wide_dir):
    config = settings(run, wide_dir, window__per_image=3)
    opened = open_base(config, torch.device("cpu"), Recorder())
    records = read_data(config.data, phrase="blood vessel", report=Recorder()).records
    drawn = samples_of(config, opened, records, augment="none", cut=True)
    assert len(drawn) == 3 * len(records) == 30
    same = [drawn[index] for index in (1, 11, 21)]
    assert {sample.case_id for sample in same} == {records[1].case_id}
    assert {sample.image.shape for sample in same} == {(40, 48, 3)}
    assert len({sample.image.tobytes() for sample in same}) > 1
    whole = samples_of(config, opened, records, augment="none")
    assert (len(whole), whole[1].image.shape) == (10, (40, 64, 3))


def test_prediction_uses_windows_without_being_told(run, wide_dir, tmp_path):
    image = wide_dir / "images" / "0003.png"
    shown = {}
    for name, words in {"own": (), "said": ("--window", 48), "whole": ("--window", 0)}.items():
        result = call("predict", run, image, "--out", tmp_path / name, *words)
        assert result.exit_code == 0, result.output
        shown[name] = np.asarray(Image.open(tmp_path / name / "0003_prob.png")).astype(int)
    assert shown["own"].shape == (40, 64)
    np.testing.assert_array_equal(shown["own"], shown["said"])
    assert np.abs(shown["own"] - shown["whole"]).max() > 2


def test_evaluation_uses_windows_without_being_told(run, wide_dir, tmp_path):
    # hardly trained, it is sure of nothing: its own median makes masks that are not empty
    prob = Predictor.from_pretrained(run)(wide_dir / "images" / "0003.png").prob
    words = ("evaluate", run, "--data", wide_dir, "--split", "val", "--out", tmp_path)
    words += ("--set", f"threshold={np.median(prob):.6f}")
    means = []
    for window in ((), ("--window", 48), ("--window", 0)):
        assert call(*words, *window).exit_code == 0
        means.append(read_json(tmp_path / "evaluation.json")["mean"]["dice"])
    assert means[0] == means[1] > 0
    assert means[0] != means[2]


def test_settings_that_would_take_no_effect_are_refused(tiny_base, wide_dir, tmp_path):
    words = ("audit", "--model", tiny_base, "--data", wide_dir)
    message = refusal(call(*words, "--set", "window.per_image=2"))
    assert "settings of windows are given, but whole images are shown" in message
    message = refusal(call(*words, "--window", "5"))
    assert "window.size: windows of 5 pixels show too little" in message
    message = refusal(call(*words, "--set", "fit=letterbox", "--set", "objective=official"))
    assert "Set fit=squash" in message
