"""Runs side by side, from files as `finetune` and `evaluate` leave them."""

import json
import re

import pytest
import yaml
from typer.testing import CliRunner

from vasculora.cli.app import app
from vasculora.core.io import read_json
from vasculora.metrics.statistics import interval, paired
from vasculora.recipes.comparing.compare import compare

DICE = [0.60, 0.70, 0.80, 0.65, 0.75, 0.85, 0.55]
GROUPS = ["a", "a", "b", "c", "d", "e", "f"]
SETTINGS = {
    "model": "nano",
    "lora": {"rank": 16, "linears": "attention"},
    "provenance": {
        "command": "vasculora finetune",
        "versions": {"torch": "2.13", "numpy": "2.4"},
        "data_fingerprint": "d8",
    },
}


WORDS = {"case_id": "1", "group": "a", "dice": "good"}


def write(folder, dice=DICE, *, groups=GROUPS, names="123456789", report="report", **told):
    """Write scores; HD95 is not defined in the first case."""
    cases = [
        {
            "case_id": name,
            "group": group,
            "seg_found": True,
            "absent": False,
            "dice": score,
            "hd95": None if number == 0 else 10 * (1 - score),
        }
        for number, (name, group, score) in enumerate(zip(names, groups, dice, strict=False))
    ]
    options = {"tta": "none", "min_size": 0}
    card = {"model": None, "split": "val", "threshold": 0.5, "options": options, "cases": cases}
    (folder / report).mkdir(parents=True)
    (folder / report / "evaluation.json").write_text(json.dumps(card | told))
    return folder


def write_run(folder, dice=DICE, *, train=("x", "y"), settings=SETTINGS, **told):
    write(folder, dice, **told)
    epochs = [{"epoch": number, "val_dice": 0.5 + number / 20} for number in (1, 2, 3)]
    best = {"epoch": 2, "val_dice": 0.6}
    for name, value in {
        "metrics.json": {"baseline": None, "epochs": epochs, "best": best},
        "split.json": {"train": list(train), "val": ["1"], "test": []},
    }.items():
        (folder / name).write_text(json.dumps(value))
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    return folder


def better(by=0.1):
    return [score + by + 0.01 * (number % 3) for number, score in enumerate(DICE)]


def cells(recorder, title):
    return next(rows for found, _, rows in recorder.tables if found.startswith(title))


def test_a_run_against_the_first(tmp_path, recorder):
    one, two = write_run(tmp_path / "one"), write_run(tmp_path / "two", better())
    found = compare([one, two], report=recorder)
    assert found.differences["two"]["dice"] == paired(better(), DICE, GROUPS)
    assert found.intervals["one"]["dice"] == interval(DICE, GROUPS)
    distances = found.differences["two"]["hd95"]
    assert (distances.difference.num_cases, distances.verdict) == (6, "better")
    assert "iou" not in found.differences["two"]  # no case has one
    assert cells(recorder, "Scores on 7 val cases of 6 groups")[0] == (
        "one",
        "0.700 [0.58, 0.81]",
        "2.83",
        "2/3",
    )
    assert cells(recorder, "two against one")[0][2:] == ("7 of 7", "better")
    assert recorder.warnings == []
    assert recorder.notes == ["Their settings are the same."]


def test_what_is_written(tmp_path, recorder):
    runs = [write_run(tmp_path / "one"), write(tmp_path / "two", better()), tmp_path / "out"]
    compare(runs[:2], runs[2], report=recorder)
    written = read_json(tmp_path / "out" / "comparison.json")
    assert [run["best"] for run in written["runs"]] == [{"epoch": 2, "val_dice": 0.6}, None]
    assert written["differences"][0]["paired"]["dice"]["verdict"] == "better"
    assert (tmp_path / "out" / "comparison.png").read_bytes().startswith(b"\x89PNG")
    before = sorted(path.name for path in tmp_path.iterdir())
    compare(runs[:2], report=recorder)
    assert sorted(path.name for path in tmp_path.iterdir()) == before == ["one", "out", "two"]


def test_another_picture_is_never_written_over(tmp_path, recorder):
    runs = [write_run(tmp_path / "one"), write(tmp_path / "two", better())]
    drawn = tmp_path / "comparison.png"
    drawn.write_bytes(b"hours of work")
    with pytest.raises(ValueError, match=r"comparison\.png is there already and is none of"):
        compare(runs, tmp_path, report=recorder)
    assert drawn.read_bytes() == b"hours of work"
    assert recorder.tables == []


def test_settings_that_differ_are_told_and_the_command_is_not(tmp_path, recorder):
    other = {
        "model": "nano",
        "lora": {"rank": 64, "linears": "attention", "new": True},
        "provenance": {
            "command": "vasculora finetune --set lora.rank=64",
            "versions": {"torch": "2.14", "numpy": "2.4"},
            "data_fingerprint": "d8",
        },
    }
    one = write_run(tmp_path / "one")
    two = write_run(tmp_path / "two", settings=other, threshold=0.4)
    three = write(tmp_path / "three", options={"tta": "flips", "min_size": 0})
    compare([one, two, three], report=recorder)
    assert cells(recorder, "What was set otherwise") == [
        ("lora.rank", "16", "64", "-"),
        ("provenance.versions.torch", "2.13", "2.14", "-"),
        ("lora.new", "-", "true", "-"),
        ("scoring.threshold", "0.5", "0.4", "0.5"),
        ("scoring.options.tta", "none", "none", "flips"),
    ]
    assert recorder.notes == ["three: its run's folder is not known, so nor are its settings."]


def test_scores_lead_to_the_run_they_are_of(tmp_path, recorder):
    run = write_run(tmp_path / "run")
    test = write(tmp_path / "scores", better(), report=".", model=str(run), split="test")
    found = compare([run / "report" / "evaluation.json", test], report=recorder)
    assert [one.name for one in found.runs] == ["run", "scores"]
    assert all(one.has_run for one in found.runs)


def test_only_shared_cases_are_compared_and_that_is_said(tmp_path, recorder):
    one = write(tmp_path / "one")
    two = write(tmp_path / "two", better()[1:], groups=GROUPS[1:], names="2345678")
    found = compare([one, two], report=recorder)
    assert list(found.case_ids) == list("234567")
    assert found.intervals["one"]["dice"].mean == pytest.approx(sum(DICE[1:]) / 6)
    said = "(one 7, two 6), so only what all of them share is compared: 6 cases"
    assert said in recorder.warnings[0]


def test_what_spoils_a_comparison_is_said(tmp_path, recorder):
    other = SETTINGS | {"provenance": {"data_fingerprint": "e9"}}
    one = write_run(tmp_path / "one")
    two = write_run(tmp_path / "two", train=["1", "2"], settings=other, groups=list("zabcdef"))
    compare([one, two], report=recorder)
    said = " ".join(recorder.warnings)
    assert "trained on different data" in said
    assert "two was trained on 2 of the 7 compared cases" in said
    assert "two and one group the cases differently" in said
    assert "trained on different cases" in said


def test_a_phrase_s_case_is_its_image_s(tmp_path, recorder):
    names = [f"{image}: vein" for image in "1234567"]
    one, two = (write_run(tmp_path / name, names=names, train=["3"]) for name in "ab")
    compare([one, two], report=recorder)
    assert "a was trained on 1 of the 7" in recorder.warnings[0]


def test_few_groups_give_no_interval_and_no_verdict(tmp_path, recorder):
    one, two = (
        write(tmp_path / name, dice, groups="aabbccd")
        for name, dice in (("a", DICE), ("b", better()))
    )
    compare([one, two], report=recorder)
    assert cells(recorder, "b against a")[0] == (
        "Dice",
        "+0.109",
        "7 of 7",
        "no clear difference",
    )
    assert "fewer than 5 groups" in recorder.warnings[0]


def test_runs_of_one_name_keep_their_paths(tmp_path, recorder):
    one, two = write(tmp_path / "a" / "run"), write(tmp_path / "b" / "run")
    assert [run.name for run in compare([one, two], report=recorder).runs] == [str(one), str(two)]


def bad(tmp_path, name):
    one = write(tmp_path / "one")
    other = {
        "alone": lambda: None,
        "twice": lambda: one / "report",
        "nowhere": lambda: tmp_path / "none",
        "unfinished": lambda: tmp_path,
        "foreign": lambda: write(tmp_path / "two", names="stuvwxyz"),
        "old": lambda: write(tmp_path / "two", cases=[{"case_id": "1", "dice": 0.5}]),
        "double": lambda: write(tmp_path / "two", names="1111111"),
        "words": lambda: write(
            tmp_path / "two", cases=[{"case_id": "1", "group": "a", "dice": "good"}]
        ),
    }[name]()
    return [one] if other is None else [one, other]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("alone", "two runs at least"),
        ("twice", "is given 2 times"),
        ("nowhere", "none: no such folder"),
        ("unfinished", "there is no evaluation.json in it or in its report/.* vasculora evaluate"),
        ("foreign", r"one 7 cases, two 7 cases\), and none is in all of them"),
        ("old", "expected 'cases' with a case_id and a group each"),
        ("double", "the case '1' is there more than once"),
        ("words", "case '1': expected a number for dice, got 'good'"),
    ],
)
def test_bad_input_is_refused_with_the_cure(tmp_path, name, message):
    result = CliRunner().invoke(app, ["compare", *map(str, bad(tmp_path, name))])
    assert result.exit_code == 2, result.output
    assert re.search(message, result.stderr.replace("\n", " "))
    assert "Traceback" not in result.stderr


def test_the_command_shows_and_draws(tmp_path):
    one, two = write_run(tmp_path / "one"), write_run(tmp_path / "two", better())
    result = CliRunner().invoke(app, ["compare", str(one), str(two), "--out", str(tmp_path / "o")])
    assert result.exit_code == 0, result.output
    assert "two against one" in result.stdout
    assert max(map(len, result.stdout.splitlines()[:-1])) <= 80
    assert len(list((tmp_path / "o").iterdir())) == 2
