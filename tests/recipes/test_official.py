"""Fine-tuning a checkpoint in the official format, of every family: train, save, load, predict."""

import numpy as np
import pytest
import torch
from tests.conftest import draw
from tests.model.official.parity import FOLDERS, Golden

from vasculora.core.io import read_image
from vasculora.data.synthetic.export import write_dataset
from vasculora.model.lora import load_adapter
from vasculora.model.memory import read_memory
from vasculora.model.official.config import OfficialConfig
from vasculora.model.predictor import Predictor
from vasculora.model.pretrained import open_model
from vasculora.recipes.config import PredictConfig, finetune_settings
from vasculora.recipes.predict import predict

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    path = tmp_path_factory.mktemp("drawn") / "set"
    write_dataset(path, style="xray", num=6, size=64, seed=3)
    return path


@pytest.fixture(scope="module", params=FOLDERS)
def golden(request, shared_dir):
    return Golden(shared_dir, request.param)


@pytest.fixture(scope="module")
def official(golden):
    return OfficialConfig.model_validate(golden.loading)


@pytest.fixture(scope="module")
def run(golden, official, drawn, tmp_path_factory, train, new_recorder):
    """A run of two epochs: its folder, what it told, its scores."""
    out, recorder = tmp_path_factory.mktemp("runs") / golden.name, new_recorder()
    values = {"model": str(golden.checkpoint), "data.path": str(drawn), "trainer.epochs": 2}
    values |= {"official": official.model_dump(mode="json"), "trainer.batch_size": 2}
    values |= {"lora.rank": 4, "lora.dropout": 0.0, "data.augment": "none", "optim.lr": 1e-3}
    settings = finetune_settings(config_path=None, preset="light", overrides=(), values=values)
    return out, recorder, train(settings, out, report=recorder)


def test_the_loss_falls(run):
    _, _, scores = run
    first, second = (row["train_loss"] for row in scores["epochs"])
    assert second < 0.95 * first


def test_all_of_the_language_models_lora_is_reached(run):
    _, recorder, _ = run
    title, _, rows = recorder.tables[0]
    assert title == "What learns, on one real batch"
    assert next(row[2] for row in rows if row[0] == "mllm_lora").endswith("(100.0%)")


def test_what_is_saved_remembers_how_its_base_was_read(golden, official, run):
    out, _, _ = run
    memory = read_memory(out / "adapter")
    assert memory.official == official
    assert memory.processor == open_model(out).processor.config
    assert memory.processor.numerics == "float32"
    untouched = open_model(golden.checkpoint, official=official)
    assert untouched.processor.config.numerics == "official"


def test_the_saved_run_is_its_base_with_the_adapter(golden, official, run):
    out, _, _ = run
    opened = open_model(out)
    base = open_model(golden.checkpoint, official=official)
    batch = opened.processor.batch([draw("xray", 5)])
    with torch.no_grad():
        merged, plain = opened.model(batch).mask_logits, base.model(batch).mask_logits
        apart = load_adapter(base.model, out / "adapter").eval()(batch).mask_logits
    torch.testing.assert_close(merged, apart, atol=1e-3, rtol=1e-4)
    assert (merged - plain).abs().max() > 0.1


def test_what_is_predicted_is_what_it_says(run, drawn, tmp_path, recorder):
    out, _, _ = run
    image = sorted((drawn / "images").iterdir())[0]
    predict(PredictConfig(model=str(out)), [image], tmp_path, report=recorder)
    said = Predictor.from_pretrained(out)(image)
    written = read_image(tmp_path / f"{image.stem}_prob.png")[..., 0]
    assert np.array_equal(written, (said.prob * 255).round().astype(np.uint8))
    assert said.prob.shape == (64, 64)
