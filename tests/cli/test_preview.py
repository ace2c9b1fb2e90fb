"""`data preview` as a user types it, and words of another script from file to file."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from vasculora.cli.app import app
from vasculora.core.io import read_image, read_json, write_image

PHRASES = ["左侧血管", "冠状动脉"]


def call(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def chinese(tmp_path):
    """A manifest of one picture with two phrases in Chinese, under a Chinese name."""
    folder = tmp_path / "数据"
    picture = np.full((48, 48, 3), 120, np.uint8)
    picture[10:14] = 60
    write_image(folder / "造影.png", picture)
    lines = [
        {"image": "造影.png", "phrase": PHRASES[0], "mask": [[0, 10, 48, 10, 48, 14, 0, 14]]},
        {"image": "造影.png", "phrase": PHRASES[1], "mask": [[0, 30, 48, 30, 48, 34, 0, 34]]},
    ]
    text = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    (folder / "集.jsonl").write_text(text + "\n", encoding="utf-8")
    return folder / "集.jsonl"


def test_a_page_is_written(tmp_path, drawn_dir):
    out = tmp_path / "look.png"
    result = call("data", "preview", drawn_dir, "--out", out, "--num", 3, "--augment", "light")
    assert result.exit_code == 0, result.output
    assert "3 samples as augment 'light' shows them" in result.output
    assert read_image(out).shape[1] > 3 * 400


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--augment", "hard"), "augment"),
        (("--num", "0"), "num"),
        (("--modality", "ct"), "modality"),
    ],
)
def test_a_wrong_setting_ends_with_one_message(tmp_path, drawn_dir, words, problem):
    result = call("data", "preview", drawn_dir, "--out", tmp_path / "look.png", *words)
    assert result.exit_code == 2
    assert problem in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "look.png").exists()


def test_chinese_phrases_go_from_manifest_to_scores_unharmed(tmp_path, tiny_base, chinese):
    copy = tmp_path / "copy.jsonl"
    result = call("data", "import", chinese, "--out", copy)
    assert result.exit_code == 0, result.output
    assert [json.loads(line)["phrase"] for line in copy.read_text("utf-8").splitlines()] == PHRASES
    result = call("evaluate", tiny_base, "--data", copy, "--out", tmp_path / "scores")
    assert result.exit_code == 0, result.output
    scores = tmp_path / "scores" / "evaluation.json"
    names = [case["case_id"] for case in read_json(scores)["cases"]]
    assert [name.rpartition(": ")[2] for name in names] == PHRASES
    assert all(phrase in scores.read_text("utf-8") for phrase in PHRASES)


def test_a_chinese_phrase_is_asked_and_its_pictures_keep_their_names(tmp_path, tiny_base, chinese):
    image, out = chinese.parent / "造影.png", tmp_path / "found"
    result = call("predict", tiny_base, image, "--out", out, "--phrase", PHRASES[0])
    assert result.exit_code == 0, result.output
    assert all("造影" in path.name for path in out.glob("*.png"))
    assert list(out.glob("*.png"))
