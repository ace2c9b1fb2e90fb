"""Official checkpoints as a user meets them: quiet where they are whole, one message where not."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import yaml
from tests.model.official import exporting
from tests.model.official.exporting import SAM2, internvl_config
from tests.model.official.parity import FOLDERS, Golden
from typer.testing import CliRunner

from vasculora.cli.app import app

VIT = {"qkv_bias": True, "qk_normalization": False, "norm_type": "layer_norm"}
QWEN2 = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "vocab_size": 330}
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A checkpoint in the official format, and the settings it is read with."""
    folder = tmp_path_factory.mktemp("whole")
    exporting.write_config(folder, internvl_config(QWEN2, VIT))
    exporting.write_tokenizer(folder)
    model = exporting.build(folder)
    exporting.write_weights(folder, exporting.official_state(model, folder))
    sam2 = {key: list(v) if isinstance(v, tuple) else v for key, v in SAM2.items()}
    (folder / "own.yaml").write_text(yaml.safe_dump({"official": {"sam2": sam2}}))
    return folder


def call(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def said(result):
    """The one message of a refusal."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("vasculora: ")
    assert "Traceback" not in result.stderr
    assert "validation error" not in result.stderr
    assert result.stderr.count("\n") <= 6
    return " ".join(result.stderr.split())


def cut(name, size):
    return lambda folder: os.truncate(folder / name, size)


def swap(name, old, new):
    def change(folder):
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))

    return change


def rename(name, other):
    return lambda folder: (folder / name).rename(folder / other)


def shard_without_one(folder):
    (folder / WEIGHTS).unlink()
    described = exporting.describe(folder)
    exporting.write_shards(folder, described, max_bytes=10**6)[0].unlink()


DAMAGE = {
    "config cut": (cut("config.json", 200), "config.json: not valid JSON at line 1"),
    "config size": (
        swap("config.json", '"hidden_size": 32', '"hidden_size": 1000000000000'),
        "config.json: llm_config.hidden_size: expected less than or equal to 131072, got 10",
    ),
    "config kind": (
        swap("config.json", "sa2va_chat", "llava"),
        "It asks for remote code (auto_map), which vasculora never runs.",
    ),
    "tokenizer cut": (cut("tokenizer.json", 900), "expected a tokenizer in tokenizer.json, but"),
    "tokenizer gone": (
        rename("tokenizer.json", "t"),
        "Put the base model's tokenizer.json into the folder.",
    ),
    "no [SEG]": (swap("tokenizer.json", "[SEG]", "[SOG]"), "the tokenizer does not know [SEG]."),
    "weights cut": (cut(WEIGHTS, 9999), "model.safetensors: is damaged or cut off ("),
    "weights gone": (rename(WEIGHTS, "w"), "holds no weights. Expected model.safetensors"),
    "shard gone": (shard_without_one, "1 of 3 weight files that model.safetensors.index.json"),
    "pickle only": (rename(WEIGHTS, "model.pth"), "holds 'model.pth', but none of the files"),
    "not a pickle": (
        rename(WEIGHTS, "pytorch_model.bin"),
        "pytorch_model.bin: is damaged or cut off (",
    ),
    "other weights": (
        swap("config.json", '"num_hidden_layers": 2', '"num_hidden_layers": 3'),
        "the weights do not fit config.json.",
    ),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_checkpoint_is_one_message(what, whole, tmp_path, drawn_dir):
    damage, message = DAMAGE[what]
    folder = shutil.copytree(whole, tmp_path / "damaged")
    damage(folder)
    image = drawn_dir / "images" / "0000.png"
    words = ("predict", folder, image, "--out", tmp_path / "out", "--config", folder / "own.yaml")
    told = said(call(*words))
    assert message in told
    assert str(folder) in told
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["finetune", "audit"])
def test_training_says_the_same(command, whole, tmp_path, drawn_dir):
    folder = shutil.copytree(whole, tmp_path / "damaged")
    cut(WEIGHTS, 9999)(folder)
    words = (command, "--model", folder, "--data", drawn_dir, "--config", folder / "own.yaml")
    told = said(call(*words, "--out", tmp_path / "run"))
    assert "model.safetensors: is damaged or cut off (" in told
    assert not list(tmp_path.glob("run/*"))


@pytest.mark.parametrize("what", ["config cut", "config size", "config kind", "weights cut"])
def test_inspecting_says_the_same(what, whole, tmp_path):
    damage, message = DAMAGE[what]
    folder = shutil.copytree(whole, tmp_path / "damaged")
    damage(folder)
    assert message in said(call("inspect", folder, "--config", folder / "own.yaml"))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (None, "Only SAM 2 differs: config.json does not hold its sizes. Give them as sam2 in Py"),
        ("sam2.hidden=many", "official.sam2.hidden: expected a valid integer, got 'many'"),
        ("sam2.width=3", "unknown key 'official.sam2.width'. Known: official.sam2.bkg,"),
        ("sam2.heads=5", "official.sam2: heads: 5 does not divide embed_dim, 144"),
        ("min_pixels=0", "official.min_pixels: expected greater than or equal to 1, got 0"),
        ("min_pixels=9999", "min_pixels is for Qwen models"),
    ],
)
def test_settings_of_a_checkpoint_that_cannot_be_are_told(
    setting, message, whole, tmp_path, drawn_dir
):
    flags = ("--set", f"official.{setting}") if setting else ()
    image = drawn_dir / "images" / "0000.png"
    told = said(call("predict", whole, image, "--out", tmp_path / "out", *flags))
    assert message in told


def test_a_base_of_ours_takes_none(tmp_path, drawn_dir):
    image = drawn_dir / "images" / "0000.png"
    flags = ("--set", "official.max_pixels=9999", "--out", tmp_path)
    assert "are for official checkpoints; this base" in said(call("predict", "nano", image, *flags))


PROGRAM = """
import sys
from vasculora.cli.app import app

for words in {commands!r}:
    app(words, standalone_mode=False)
"""


@pytest.mark.slow
def test_whole_checkpoints_are_quiet(shared_dir, tmp_path):
    """In a process of its own: what a library says while it is loaded is heard too."""
    commands = []
    for name in FOLDERS:
        golden = Golden(shared_dir, name)
        config = tmp_path / f"{name}.json"
        config.write_text(json.dumps({"official": golden.loading}))
        image = golden.folder / "inputs" / "image.png"
        words = ["predict", golden.checkpoint, image, "--out", tmp_path / name, "--config", config]
        commands.append([str(word) for word in words])
    program = PROGRAM.format(commands=commands)
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", program], capture_output=True, text=True, check=True
    )
    heard = [line for line in done.stderr.splitlines() if "the answer has no [SEG]" not in line]
    assert heard == []
    assert done.stdout.count("Images segmented: 1,") == len(FOLDERS)
