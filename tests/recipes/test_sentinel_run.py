"""The sentinel inside whole runs: what it stops is kept and told, what it only watches is free."""

import shutil

import numpy as np
import pytest

from vasculora.core.errors import CannotLearnError
from vasculora.core.io import read_json, write_image, write_json
from vasculora.recipes.config import finetune_settings
from vasculora.recipes.finetune import finetune

pytestmark = pytest.mark.slow

FAST = {"optim__lr": 3e-3, "trainer__batch_size": 2}


def about_scores(recorder):
    return [text for text in recorder.warnings if "the same numbers" in text]


@pytest.fixture
def strange_dir(tmp_path, disc_dir):
    """The discs, but validation masks show a corner, where no disc ever is."""
    path = tmp_path / "strange"
    shutil.copytree(disc_dir, path)
    names = [str(number) for number in range(10)]
    write_json(path / "split.json", {"train": names[:8], "val": names[8:]})
    corner = np.zeros((64, 64), dtype=np.uint8)
    corner[0, 0] = 255
    for name in names[8:]:
        write_image(path / "masks" / f"{name}.png", corner)
    return path


def test_a_score_that_cannot_move_stops_the_run(strange_dir, tmp_path, tiny_settings, recorder):
    out = tmp_path / "run"
    config = tiny_settings(data__path=str(strange_dir), trainer__epochs=8, **FAST)
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
    strange_dir, tmp_path, tiny_settings, train, recorder, new_recorder
):
    out = tmp_path / "run"
    values = {"data__path": str(strange_dir), "trainer__epochs": 6, **FAST}
    with pytest.raises(CannotLearnError):
        finetune(tiny_settings(**values), out, report=new_recorder())
    train(tiny_settings(**values, sentinel="off"), out, report=recorder, resume=True)
    assert [row["epoch"] for row in read_json(out / "metrics.json")["epochs"]] == [1, 2, 3, 4, 5, 6]


def test_a_warning_lets_the_run_end(strange_dir, tmp_path, tiny_settings, train, recorder):
    config = tiny_settings(data__path=str(strange_dir), trainer__epochs=6, sentinel="warn", **FAST)
    train(config, tmp_path / "run", report=recorder)
    (text,) = about_scores(recorder)
    assert "for 5 epochs in a row" in text


def test_off_does_not_look(strange_dir, tmp_path, tiny_settings, train, recorder):
    config = tiny_settings(data__path=str(strange_dir), trainer__epochs=6, sentinel="off", **FAST)
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
