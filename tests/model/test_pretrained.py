import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.conftest import draw

from vasculora.core.runtime import set_seed
from vasculora.model.lora import LoraSettings, attach, save_adapter
from vasculora.model.memory import Memory, read_memory, write_memory
from vasculora.model.pretrained import defaults_path, open_model
from vasculora.model.prompts import PromptConfig

LEARNS = ("mllm_lora", "projector", "mask_decoder", "grounding_lora")


@pytest.fixture
def base(tiny_base, tmp_path):
    """A copy of the tiny base, to be damaged."""
    return shutil.copytree(tiny_base, tmp_path / "base")


def make_run(base, path, *, seed=0, threshold=0.4):
    """Write a run's folder as fine-tuning does, and return its masks and its path."""
    opened = open_model(base)
    settings = LoraSettings(trainable=LEARNS, rank=4, alpha=8, grounding_rank=2, grounding_alpha=4)
    set_seed(seed)
    model = attach(opened.model, settings)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for param in model.parameters():
            if param.requires_grad:
                param.add_(torch.randn(param.shape, generator=generator) * 0.05)
    save_adapter(model, path / "adapter")
    memory = Memory(
        processor=opened.processor.config.model_copy(update={"threshold": threshold}),
        prompt=PromptConfig(phrase="artery"),
        base=opened.name,
        fingerprint=opened.fingerprint,
        trainable=LEARNS,
    )
    write_memory(path / "adapter", memory)
    return masks(opened)


@pytest.fixture
def run(base, tmp_path):
    make_run(base, tmp_path / "run")
    return tmp_path / "run"


@torch.no_grad()
def masks(opened):
    batch = opened.processor.batch([draw("xray", 0), draw("octa", 1, size=48)])
    return opened.model.eval()(batch).mask_logits


def test_a_base_is_opened_as_it_was_written(base):
    opened = open_model(base)
    assert opened.name == str(base)
    assert opened.memory == read_memory(base)
    assert opened.processor.config == opened.memory.processor
    assert not opened.model.training
    assert torch.equal(masks(opened), masks(open_model(str(base))))


def test_a_run_is_its_base_with_the_adapter_merged(base, run, tmp_path):
    trained = make_run(base, tmp_path / "again")
    opened = open_model(tmp_path / "again")
    torch.testing.assert_close(masks(opened), trained, atol=1e-4, rtol=1e-4)
    assert (trained - masks(open_model(base))).abs().max() > 0.01
    assert opened.name == str(tmp_path / "again")
    assert opened.processor.config.threshold == 0.4
    assert opened.processor.prompt.phrase == "artery"
    assert not any("lora" in name for name, _ in opened.model.named_parameters())


def test_a_run_can_be_the_base_of_another(base, run, tmp_path):
    trained = make_run(run, tmp_path / "second", seed=1, threshold=0.3)
    opened = open_model(tmp_path / "second")
    torch.testing.assert_close(masks(opened), trained, atol=1e-4, rtol=1e-4)
    assert read_memory(tmp_path / "second" / "adapter").base == str(run)
    assert opened.processor.config.threshold == 0.3
    assert (trained - masks(open_model(run))).abs().max() > 0.01


def test_fingerprints_tell_models_apart(base, run, tmp_path):
    make_run(base, tmp_path / "other", seed=1)
    prints = [open_model(path).fingerprint for path in (base, run, tmp_path / "other", base)]
    assert prints[0] == prints[3]
    assert len(set(prints)) == 3
    assert all(len(text) == 16 for text in prints)


def test_another_door_keeps_the_model(base):
    opened = open_model(base)
    config = opened.processor.config.model_copy(update={"threshold": 0.9})
    changed = opened.with_settings(processor=config, prompt=PromptConfig(phrase="vein"))
    assert changed.model is opened.model
    assert changed.processor.config.threshold == changed.memory.processor.threshold == 0.9
    assert changed.processor.prompt.phrase == changed.memory.prompt.phrase == "vein"
    assert opened.processor.config.threshold == 0.5


def test_what_is_remembered_comes_back(base, tmp_path):
    memory = read_memory(base).model_copy(update={"base": "nano", "trainable": LEARNS})
    write_memory(tmp_path, memory)
    assert read_memory(tmp_path) == memory


def test_recommended_settings_are_found_through_runs(base, run):
    assert defaults_path(base) is None
    (base / "finetune.yaml").write_text("seed: 1\n")
    assert defaults_path(base) == base / "finetune.yaml"
    assert defaults_path(run) == base / "finetune.yaml"


def test_a_changed_base_is_refused(base, run):
    weights = base / "model.safetensors"
    state = load_file(weights)
    state["seg_projector.0.weight"][0, 0] += 1
    state = {name: value * 1.01 for name, value in state.items()}
    save_file(state, weights, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"was trained on .*base with fingerprint .* Restore that"):
        open_model(run)


def test_a_base_that_is_gone_is_named(base, run):
    shutil.rmtree(base)
    with pytest.raises(FileNotFoundError, match=r"base: no such model\. Give `nano`"):
        open_model(run)


def test_no_such_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere: no such model\. Give `nano`"):
        open_model(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="no such model"):
        defaults_path(tmp_path / "nowhere")


def test_a_folder_of_something_else(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected a base model .* or a run folder"):
        open_model(tmp_path)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("config.json", FileNotFoundError, "expected a base model"),
        ("vasculora.json", FileNotFoundError, "vasculora.json is missing: .*Copy it again"),
        ("model.safetensors", FileNotFoundError, "holds no weights"),
        ("tokenizer.json", FileNotFoundError, "tokenizer.json: the base's tokenizer is missing"),
    ],
)
def test_missing_files_of_a_base_are_named(base, name, error, message):
    (base / name).unlink()
    with pytest.raises(error, match=message):
        open_model(base)


@pytest.mark.parametrize(
    "name", ["config.json", "vasculora.json", "model.safetensors", "tokenizer.json"]
)
@pytest.mark.parametrize("left", [0, 50])
def test_damaged_files_of_a_base_are_named(base, name, left):
    path = base / name
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(ValueError, match=rf"{name}: .*([Cc]opy|rewrite)"):
        open_model(base)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vasculora.json", "vasculora.json is missing"),
        ("adapter_config.json", "the run saved no finished epoch"),
        ("adapter_model.safetensors", "the run saved no finished epoch"),
    ],
)
def test_missing_files_of_a_run_are_named(run, name, message):
    (run / "adapter" / name).unlink()
    with pytest.raises(FileNotFoundError, match=message):
        open_model(run)


@pytest.mark.parametrize(
    "name", ["vasculora.json", "adapter_config.json", "adapter_model.safetensors"]
)
def test_damaged_files_of_a_run_are_named(run, name):
    path = run / "adapter" / name
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ValueError, match=r"adapter.*: .* [Cc]opy"):
        open_model(run)


def test_settings_of_another_version_are_named(base):
    path = base / "vasculora.json"
    memory = json.loads(path.read_text())
    memory["processor"]["threshold"] = 7
    path.write_text(json.dumps(memory))
    with pytest.raises(ValueError, match=r"processor.threshold: Input should be less than 1"):
        open_model(base)


def test_an_adapter_must_name_its_base(run):
    path = run / "adapter" / "vasculora.json"
    memory = json.loads(path.read_text())
    del memory["base"]
    path.write_text(json.dumps(memory))
    with pytest.raises(ValueError, match="names no base"):
        open_model(run)
