"""Views, specks and faint ends, as flags of the program."""

import numpy as np
import pytest
from PIL import Image
from tests.cli.telling import call

from vasculora.model.predictor import Predictor
from vasculora.recipes.answering import build_answerer


@pytest.fixture
def image_path(drawn_dir):
    return sorted((drawn_dir / "images").iterdir())[0]


def test_flags_reach_the_mask(tiny_base, image_path, tmp_path):
    flags = ("--tta", "flips", "--min-size", 8, "--hysteresis", 0.2, "--out", tmp_path)
    code, told = call("predict", tiny_base, image_path, *flags)
    assert code == 0, told
    answerer = build_answerer(
        Predictor.from_pretrained(tiny_base, gpu=None), tta="flips", min_size=8, hysteresis=0.2
    )
    image = np.asarray(Image.open(image_path).convert("RGB"))
    (expected,) = answerer.predict_batch(["case"], [image], ["blood vessel"])
    prob, mask = (
        np.asarray(Image.open(tmp_path / f"{image_path.stem}_{what}.png"))
        for what in ("prob", "mask")
    )
    np.testing.assert_array_equal(prob, (expected.prob * 255).round().astype(np.uint8))
    np.testing.assert_array_equal(mask > 0, expected.mask)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--tta", "sideways"), "answer.tta: expected 'none', 'flips', 'scales' or 'all'"),
        (("--min-size", 1), "answer.min_size: 1 removes nothing"),
        (("--min-size", -1), "answer.min_size: expected greater than or equal to 0"),
        (("--hysteresis", 1.5), "answer.hysteresis: expected less than 1"),
        (("--hysteresis", 0.5), "hysteresis 0.5 must be below the threshold, which is 0.5"),
        (("--tta", "flips", "--phrase", "RCA"), "'RCA' names a part of a body"),
    ],
)
def test_what_cannot_be_is_refused(tiny_base, image_path, tmp_path, flags, message):
    out = tmp_path / "out"
    code, told = call("predict", tiny_base, image_path, "--out", out, *flags)
    assert code == 2, told
    assert message in told
    assert not out.exists()
