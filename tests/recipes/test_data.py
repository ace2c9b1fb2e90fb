import numpy as np
import pytest
from PIL import Image

from vasculora.data.dataset import load_sample
from vasculora.data.sources import read_source
from vasculora.recipes.data import import_data, synthesise
from vasculora.recipes.frames import write_pictures


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


def bring_in(source, out, report, **changes):
    import_data(
        source, out, **({"group_regex": None, "keep_names": False} | changes), report=report
    )


def test_any_set_becomes_a_manifest(tmp_path, recorder):
    draw(tmp_path / "set", recorder)
    out = tmp_path / "lists" / "set.jsonl"
    bring_in(tmp_path / "set", out, recorder, group_regex="^(00)")
    assert recorder.notes[-1] == f"3 images with 3 targets: {out}"
    catalog = read_source(out)
    assert catalog.records == read_source(tmp_path / "set", group_regex="^(00)").records
    # And a manifest is a source like any other.
    bring_in(out, tmp_path / "again.jsonl", recorder)
    assert read_source(tmp_path / "again.jsonl").records == catalog.records


def test_what_scores_use_comes_along_with_pictures(tmp_path, recorder):
    for number, name in enumerate(("images", "masks", "fov", "second_masks"), start=1):
        pixels = np.zeros((9, 12), dtype=np.uint8)
        pixels[:number] = 255
        (tmp_path / "set" / name).mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / "set" / name / "a.png")
    write_pictures(read_source(tmp_path / "set").records, tmp_path / "out", report=recorder)
    (record,) = read_source(tmp_path / "out").records
    sample = load_sample(record, phrase="vessel")
    assert record.image_path == tmp_path / "out" / "images" / "a.png"
    found = (sample.masks[0], sample.fov, sample.second)
    assert [int(mask.sum()) for mask in found] == [24, 36, 48]


def test_a_manifest_is_written_over_nothing_and_not_into_the_data(tmp_path, recorder):
    draw(tmp_path / "set", recorder)
    (tmp_path / "mine.jsonl").write_text("mine")
    with pytest.raises(ValueError, match="is there already"):
        bring_in(tmp_path / "set", tmp_path / "mine.jsonl", recorder)
    assert (tmp_path / "mine.jsonl").read_text() == "mine"
    with pytest.raises(ValueError, match="lies inside the data folder"):
        bring_in(tmp_path / "set", tmp_path / "set" / "sub" / "x.jsonl", recorder)
    with pytest.raises(ValueError, match=r"Call it NAME\.jsonl"):
        bring_in(tmp_path / "set", tmp_path / "x.json", recorder)


def test_one_patients_name_keeps_all_names_out(tmp_path, recorder):
    draw(tmp_path / "set", recorder)
    # The one file that gives it away is not even used.
    images = tmp_path / "set" / "images"
    (images / "Li Si(22)_1_frame_3.png").write_bytes((images / "0000.png").read_bytes())
    with pytest.raises(ValueError, match="--keep-names"):
        bring_in(tmp_path / "set", tmp_path / "x.jsonl", recorder)
    assert not (tmp_path / "x.jsonl").exists()
    bring_in(tmp_path / "set", tmp_path / "x.jsonl", recorder, keep_names=True)
    assert read_source(tmp_path / "x.jsonl").records == read_source(tmp_path / "set").records
    assert not any("Li Si" in note for note in recorder.notes)
