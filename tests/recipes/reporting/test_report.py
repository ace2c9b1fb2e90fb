import re

import numpy as np
import pytest

from vasculora.core.io import write_json, write_text
from vasculora.recipes.reporting.report import GalleryCase, read_run_facts, write_report
from vasculora.recipes.reporting.tables import cases_table, groups_table, metrics_table, tiles

EVIL = "<script>alert({})</script>"
AUDIT = {
    "ok": True,
    "verdict": "Everything that should learn does.",
    "num_parameters": 1000,
    "num_touched": 900,
    "groups": [
        {"name": "mllm_lora", "num_parameters": 1000, "num_touched": 900, "state": "partial"}
        | {"grad_norm": 0.5}
    ],
    "cuts": [{"kind": "detached", "explanation": "Cut & gone.", "cure": "Sew."}],
}
DATA = {
    "num_images": 40,
    "num_groups": 20,
    "parts": {"val": {"num_images": 32, "num_groups": 16}},
    "sizes": ["512 x 512 (40)"],
    "vessel_share": [0.01, 0.08, 0.2],
    "num_looked": 40,
    "ceiling": {"dice": 0.951, "cldice": 0.97, "rule": "soft", "num_masks": 8},
}


@pytest.fixture
def run_dir(tmp_path):
    run = tmp_path / "run"
    row = {"epoch": 1, "train_loss": 1.0, "train_dice": 0.6, "val_dice": 0.7, "val_recall": 0.5}
    write_json(
        run / "metrics.json", {"baseline": {"dice": 0.4}, "epochs": [row, row | {"epoch": 2}]}
    )
    write_json(run / "audit.json", AUDIT)
    write_json(run / "split.json", {"train": ["a", "b"], "val": ["c"], "test": []})
    write_text(run / "config.yaml", "seed: 7 # <b>\nprovenance:\n  command: vasculora finetune\n")
    return run


def gallery(num, side=24):
    rng = np.random.default_rng(0)
    return [
        GalleryCase(
            case_id=EVIL.format(n),
            group="g",
            rank=("worst", "best", "median")[n % 3],
            dice=n / 100,
            image=rng.integers(0, 256, (side, side, 3), dtype=np.uint8),
            mask=rng.random((side, side)) > 0.8,
            pred=rng.random((side, side)) > 0.8,
        )
        for n in range(num)
    ]


def test_the_page_holds_everything_it_shows_and_escapes_it(make_card, run_dir, tmp_path):
    card = make_card(case_id=EVIL)
    path = write_report(
        tmp_path / "out", card, gallery(3), run=read_run_facts(run_dir), command="a <&>", data=DATA
    )
    page = path.read_text()
    assert path.name == "report.html"
    assert page.count("<script>") == 1
    assert "&lt;script&gt;alert(31)&lt;/script&gt;" in page
    assert "a &lt;&amp;&gt;" in page
    assert "seed: 7 # &lt;b&gt;" in page
    assert not re.findall(r'(?:src|href)="(?!#|data:)', page)
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page
    heads = ["Measures", "Curves", "Pictures", "Case by case", "Gradient audit", "Data"]
    places = [page.index(f"<h2>{head}") for head in [*heads, "What was done", "Limits"]]
    assert places == sorted(places)
    for said in (
        "Dice 0.951",
        "train 2, val 1",
        "vasculora finetune",
        "900 (90%)",
        "Cut &amp; gone.",
    ):
        assert said in page, said
    shelves = re.findall(r"<h3>(Best|Median|Worst)</h3>", page)
    assert shelves == ["Best", "Median", "Worst"]


def test_a_page_of_bare_masks_leaves_out_what_there_is_not(make_card, tmp_path):
    card = make_card(
        model=None,
        against="masks:_2",
        threshold=None,
        split="all",
        seg_rate=None,
        at_half=None,
        teacher_forced=None,
        sweep=None,
        reliability=None,
    )
    page = write_report(tmp_path, card, [], run=None, command="x", data=None).read_text()
    assert "The masks of masks:_2 reach" in page
    for head in ("Pictures", "Gradient audit", "<h2>Data", "Learning", "Calibration", "[SEG]"):
        assert head not in page, head


def test_no_run_has_no_facts(tmp_path):
    assert read_run_facts(tmp_path) is None


def test_the_worst_are_listed_first(make_card):
    card = make_card()
    groups = groups_table(card)
    assert [name for name, _, _ in groups.rows] == [f"g{n}" for n in range(16)]
    assert [cell.text for cell in groups.rows[3][2]][:2] == ["2", "0.030"]
    cases = cases_table(make_card(cases=card["cases"][::-1]))
    assert cases.rows[0][:2] == ("case 0", "group g0")
    assert groups_table(make_card(num_cases=16)) is None  # each case a group of its own


def test_every_metric_stands_in_one_row_with_all_ways_of_asking(make_card):
    difference = {"mean": -2.5, "low": -3.0, "high": -2.0, "num_cases": 31, "num_groups": 16}
    other = {
        "name": "nano",
        "kind": "baseline",
        "threshold": 0.5,
        "mean": {"hd95": 15.0},
        "interval": {},
        "paired": {"hd95": {"difference": difference, "verdict": "better"}},
    }
    table = metrics_table(make_card(comparisons=[other]))
    assert [head for head, _ in table.columns] == [
        *("this model", "this model", "trained answer given", "nano", "difference")
    ]
    rows = {name: (detail, cells) for name, detail, cells in table.rows}
    assert "HD95 (mm)" not in rows  # nowhere known
    detail, cells = rows["HD95 (px)"]
    assert detail == "lower is better, 31 cases"
    assert [cell.text for cell in cells] == ["12.3", "–", "–", "15.0", "−2.5"]  # noqa: RUF001
    assert cells[-1].detail == "[−3.0, −2.0] better"  # noqa: RUF001
    assert cells[-1].mood == "better"


def test_a_rate_is_not_rounded_to_a_whole_it_is_not(make_card):
    values = {tile.label: tile.value for tile in tiles(make_card(seg_rate=0.9961))}
    assert values["[SEG] rate"] == "99.6%"
    assert {tile.value for tile in tiles(make_card())} >= {"100%"}
