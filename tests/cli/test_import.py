"""`data import` as a user types it, and its manifest where a folder was asked for."""

import shutil

import pytest
from typer.testing import CliRunner

from vasculora.cli.app import app
from vasculora.core.io import read_json

pytestmark = pytest.mark.slow


def call(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def manifest(tmp_path, drawn_dir):
    path = tmp_path / "set.jsonl"
    result = call("data", "import", drawn_dir, "--out", path)
    assert result.exit_code == 0, result.output
    assert "10 images with 10 targets" in result.output.replace("\n", " ")
    return path


def test_a_manifest_is_scored_like_the_folder(tmp_path, tiny_base, drawn_dir, manifest):
    found = []
    for name, data in (("folder", drawn_dir), ("manifest", manifest)):
        result = call("evaluate", tiny_base, "--data", data, "--out", tmp_path / name)
        assert result.exit_code == 0, result.output
        found.append(read_json(tmp_path / name / "evaluation.json"))
        assert found[-1].pop("data") == str(data)
    assert found[0] == found[1]


def test_a_run_learns_from_a_manifest_and_is_taken_up(tmp_path, tiny_base, manifest):
    words = ("--set", "lora.rank=2", "--set", "lora.alpha=2", "--batch-size", 4)
    run = ("finetune", "--model", tiny_base, "--data", manifest, "--out", tmp_path / "run")
    result = call(*run, "--epochs", 1, *words)
    assert result.exit_code == 0, result.output
    assert "layout 'manifest'" in result.output
    assert len(read_json(tmp_path / "run" / "split.json")["val"]) == 2


def test_names_of_patients_stop_it(tmp_path, drawn_dir):
    shutil.copytree(drawn_dir, tmp_path / "set")
    for kind in ("images", "masks"):
        old = tmp_path / "set" / kind / "0003.png"
        old.rename(old.with_name("Li Si(22)_1_frame_3.png"))
    result = call("data", "import", tmp_path / "set", "--out", tmp_path / "x.jsonl")
    assert result.exit_code == 2
    assert "--keep-names" in result.stderr.replace("\n", " ")
    assert "Li Si" not in result.output
    assert not (tmp_path / "x.jsonl").exists()
