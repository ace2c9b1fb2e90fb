import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageColor

from vasculora.viz.curves import BASELINE, LOSS, TRAIN, VAL, training_curve


def rows(scores):
    return [
        {
            "epoch": number,
            "train_loss": 1 / number,
            "train_dice": score - 0.01,
            "val_dice": score,
            "val_recall": 0.5,
        }
        for number, score in enumerate(scores, start=1)
    ]


def draw(folder, scores, baseline=0.5):
    path = folder / "curve.png"
    training_curve(path, epochs=rows(scores), baseline=baseline, title="A run")
    return np.asarray(Image.open(path).convert("RGB"))


def drawn(picture, colour):
    """Rows of the picture in which a colour stands, as a mask."""
    return (picture == np.array(ImageColor.getrgb(colour))).all(axis=2)


def test_every_line_is_drawn(tmp_path):
    picture = draw(tmp_path, [0.55, 0.7, 0.65])
    for colour in (VAL, TRAIN, LOSS, BASELINE):
        assert drawn(picture, colour).sum() > 50
    assert picture.shape[1] > 900


def test_a_better_score_stands_higher_than_the_baseline(tmp_path):
    picture = draw(tmp_path, [0.6, 0.7, 0.8])[100:]
    assert drawn(picture, VAL).nonzero()[0].max() < drawn(picture, BASELINE).nonzero()[0].max()
    picture = draw(tmp_path, [0.4, 0.3, 0.2])[100:]
    assert drawn(picture, VAL).nonzero()[0].min() > drawn(picture, BASELINE).nonzero()[0].min()


def test_a_flat_run_looks_flat(tmp_path):
    picture = draw(tmp_path, [0.500, 0.502, 0.501])[100:]
    heights = drawn(picture, VAL).nonzero()[0]
    assert heights.max() - heights.min() < 40


def test_one_epoch_is_enough_and_none_is_refused(tmp_path):
    assert drawn(draw(tmp_path, [0.6]), VAL).any()
    with pytest.raises(ValueError, match="at least one finished epoch"):
        draw(tmp_path, [])


def test_matplotlib_comes_late_and_pyplot_never(tmp_path):
    program = (
        "import sys, pathlib; import vasculora.viz.curves as c;"
        "assert 'matplotlib' not in sys.modules;"
        f"c.training_curve(pathlib.Path({str(tmp_path / 'c.png')!r}), epochs=[dict(epoch=1,"
        "train_loss=1, train_dice=.5, val_dice=.5, val_recall=.5)], baseline=.4, title='t');"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
