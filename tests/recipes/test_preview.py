import json

import numpy as np
import pytest

from vasculora.core.io import read_image, write_image
from vasculora.data.synthetic.export import write_dataset
from vasculora.recipes.config import DataConfig
from vasculora.recipes.preview import PreviewConfig, preview
from vasculora.viz import fonts
from vasculora.viz.overlays import HIT
from vasculora.viz.sheet import TILE


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    path = tmp_path_factory.mktemp("preview") / "drawn"
    write_dataset(path, style="xray", num=3, size=64, seed=1)
    return path


@pytest.fixture
def named(tmp_path):
    """A manifest of one picture, with a Chinese phrase and one for what is absent."""
    folder = tmp_path / "named"
    picture, mask = np.full((40, 40, 3), 120, np.uint8), np.zeros((40, 40), np.uint8)
    mask[10:14] = 255
    picture[10:14] = 60
    write_image(folder / "a.png", picture)
    write_image(folder / "a_mask.png", mask)
    lines = [
        {"image": "a.png", "phrase": "左侧血管", "mask": "a_mask.png"},
        {"image": "a.png", "phrase": "catheter", "mask": None},
    ]
    text = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    (folder / "set.jsonl").write_text(text + "\n", encoding="utf-8")
    return folder / "set.jsonl"


def page(path, recorder, out, **settings):
    preview(PreviewConfig(data=path, **settings), out, report=recorder)
    return read_image(out)


def test_samples_are_drawn_by_the_seed(drawn, recorder, tmp_path):
    out = tmp_path / "page.png"
    first = page(drawn, recorder, out, num=4, augment="strong")
    assert (first == HIT).all(axis=2).sum() > 500
    np.testing.assert_array_equal(page(drawn, recorder, out, num=4, augment="strong"), first)
    assert (page(drawn, recorder, out, num=4, augment="strong", seed=1) != first).any()
    assert "4 samples as augment 'strong' shows them" in recorder.notes[-1]
    assert "look like X-ray angiograms" in recorder.notes[0]
    assert "--modality fundus|octa" in recorder.notes[0]


def test_it_shows_what_a_run_does_unless_told_otherwise(tmp_path):
    assert PreviewConfig(data=tmp_path).augment == DataConfig(path=tmp_path).augment


def test_more_samples_than_cases_show_each_case_anew(drawn, recorder, tmp_path):
    shown = page(drawn, recorder, tmp_path / "page.png", num=6, augment="light")
    gap = (shown.shape[1] - 4 * TILE) // 5
    # the fourth sample is the first case again, in its second epoch
    tiles = [shown[gap : gap + TILE, gap + i * (TILE + gap) :][:, :TILE] for i in (0, 3)]
    assert (tiles[0] != tiles[1]).any()
    assert len(recorder.notes) == 1  # light does not ask what kind of picture it is


def test_without_augmentation_the_pictures_are_as_they_are(drawn, recorder, tmp_path):
    one = page(drawn, recorder, tmp_path / "a.png", num=3, augment="none")
    # three cases, so six samples are two equal halves
    six = page(drawn, recorder, tmp_path / "b.png", num=6, augment="none")
    gap = (six.shape[1] - 4 * TILE) // 5
    across = slice(gap, gap + TILE)
    np.testing.assert_array_equal(six[across, across], one[across, across])
    np.testing.assert_array_equal(
        six[across, across], six[across, gap + 3 * (TILE + gap) :][:, :TILE]
    )


def test_phrases_no_font_can_draw_are_numbered_and_told(named, recorder, tmp_path, monkeypatch):
    monkeypatch.setattr(fonts, "_wide_fonts", tuple)
    page(named, recorder, tmp_path / "page.png", num=3)
    told = next(note for note in recorder.notes if "No font" in note)
    # flipped samples ask for the other side
    assert "[1] 左侧血管" in told or "[1] 右侧血管" in told


@pytest.mark.parametrize(
    ("settings", "out", "problem"),
    [
        ({}, "page.jpg", r"page\.jpg: a preview is a PNG picture"),
        ({"augment": "light", "modality": "xray"}, "page.png", "Leave --modality out"),
    ],
)
def test_what_cannot_be_done_is_said(drawn, recorder, tmp_path, settings, out, problem):
    with pytest.raises(ValueError, match=problem):
        page(drawn, recorder, tmp_path / out, **settings)


def test_nothing_is_written_into_the_data(drawn, recorder):
    with pytest.raises(ValueError, match="only read"):
        page(drawn, recorder, drawn / "page.png")


def test_images_that_are_not_annotated_are_refused_as_a_run_does(tmp_path, named, recorder):
    named.write_text('{"image": "a.png"}\n', encoding="utf-8")
    with pytest.raises(ValueError, match=r"1 of 1 images are not annotated \(first: a\)"):
        page(named, recorder, tmp_path / "out.png")
    assert not (tmp_path / "out.png").exists()
