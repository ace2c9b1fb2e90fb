import numpy as np
import pytest
from PIL import Image

from vasculora.data.sources import read_source
from vasculora.recipes.data import synthesise


def draw(out, report, **changes):
    settings = {"style": "octa", "num": 3, "size": 64, "seed": 1} | changes
    synthesise(out, **settings, report=report)


def test_a_drawn_set_is_a_data_set(tmp_path, recorder):
    draw(tmp_path / "set", recorder)
    catalog = read_source(tmp_path / "set")
    assert [record.case_id for record in catalog.records] == ["0000", "0001", "0002"]
    mask = np.asarray(Image.open(tmp_path / "set" / "masks" / "0001.png"))
    assert mask.shape == (64, 64)
    assert set(np.unique(mask)) == {0, 255}
    assert recorder.notes == [
        f"3 drawn images in style 'octa' with their masks: {tmp_path / 'set'}"
    ]


def test_the_seed_decides_the_drawings(tmp_path, recorder):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        draw(tmp_path / name, recorder, seed=seed)
    pixels = {n: (tmp_path / n / "images" / "0000.png").read_bytes() for n in "abc"}
    assert pixels["a"] == pixels["b"]
    assert pixels["a"] != pixels["c"]


def test_nothing_is_drawn_over(tmp_path, recorder):
    (tmp_path / "mine.png").touch()
    with pytest.raises(ValueError, match="is not an empty folder"):
        draw(tmp_path, recorder)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.png"]
