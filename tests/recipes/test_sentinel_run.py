"""The sentinel inside whole runs: what it stops is kept and told, what it only watches is free."""

import shutil

import pytest

from vasculora.core.errors import CannotLearnError
from vasculora.core.io import read_json, write_json
from vasculora.recipes.config import finetune_settings
from vasculora.recipes.finetune import finetune

FAST = {"optim__lr": 3e-3, "trainer__batch_size": 4}


def about_scores(recorder):
    return [text for text in recorder.warnings if "the same numbers" in text]


@pytest.fixture
def blind_base(tmp_path, tiny_base):
    """The tiny base with a threshold that no probability reaches."""
    path = tmp_path / "base"
    shutil.copytree(tiny_base, path)
    memory = read_json(path / "vasculora.json")
    memory["processor"]["threshold"] = 0.9999999
    write_json(path / "vasculora.json", memory)
    return path


def test_a_score_that_cannot_move_stops_the_run(blind_base, tmp_path, tiny_settings, recorder):
    out = tmp_path / "run"
    config = tiny_settings(model=str(blind_base), trainer__epochs=8, **FAST)
    with pytest.raises(CannotLearnError) as caught:
        finetune(config, out, report=recorder)
    assert "the same numbers for 5 epochs in a row (mean Dice 0.0000)" in str(caught.value)
    assert "and the prediction moves (" in str(caught.value)
    assert "the threshold is too high" in str(caught.value)
    assert not about_scores(recorder)
    assert [row["epoch"] for row in read_json(out / "metrics.json")["epochs"]] == [1, 2, 3, 4, 5]
    told = [line for line in recorder.lines if line.startswith("Epoch")]
    assert told == [f"Epoch {number}/8" for number in range(1, 6)]


def test_a_stopped_run_can_go_on_unwatched(
    blind_base, tmp_path, tiny_settings, train, recorder, new_recorder
):
    out = tmp_path / "run"
    values = {"model": str(blind_base), "trainer__epochs": 6, **FAST}
    with pytest.raises(CannotLearnError):
        finetune(tiny_settings(**values), out, report=new_recorder())
    train(tiny_settings(**values, sentinel="off"), out, report=recorder, resume=True)
    assert [row["epoch"] for row in read_json(out / "metrics.json")["epochs"]] == [1, 2, 3, 4, 5, 6]


def test_a_warning_lets_the_run_end(blind_base, tmp_path, tiny_settings, train, recorder):
    config = tiny_settings(model=str(blind_base), trainer__epochs=6, sentinel="warn", **FAST)
    train(config, tmp_path / "run", report=recorder)
    (text,) = about_scores(recorder)
    assert "for 5 epochs in a row" in text


def test_off_does_not_look(blind_base, tmp_path, tiny_settings, train, recorder):
    config = tiny_settings(model=str(blind_base), trainer__epochs=6, sentinel="off", **FAST)
    train(config, tmp_path / "run", report=recorder)
    assert not about_scores(recorder)


def test_watching_changes_no_bit(tmp_path, tiny_settings, train, recorder):
    kept = []
    for mode in ("stop", "off"):
        out = tmp_path / mode
        train(tiny_settings(sentinel=mode, **FAST), out, report=recorder)
        kept.append((out / "adapter" / "adapter_model.safetensors").read_bytes())
    assert kept[0] == kept[1]
    assert not about_scores(recorder)


def test_the_setting_is_typed_as_promised(tiny_base):
    def settings(*overrides):
        values = {"model": str(tiny_base), "data.path": "d"}
        return finetune_settings(config_path=None, preset=None, overrides=overrides, values=values)

    assert settings().sentinel == "stop"
    for mode in ("stop", "warn", "off"):
        assert settings(f"sentinel={mode}").sentinel == mode
    with pytest.raises(ValueError, match="sentinel"):
        settings("sentinel=maybe")
