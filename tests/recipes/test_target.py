"""The target rule that `auto` settles for."""

import numpy as np
import pytest

from vasculora.core.config import load_config
from vasculora.core.io import write_image
from vasculora.data.sources import read_source
from vasculora.model.processor import ProcessorConfig
from vasculora.recipes.config import FinetuneConfig
from vasculora.recipes.target import choose_target, fullest_view, settle_target

GRID = ProcessorConfig(mask_size=128, sam_size=256)


def bars(path, side, width, *, num=2):
    """Records of images with one slanted bar each."""
    rows, columns = np.mgrid[:side, :side]
    for index in range(num):
        mask = np.abs(rows * 0.8 - columns * 0.6 - index * 3) < width / 2
        write_image(path / "images" / f"{index}.png", np.full((side, side), 90, dtype=np.uint8))
        write_image(path / "masks" / f"{index}.png", mask.astype(np.uint8) * 255)
    return read_source(path).records


def test_a_wide_vessel_on_a_large_image_is_learnt_from_shares(tmp_path):
    choice = choose_target(bars(tmp_path, 700, 90), GRID, phrase="vessel")
    assert choice.ceilings["area"] >= choice.ceilings["full"] - 0.01
    assert choice.rule == "area"
    assert choice.num_masks == 2
    assert choice.told().startswith("Target: area (best Dice")


def test_on_a_small_image_full_size_costs_little(tmp_path):
    assert choose_target(bars(tmp_path, 500, 60), GRID, phrase="vessel").rule == "full"


def test_a_thin_vessel_on_a_large_image_is_not(tmp_path):
    choice = choose_target(bars(tmp_path, 700, 4), GRID, phrase="vessel")
    assert choice.rule == "full"
    assert max(choice.ceilings["area"], choice.ceilings["nearest"]) < choice.ceilings["full"] - 0.2


def test_what_is_measured_is_what_a_window_shows(tmp_path):
    mask = np.zeros((300, 300), dtype=bool)
    mask[220:260, 230:280] = True
    view = fullest_view(mask, GRID.model_copy(update={"window": 100}))
    assert view.shape == (100, 100)
    assert view.sum() == mask.sum()
    assert fullest_view(mask, GRID).shape == (300, 300)
    records = bars(tmp_path, 700, 90)
    assert choose_target(records, GRID.model_copy(update={"window": 256}), phrase="v").rule == (
        "full"
    )


def test_the_official_loss_gets_whole_masks_and_nothing_is_measured(
    tiny_settings, opened, recorder
):
    config, settled = settle_target(tiny_settings(objective="official"), opened, (), recorder)
    assert (config.target, settled.processor.config.target) == ("full", "full")
    assert not recorder.notes


def test_a_run_writes_the_rule_it_settled_for(tmp_path, tiny_settings, train, recorder):
    out = tmp_path / "run"
    train(tiny_settings(trainer__epochs=1), out, report=recorder)
    assert len([note for note in recorder.notes if note.startswith("Target: full")]) == 1
    assert load_config(FinetuneConfig, out / "config.yaml").target == "full"


def test_a_low_ceiling_is_warned_of_with_the_cure(tmp_path, tiny_settings, opened, recorder):
    lines = np.broadcast_to(np.arange(256)[:, None] % 9 == 0, (256, 256)).astype(np.uint8)
    write_image(tmp_path / "images" / "0.png", lines * 90)
    write_image(tmp_path / "masks" / "0.png", lines * 255)
    records = read_source(tmp_path).records
    config, settled = settle_target(tiny_settings(), opened, records, recorder)
    assert (config.target, settled.processor.config.target) == ("full", "full")
    assert len(recorder.warnings) == 1
    assert "even a perfect model could reach only Dice 0." in recorder.warnings[0]
    # no number of its own: a window larger than the images would change nothing
    assert "smaller windows (--set window.size=PIXELS)" in recorder.warnings[0]


@pytest.mark.parametrize("rule", ["full", "area", "nearest"])
def test_a_rule_that_is_asked_for_is_taken_unmeasured(tiny_settings, opened, recorder, rule):
    config, settled = settle_target(tiny_settings(target=rule), opened, (), recorder)
    assert config.target == rule
    assert settled is opened
    assert not recorder.notes
