"""Who decides which images are val, and what happens where one picture is in two parts."""

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from vasculora.core.io import read_image, read_json, write_image
from vasculora.data.splits import split_by_group
from vasculora.data.synthetic.styles import draw_case
from vasculora.recipes.audit import audit
from vasculora.recipes.config import DataConfig
from vasculora.recipes.demo import DemoConfig
from vasculora.recipes.demo import _settings as demo_settings
from vasculora.recipes.finetune import finetune
from vasculora.recipes.run_folder import read_data
from vasculora.recipes.split import Looks, choose_split


@pytest.fixture
def leaking_dir(tmp_path, drawn_dir):
    """The drawn set, in which 0003 is another export of 0008, and 0005 of 0001."""
    data = tmp_path / "leaking"
    shutil.copytree(drawn_dir, data)
    for copy, own in (("0003", "0008"), ("0005", "0001")):
        image = read_image(drawn_dir / "images" / f"{own}.png")
        moved = np.roll(image * 0.8 + 20, 1, axis=1).astype(np.uint8)
        Image.fromarray(moved).save(data / "images" / f"{copy}.png")
        shutil.copy(drawn_dir / "masks" / f"{own}.png", data / "masks" / f"{copy}.png")
    return data


def split(data, recorder, *, seed=0, **settings):
    config = DataConfig(path=data, **settings)
    return split_as(config, seed=seed, report=recorder)[0]


def split_as(config, *, seed, report):
    looks = Looks(leaks=config.leaks)
    catalog = read_data(config, phrase="vessel", report=report, on_sample=looks.take)
    report.warnings.clear()  # that each image is its own group
    return choose_split(catalog, config, looks, seed=seed, report=report), catalog


def test_no_fingerprint_is_kept_where_none_is_compared():
    drawn = draw_case("xray", size=64, rng=np.random.default_rng(0), case_id="a")
    for leaks, kept in (("refuse", True), ("warn", True), ("off", False)):
        looks = Looks(leaks=leaks)
        looks.take(drawn)
        assert (drawn.case_id in looks.fingerprints) == kept
        assert looks.foreground.keys() == {drawn.case_id}


def divide(data, **parts):
    """Give a data set a split of its own."""
    (data / "split.json").write_text(json.dumps(parts))


def test_the_demo_is_split_as_its_published_figures_were(drawn_dir, recorder):
    settings = demo_settings(DemoConfig(), drawn_dir)
    found, catalog = split_as(settings.data, seed=settings.seed, report=recorder)
    assert found == split_by_group(catalog.records, seed=2025)
    assert recorder.warnings == []


def test_train_and_val_are_alike_in_vessel_unless_told_otherwise(tmp_path, recorder):
    rng = np.random.default_rng(0)
    data = tmp_path / "data"
    for number in range(10):
        grey = rng.integers(0, 255, (64, 64), dtype=np.uint8)
        mask = np.zeros((64, 64), dtype=np.uint8)
        mask[:, : 4 if number < 5 else 40] = 255
        write_image(data / "images" / f"{number}.png", grey)
        write_image(data / "masks" / f"{number}.png", mask)
    thick = [sum(int(i) >= 5 for i in split(data, recorder, seed=seed).val) for seed in range(6)]
    assert thick == [1] * 6
    plain = [split(data, recorder, seed=seed, stratify=False).val for seed in range(6)]
    assert {sum(int(i) >= 5 for i in val) for val in plain} > {1}


def test_a_picture_in_two_parts_is_refused_with_the_lines_that_mend_it(leaking_dir, recorder):
    groups = {f"000{i}": str(i // 2) for i in range(10)}
    (leaking_dir / "groups.csv").write_text(
        "image,group\n" + "".join(f"{image},{group}\n" for image, group in groups.items())
    )
    # 0 and 2 are tied by 0001 = 0005, 1 and 4 by 0003 = 0008; each lies across the seed's split
    two_in_val = {"train_share": 0.6, "stratify": False}
    seeds = [s for s in range(12) if crosses(leaking_dir, recorder, seed=s, **two_in_val)]
    with pytest.raises(ValueError, match="Nearly the same images are in two parts") as refusal:
        split(leaking_dir, recorder, seed=seeds[0], **two_in_val)
    text = str(refusal.value)
    assert re.search(r"so Val Dice would look better than it is \(pairs: 2\)", text)
    assert re.search(r"0008 \((train|val)\), correlation 0\.\d\d", text)
    assert "--set data.leaks=warn" in text
    lines = re.findall(r"^(\d{4},\d)$", text, re.MULTILINE)
    assert {line[:4] for line in lines} == {f"000{i}" for i in (0, 1, 4, 5, 2, 3, 8, 9)}
    mended = groups | dict(line.split(",") for line in lines)
    (leaking_dir / "groups.csv").write_text(
        "image,group\n" + "".join(f"{image},{group}\n" for image, group in mended.items())
    )
    for seed in seeds:
        split(leaking_dir, recorder, seed=seed, **two_in_val)
    assert recorder.warnings == []


def crosses(data, recorder, **settings):
    val = split(data, recorder, leaks="off", **settings).val
    return ("0001" in val) != ("0005" in val) and ("0003" in val) != ("0008" in val)


def test_leaks_may_be_told_only_or_not_looked_for(leaking_dir, recorder, new_recorder):
    parts = {"train": ["0001", "0002", "0008"], "val": ["0003", "0005"], "test": ["0006"]}
    divide(leaking_dir, **parts)
    with pytest.raises(ValueError, match="into one part of the data's own split"):
        split(leaking_dir, recorder)
    for leaks, number in (("warn", 1), ("off", 0)):
        report = new_recorder()
        assert split(leaking_dir, report, leaks=leaks).to_dict()["val"] == ["0003", "0005"]
        assert len(report.warnings) == number
        assert all("0003 (val) and 0008 (train)" in text for text in report.warnings)
    # what no part holds is nobody's leak
    divide(leaking_dir, train=["0001", "0002"], val=["0003", "0004"])
    split(leaking_dir, recorder)
    assert recorder.warnings == []


def test_who_asks_for_the_split_by_name_is_told_of_its_leak(leaking_dir, recorder):
    found = split(leaking_dir, recorder, split_by="sorted", train_share=0.4)
    assert found.train == ("0000", "0001", "0002", "0003")
    assert len(recorder.warnings) == 1
    assert "0001 (train) and 0005 (val)" in recorder.warnings[0]


def test_a_fold_is_chosen_saved_and_kept(tmp_path, tiny_settings, train, recorder, disc_dir):
    values = {"data__fold": "2/5", "trainer__epochs": 1}
    out = tmp_path / "run"
    train(tiny_settings(**values), out, report=recorder)
    assert "Split by group, fold 2/5: 8 train, 2 val." in recorder.notes
    assert "fold: 2/5" in (out / "config.yaml").read_text()
    val = [split(disc_dir, recorder, fold=f"{k}/5").val for k in range(1, 6)]
    assert sorted(i for ids in val for i in ids) == sorted(map(str, range(10)))
    assert tuple(read_json(out / "split.json")["val"]) == val[1]
    other = tiny_settings(resumed=out / "config.yaml", trainer__epochs=1, data__fold="3/5")
    with pytest.raises(ValueError, match=r"data\.fold was 2/5 and is 3/5 now"):
        finetune(other, out, report=recorder, resume=True)
    again = tiny_settings(resumed=out / "config.yaml", trainer__epochs=1, data__leaks="warn")
    train(again, out, report=recorder, resume=True)
    assert tuple(read_json(out / "split.json")["val"]) == val[1]


def test_an_audit_takes_a_fold_too(tiny_settings, recorder):
    audit(tiny_settings(data__fold="1/2"), report=recorder)
    assert "Split by group, fold 1/2: 5 train, 5 val." in recorder.notes


def test_a_fold_beside_another_split_is_refused(leaking_dir, drawn_dir, recorder):
    with pytest.raises(ValueError, match=r"11 folds .* belong to 10 groups"):
        split(drawn_dir, recorder, fold="1/11")
    with pytest.raises(ValueError, match="fold 1/5 is a fold of groups, but split_by is 'sorted'"):
        split(drawn_dir, recorder, fold="1/5", split_by="sorted")
    with pytest.raises(ValueError, match=r"fold 1/5 and train_share 0\.5 both say"):
        split(drawn_dir, recorder, fold="1/5", train_share=0.5)
    divide(leaking_dir, train=["0001"], val=["0002"])
    with pytest.raises(ValueError, match="leaking: the data has its own split, so fold 1/5"):
        split(leaking_dir, recorder, fold="1/5")


def test_val_is_taken_out_of_train_where_a_set_brings_none(tmp_path, drawn_dir, recorder):
    """DRIVE, FIVES, ROSE: train and test alone. Test stays as it is, for the end."""
    data = tmp_path / "set"
    shutil.copytree(drawn_dir, data)
    names = sorted(path.stem for path in (data / "images").iterdir())
    divide(data, train=names[:7], val=[], test=names[7:])
    found = split(data, recorder, train_share=0.7)
    assert found.test == tuple(names[7:])
    assert sorted(found.train + found.val) == names[:7]
    assert (len(found.train), len(found.val)) == (4, 3)
    folds = [split(data, recorder, fold=f"{k}/3") for k in (1, 2, 3)]
    assert sorted(name for fold in folds for name in fold.val) == names[:7]
    assert all(fold.test == tuple(names[7:]) for fold in folds)
