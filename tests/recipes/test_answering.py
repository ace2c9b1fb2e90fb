import numpy as np
import pytest
from tests.conftest import draw

from vasculora.core.config import load_config
from vasculora.engine.tta import AveragedPredictor
from vasculora.model.postprocess import clean
from vasculora.model.predictor import Answerer, Predictor
from vasculora.recipes.answering import build_answerer, refuse_idle_views
from vasculora.recipes.config import AnswerConfig


@pytest.fixture
def predictor(opened):
    """A predictor whose masks have many pieces: its threshold is a median."""
    prob = Predictor.of(opened)(draw("xray", 0).image).prob
    config = opened.processor.config.model_copy(update={"threshold": float(np.median(prob))})
    return Predictor.of(opened.with_settings(processor=config, prompt=opened.memory.prompt))


def built(predictor, **settings):
    return build_answerer(predictor, **AnswerConfig(**settings).model_dump())


def test_by_default_nothing_is_between(predictor):
    assert built(predictor) is predictor
    assert isinstance(predictor, Answerer)
    assert isinstance(built(predictor, tta="flips"), AveragedPredictor)


def test_masks_are_cleaned_after_views_are_averaged(predictor):
    asked = ["case"], [draw("xray", 0).image], ["blood vessel"]
    threshold = predictor.processor.config.threshold
    low = threshold * 0.99
    (averaged,) = AveragedPredictor(predictor, "flips").predict_batch(*asked)
    expected = clean(averaged, threshold=threshold, min_size=20, hysteresis=low)
    assert (expected.mask != averaged.mask).any()
    answerer = built(predictor, tta="flips", min_size=20, hysteresis=low)
    assert isinstance(answerer, Answerer)
    (found,) = answerer.predict_batch(*asked)
    np.testing.assert_array_equal(found.mask, expected.mask)
    np.testing.assert_array_equal(found.prob, averaged.prob)


def test_settings_that_do_nothing_are_refused(predictor):
    with pytest.raises(ValueError, match="below the threshold, which is"):
        built(predictor, hysteresis=0.999)
    refuse_idle_views("none", ["left coronary artery"])
    refuse_idle_views("all", ["left coronary artery"])
    refuse_idle_views("flips", ["left coronary artery", "catheter"])
    with pytest.raises(ValueError, match="'left coronary artery' names a part of a body"):
        refuse_idle_views("flips", ["left coronary artery", "right coronary artery"])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("tta=flip", r"tta: expected 'none', 'flips', 'scales' or 'all', got 'flip' \(str\)"),
        ("min_size=1", "min_size: 1 removes nothing"),
        ("min_size=-2", "min_size: expected greater than or equal to 0, got -2"),
        ("min_size=2.5", "min_size: expected a valid integer, got 2.5"),
        ("hysteresis=0", "hysteresis: expected greater than 0"),
        ("hysteresis=1", "hysteresis: expected less than 1"),
        ("hysteresis=.nan", "hysteresis: expected less than 1, got nan"),
    ],
)
def test_malformed_settings_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        load_config(AnswerConfig, overrides=[setting])
