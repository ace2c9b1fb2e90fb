"""The program as a user types it: flags, files, exit codes, the log and the help."""

import json
import re
import shutil
import subprocess
import sys

import pytest
import yaml
from tests.cli.telling import refusal, run

from vasculora.core.io import read_json

PROGRAM = [sys.executable, "-m", "vasculora"]
COMMANDS = ([], ["finetune"], ["audit"], ["evaluate"], ["predict"], ["data"], ["data", "synth"])
COMMANDS += (["pretrain"], ["inspect"], ["data", "import"], ["data", "preview"], ["data", "check"])
COMMANDS += (["compare"],)
WITHOUT_SETTINGS = ([], ["compare"], ["data"], ["data", "import"], ["data", "preview"])
LOG_BLOCK = re.compile(
    r"Epoch (\d+)/3\n"
    r"  Train - Loss: \d+\.\d{4}, Dice: [01]\.\d{4}\n"
    r"  Val   - Dice: [01]\.\d{4}, Recall: [01]\.\d{4}\n"
)


@pytest.fixture(scope="module")
def logged(tmp_path_factory, tiny_base, drawn_dir):
    """A run as the README types it, both streams redirected into one file."""
    folder = tmp_path_factory.mktemp("logged")
    flags = ["--model", tiny_base, "--data", drawn_dir]
    with (folder / "final_training.log").open("w") as log:
        command = ["env", "FORCE_COLOR=1", *PROGRAM, "finetune"]
        done = subprocess.run(
            [*command, *flags, "--out", folder / "run", "--epochs", "3"],
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        )
    assert done.returncode == 0
    return folder


def test_the_log_reads_as_promised(logged):
    text = (logged / "final_training.log").read_text()
    assert LOG_BLOCK.findall(text) == ["1", "2", "3"]
    assert len(re.findall(r"^Baseline - Dice: [01]\.\d{4}$", text, re.MULTILINE)) == 1
    assert text.count("Val   - Dice:") == 3
    assert text.index("Baseline") < text.index("Epoch 1/3")


def test_a_healthy_log_holds_no_error_and_no_escape_code(logged):
    text = (logged / "final_training.log").read_text()
    assert "error" not in text.lower()
    assert "\x1b" not in text
    assert "\r" not in text


def test_the_command_is_remembered(logged, tiny_base):
    settings = yaml.safe_load((logged / "run" / "config.yaml").read_text())
    assert settings["provenance"]["command"].startswith(f"vasculora finetune --model {tiny_base}")
    assert settings["provenance"]["command"].endswith("--epochs 3")


def test_the_adapter_has_a_card_without_a_path(logged, tiny_base, drawn_dir):
    card = (logged / "run" / "adapter" / "README.md").read_text()
    assert "library_name: peft" in card
    assert not [path for path in (logged, tiny_base, drawn_dir) if str(path) in card]


def test_a_finished_run_is_resumed_by_saying_so(logged):
    result = run("finetune", "--out", logged / "run", "--resume")
    assert result.exit_code == 0, result.output
    assert "All 3 epochs of this run are finished" in result.stdout
    assert "Val   - Dice:" not in result.stdout


def test_a_run_is_evaluated_and_used(logged, tmp_path, drawn_dir):
    out = tmp_path / "scores"
    words = ("evaluate", logged / "run", "--data", drawn_dir, "--split", "val", "--out", out)
    result = run(*words)
    assert result.exit_code == 0, result.output
    val = read_json(logged / "run" / "split.json")["val"]
    assert read_json(out / "evaluation.json")["num_cases"] == len(val) == 2
    image = drawn_dir / "images" / "0003.png"
    masks = tmp_path / "masks"
    result = run("predict", logged / "run", image, "--phrase", "血管", "--out", masks)
    assert result.exit_code == 0, result.output
    assert len(list(masks.iterdir())) == 3


def test_every_flag_reaches_its_setting(tmp_path, tiny_base, drawn_dir):
    own = tmp_path / "own.yaml"
    own.write_text("trainer: {accumulation: 2}\n")
    flags = {
        "--model": tiny_base,
        "--data": drawn_dir,
        "--epochs": 1,
        "--lr": "2e-4",
        "--batch-size": 3,
        "--lora-rank": 4,
        "--lora-alpha": 6,
        "--trainable": "mllm_lora, grounding_lora",
        "--preset": "seed",
        "--phrase": "冠状动脉",
        "--split-by": "sorted",
        "--group-regex": r"(\d)$",
        "--config": own,
        "--set": "data.train_share=0.6",
    }
    out = tmp_path / "run"
    result = run("finetune", "--out", out, *(word for pair in flags.items() for word in pair))
    assert result.exit_code == 0, result.output
    settings = yaml.safe_load((out / "config.yaml").read_text())
    assert settings["model"] == str(tiny_base)
    assert settings["trainer"]["epochs"] == 1
    assert settings["trainer"]["batch_size"] == 3
    assert settings["trainer"]["accumulation"] == 2
    assert settings["optim"]["lr"] == 2e-4
    assert (settings["lora"]["rank"], settings["lora"]["alpha"]) == (4, 6)
    assert settings["lora"]["trainable"] == ["mllm_lora", "grounding_lora"]
    assert settings["prompt"]["phrase"] == "冠状动脉"
    assert settings["objective"]["text"] == 0
    assert settings["data"]["split_by"] == "sorted"
    assert settings["data"]["group_regex"] == r"(\d)$"
    assert len(read_json(out / "split.json")["train"]) == 6


def test_a_data_set_is_drawn(tmp_path):
    words = ("data", "synth", tmp_path / "set", "--num", 2, "--style", "fundus", "--seed", 5)
    result = run(*words, "--set", "size=64")
    assert result.exit_code == 0, result.output
    assert len(list((tmp_path / "set" / "images").iterdir())) == 2


def test_an_adapter_for_another_base_is_refused(logged, tmp_path, tiny_base, drawn_dir):
    base, own = tmp_path / "base", tmp_path / "run"
    shutil.copytree(tiny_base, base)
    shutil.copytree(logged / "run", own)
    memory = own / "adapter" / "vasculora.json"
    memory.write_text(memory.read_text().replace(str(tiny_base), str(base)))
    image = drawn_dir / "images" / "0000.png"
    assert run("predict", own, image, "--out", tmp_path / "a").exit_code == 0
    weights = bytearray((base / "model.safetensors").read_bytes())
    weights[len(weights) // 2 : len(weights) // 2 + 4096] = bytes(4096)
    (base / "model.safetensors").write_bytes(weights)
    message = refusal(run("predict", own, image, "--out", tmp_path / "b"))
    assert "the adapter was trained on" in message
    assert "Restore that base" in message


def test_a_run_that_cannot_learn_exits_with_3(tmp_path, tiny_base, drawn_dir):
    flags = ["--set", "objective.dice=0", "--set", "objective.focal=0", "--set", "objective.bce=0"]
    words = ("finetune", "--model", tiny_base, "--data", drawn_dir, "--out", tmp_path / "run")
    result = run(*words, *flags)
    assert result.exit_code == 3
    assert "projector, mask_decoder cannot learn" in result.stderr
    assert "Traceback" not in result.stderr


DEAD = {
    "--lr 0": "    The learning rate optim.lr is 0, so no step moves anything. Give",
    "--set lora.target_modules=nothing": "Change lora.target_modules, or leave it out",
}


@pytest.mark.parametrize("flags", DEAD)
@pytest.mark.parametrize("command", ["finetune", "audit"])
def test_a_dead_configuration_is_told_and_what_to_change(
    command, flags, tmp_path, tiny_base, drawn_dir
):
    words = (command, "--model", tiny_base, "--data", drawn_dir, "--out", tmp_path / "run")
    result = run(*words, *flags.split())
    assert result.exit_code == 3, result.output
    told = result.stderr if command == "finetune" else result.stdout
    assert DEAD[flags] in told
    assert result.output.count(DEAD[flags]) == 1
    assert "Baseline" not in result.stdout
    assert "Traceback" not in result.stderr


def test_an_audit_is_a_table_or_json_alone(tiny_base, drawn_dir):
    words = ("audit", "--model", tiny_base, "--data", drawn_dir)
    result = run(*words)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert "What learns, on one real batch" in lines
    assert lines[-1] == "Everything that should learn does."
    for flags, code in (((), 0), (("--lr", 0), 3)):
        result = run(*words, "--json", *flags)
        assert result.exit_code == code, result.output
        report = json.loads(result.stdout)
        assert report["ok"] == (code == 0)
        assert [group["name"] for group in report["groups"]][:2] == ["mllm_lora", "projector"]
        assert result.stderr.startswith("Model: ")


def test_a_fault_of_ours_shows_its_traceback_where_asked(tmp_path):
    result = run("--debug", "evaluate", tmp_path / "gone", "--data", "x", "--out", "y")
    assert isinstance(result.exception, FileNotFoundError)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_reads_like_documentation(words):
    result = run(*words, "--help")
    assert result.exit_code == 0
    assert "Usage: " in result.stdout
    if words not in ([], ["data"]):
        assert "Example: vasculora" in result.stdout
    if words not in WITHOUT_SETTINGS:
        assert "--config" in result.stdout
        assert "--set" in result.stdout
    assert all(len(line) <= 80 for line in result.stdout.splitlines())
    assert "[bold]" not in result.stdout


def test_the_demo_explains_itself_too():
    text = run("demo", "--help").stdout
    assert "Exits with 1" in text
    assert "runs/demo" in text
