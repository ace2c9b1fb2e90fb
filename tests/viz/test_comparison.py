import numpy as np
import pytest
from PIL import Image, ImageColor

from vasculora.viz.comparison import COLOURS, LONGEST_NAME, RunScore, comparison_chart, shorten


def run(name, dice, **told):
    return RunScore(name=name, dice=dice, low=dice - 0.02, high=dice + 0.02, remark="", **told)


def draw(folder, runs):
    comparison_chart(folder / "c.png", runs, title="Runs", label="Dice")
    return np.asarray(Image.open(folder / "c.png").convert("RGB"))


def columns(picture, index):
    """Columns in which a run's colour stands."""
    return (picture == ImageColor.getrgb(COLOURS[index])).all(axis=2).any(axis=0).nonzero()[0]


def test_every_run_is_drawn_on_both_sides(tmp_path):
    told = {"epochs": (1, 2, 3), "val_dice": (0.5, 0.6, 0.7), "best_epoch": 3}
    picture = draw(tmp_path, [run("one", 0.7, **told), run("two", 0.8, **told)])
    # of curves that lie on each other the later one is seen
    assert columns(picture, 1).min() < 0.2 * picture.shape[1]
    for index in (0, 1):
        assert columns(picture, index).max() > 0.7 * picture.shape[1]


def test_a_better_score_stands_further_right(tmp_path):
    picture = draw(tmp_path, [run("one", 0.6), run("two", 0.8)])
    assert columns(picture, 0).max() < columns(picture, 1).max()


def test_a_score_without_an_interval_is_a_dot_alone(tmp_path):
    alone = RunScore(name="a", dice=0.7, low=None, high=None, remark="")
    assert columns(draw(tmp_path, [alone]), 0).size


def test_names_are_cut_in_the_middle():
    assert shorten("short") == "short"
    assert len(shorten("a" * 40 + "seed3")) == LONGEST_NAME
    assert shorten("a" * 40 + "seed3").endswith("seed3")


def test_no_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one run"):
        draw(tmp_path, [])
