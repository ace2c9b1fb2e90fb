"""`vasculora inspect` as a user types it: plain when redirected, JSON, one clear message."""

import json
import subprocess
import sys

import pytest
from tests.model.official.parity import Golden
from tests.model.official.real import read_keymap, write_real
from typer.testing import CliRunner

from vasculora.cli.app import app


def call(*words):
    return CliRunner().invoke(app, ["inspect", *map(str, words)])


@pytest.fixture(scope="module")
def real(shared_dir, tmp_path_factory):
    """The 8B's settings and index, without shards and without tokenizer."""
    return write_real(tmp_path_factory.mktemp("real") / "8b", read_keymap(shared_dir), shards=False)


@pytest.mark.slow
def test_the_real_8b_is_told_from_its_index(real):
    command = [sys.executable, "-m", "vasculora", "inspect", str(real)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "Weights: 8,182,606,130 parameters; 1,589 tensors in 7 files, 32.1 GB" in lines
    assert "Pictures: tiles of 448 x 448 pixels, 256 tokens each; 1024 x 1024 pixels for SAM 2" in (
        lines
    )
    seed = lines[next(i for i, line in enumerate(lines) if line.startswith("seed ")) :]
    assert seed[3].split() == ["all", "41,623,552", "40,935,424"]
    assert seed[2].split() == ["memory_lora", "688,128", "0"]
    warnings = done.stderr.splitlines()
    assert [line.partition(":")[0] for line in warnings] == ["Warning", "Warning"]
    assert "no tokenizer" in warnings[0]
    assert "7 of 7 weight files" in warnings[1]


def test_json_alone_goes_to_standard_output(tiny_base):
    result = call(tiny_base, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["kind"], found["warnings"]) == ("vasculora", [])
    assert found["num_parameters"] == sum(block["parameters"] for block in found["blocks"])
    seed = next(preset for preset in found["presets"] if preset["name"] == "seed")
    assert seed["num_attached"] == sum(seed["attached"].values())
    assert found["words"]["tokens"][0]["text"] == "[SEG]"
    assert found["parts"][2]["layers"] == [1, 1, 2, 1]


def test_the_bundled_base_is_shown_by_name():
    result = call("nano")
    assert result.exit_code == 0, result.output
    assert "Weights: 2,365,209 parameters" in result.stdout
    assert result.stderr == ""


def test_sam2_sizes_are_given_as_a_setting(shared_dir):
    golden = Golden(shared_dir, "qwen3_vl")
    result = call(golden.checkpoint, "--set", f"official.sam2={json.dumps(golden.meta['sam'])}")
    assert result.exit_code == 0, result.output
    assert "Family: qwen3_vl, language model Qwen3VLForConditionalGeneration" in result.stdout
    assert "official goes without connector" in result.stdout
    refused = call(golden.checkpoint)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "as official.sam2 in the --config file" in refused.stderr


@pytest.mark.parametrize("words", [["nowhere"], ["nano", "--set", "official.min_pixels=4"]])
def test_bad_input_is_one_message(words):
    result = call(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("vasculora: ")
