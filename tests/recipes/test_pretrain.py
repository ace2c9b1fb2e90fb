import shutil

import pytest
from tests.conftest import TINY

from vasculora.core.io import read_json
from vasculora.data.synthetic.probes import PROBES
from vasculora.data.synthetic.styles import STYLES
from vasculora.model.predictor import Predictor
from vasculora.model.pretrained import defaults_path, open_model
from vasculora.recipes.pretrain import PretrainConfig, pretrain

pytestmark = pytest.mark.slow

SCORES = {*STYLES, *PROBES, "prompt_sensitivity"}
MINUTE = PretrainConfig(
    architecture=TINY,
    word_steps=3,
    steps=4,
    place_steps=2,
    report_every=2,
    batch_size=2,
    num_scored=1,
)


@pytest.fixture(scope="module")
def base(tmp_path_factory, new_recorder):
    out, report = tmp_path_factory.mktemp("bases") / "minute", new_recorder()
    return out, report, pretrain(MINUTE, out, report=report)


def test_it_makes_a_base(base, drawn_dir):
    out, _, _ = base
    assert {path.name for path in out.iterdir()} == {
        "card.md",
        "config.json",
        "finetune.yaml",
        "model.safetensors",
        "scores.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vasculora.json",
    }
    prediction = Predictor.from_pretrained(out)(drawn_dir / "images" / "0000.png", "blood vessel")
    assert prediction.prob.shape == (64, 64)
    assert open_model(out).memory.prompt == MINUTE.prompt
    assert defaults_path(out).read_text() == defaults_path("nano").read_text()


def test_the_card_tells_its_scores(base):
    out, report, scores = base
    assert set(scores) == SCORES
    assert read_json(out / "scores.json") == scores
    assert all(0 <= score <= 1 for score in scores.values())
    card = (out / "card.md").read_text()
    for name, score in scores.items():
        assert f"| {name} | {score:.3f} |" in card
    assert "4 steps, 8 drawn images" in card
    assert "  sam_size: 64" in card
    steps = [line.split(" -")[0] for line in report.lines]
    assert steps == ["Words", "Step 2/4", "Step 4/4"]
    assert report.counts["Pretraining"] == (8, 8)


def test_masks_leave_the_words_alone(base, tmp_path, recorder):
    shorter = MINUTE.model_copy(update={"steps": 2})
    pretrain(shorter, tmp_path / "shorter", report=recorder)
    before, after = (open_model(out).model.state_dict() for out in (tmp_path / "shorter", base[0]))
    moved = {name.split(".")[0] for name in before if not before[name].equal(after[name])}
    assert moved == {"seg_projector", "grounding"}


def test_left_and_right_come_before_all_else(tmp_path, new_recorder):
    losses = []
    for shapes_share in (0.0, 1.0):
        report, out = new_recorder(), tmp_path / f"{shapes_share}"
        shares = {"places_share": 0.0, "shapes_share": shapes_share}
        pretrain(MINUTE.model_copy(update=shares), out, report=report)
        told = [line for line in report.lines if line.startswith("Step")]
        losses.append([float(line.split("Loss: ")[1].split(",")[0]) for line in told])
    vessels, shapes = losses
    # the words before them have seen other pictures, which hardly matters: 0.1 apart without it
    assert vessels[0] == pytest.approx(shapes[0], abs=0.01)
    assert abs(vessels[1] - shapes[1]) > 0.015


def go_on(base, **settings):
    brief = {"steps": 2, "place_steps": 0, "report_every": 2, "batch_size": 2, "num_scored": 1}
    return PretrainConfig(base=str(base), **(brief | settings))


def test_a_base_goes_on_from_another(base, tmp_path, new_recorder):
    earlier, later, report = base[0], tmp_path / "later", new_recorder()
    pretrain(go_on(earlier, seed=1, optim={"lr": 1e-9}), later, report=report)
    one, other = (open_model(out) for out in (earlier, later))
    assert one.memory == other.memory
    weights = other.model.state_dict()
    for name, weight in one.model.state_dict().items():
        # steps of 1e-9 are lost in the 16 bits of the file: what it began from shows
        assert weights[name].allclose(weight, atol=1e-6), name
    assert [line.split(" -")[0] for line in report.lines] == ["Step 2/2"]


def test_going_on_teaches_masks_and_keeps_words(base, tmp_path, recorder):
    pretrain(go_on(base[0], seed=1), tmp_path / "later", report=recorder)
    before, after = (open_model(out).model.state_dict() for out in (base[0], tmp_path / "later"))
    moved = {name.split(".")[0] for name in before if not before[name].equal(after[name])}
    assert moved == {"seg_projector", "grounding"}


def test_the_card_tells_what_it_went_on_from(base, tmp_path, recorder):
    later, latest = tmp_path / "later", tmp_path / "latest"
    pretrain(go_on(base[0]), later, report=recorder)
    pretrain(go_on(later), latest, report=recorder)
    card = (latest / "card.md").read_text()
    assert "an earlier base, told of below: 2 steps, 4 drawn images" in card
    assert "\nbase: later\n" in card
    assert str(tmp_path) not in card
    assert card.count("# What it went on from") == 2
    assert card.index("base: later") < card.index("base: minute") < card.index("  sam_size: 64")
    assert card.count("architecture:") == 1


@pytest.mark.parametrize("settings", [{"architecture": TINY}, {"word_steps": 3}])
def test_what_a_base_decides_is_not_set_again(base, settings):
    with pytest.raises(ValueError, match=rf"{next(iter(settings))}: the base to go on from"):
        go_on(base[0], **settings)


def test_only_a_base_of_drawings_goes_on(tmp_path, base, recorder):
    other = tmp_path / "other"
    shutil.copytree(base[0], other, ignore=shutil.ignore_patterns("card.md"))
    with pytest.raises(FileNotFoundError, match=r"has no card\.md: pretraining goes on from bases"):
        pretrain(go_on(other), tmp_path / "later", report=recorder)


def test_a_base_is_not_written_over(base, recorder):
    with pytest.raises(ValueError, match=r"is not empty\. Choose another --out"):
        pretrain(MINUTE, base[0], report=recorder)
