import pytest
from tests.conftest import TINY

from vasculora.core.io import read_json
from vasculora.data.synthetic.probes import PROBES
from vasculora.data.synthetic.styles import STYLES
from vasculora.model.predictor import Predictor
from vasculora.model.pretrained import open_model
from vasculora.recipes.pretrain import PretrainConfig, pretrain

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
        "model.safetensors",
        "scores.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vasculora.json",
    }
    prediction = Predictor.from_pretrained(out)(drawn_dir / "images" / "0000.png", "blood vessel")
    assert prediction.prob.shape == (64, 64)
    assert open_model(out).memory.prompt == MINUTE.prompt


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


def test_a_base_is_not_written_over(base, recorder):
    with pytest.raises(ValueError, match=r"is not empty\. Choose another --out"):
        pretrain(MINUTE, base[0], report=recorder)
