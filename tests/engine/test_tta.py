import numpy as np
import pytest
from tests.conftest import draw

from vasculora.core.types import Prediction
from vasculora.engine.tta import VIEWS, AveragedPredictor
from vasculora.model.predictor import Predictor

PHRASE = "blood vessel"


class Painter(Predictor):
    """Answers with the greys of the first row, or without [SEG] where its first pixel is white.

    Whatever is asked on the left is half as likely, and everything is 0.9 at a zoom.
    """

    def predict_batch(self, case_ids, images, phrases, *, zoom=1.0):
        found = []
        for image, phrase in zip(images, phrases, strict=True):
            seg_found = bool(image[0, 0, 0] < 255)
            prob = (image[..., 0] / 255 * seg_found).astype(np.float32)
            prob[1:] = 0
            prob = prob / 2 if "left" in phrase else prob
            prob = prob if zoom == 1 else np.full_like(prob, 0.9)
            found.append(Prediction(text=phrase, seg_found=seg_found, prob=prob, mask=prob > 0.5))
        return found


@pytest.fixture
def painter(opened):
    return Painter.of(opened)


def ask(predictor, tta, image, phrase=PHRASE):
    return AveragedPredictor(predictor, tta).predict_batch(["case"], [image], [phrase])[0]


def grey(rows):
    return np.repeat(np.array(rows, np.uint8)[..., None], 3, axis=2)


def logit(prob):
    return np.log(prob / (1 - prob))


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits))


def test_a_mirrored_image_has_the_mirrored_mean(opened):
    predictor = Predictor.of(opened)
    image = draw("xray", 0).image[:50]
    plain = predictor(image, PHRASE).prob
    prob = ask(predictor, "flips", image).prob
    assert prob.dtype == np.float32
    assert np.abs(prob - plain).max() > 1e-3
    for axis in (0, 1, (0, 1)):
        turned = np.ascontiguousarray(np.flip(image, axis))
        np.testing.assert_allclose(
            ask(predictor, "flips", turned).prob, np.flip(prob, axis), atol=1e-6
        )
        assert np.abs(predictor(turned, PHRASE).prob - np.flip(plain, axis)).max() > 1e-3


def test_scales_are_the_mean_of_their_logits(opened):
    predictor = Predictor.of(opened)
    image = draw("xray", 0).image[:50]
    probs = [
        predictor.predict_batch(["case"], [image], [PHRASE], zoom=zoom)[0].prob
        for zoom in (1, 1.25, 0.8)
    ]
    found = ask(predictor, "scales", image)
    expected = sigmoid(np.mean([logit(prob.astype(float)) for prob in probs], axis=0))
    np.testing.assert_allclose(found.prob, expected, atol=1e-6)
    np.testing.assert_array_equal(found.mask, found.prob > 0.5)
    assert found.text == predictor(image, PHRASE).text


def test_a_certain_view_does_not_outvote_the_others(painter):
    # upside down, the lower pixel is seen; not seen is 0, which counts as a millionth
    found = ask(painter, "flips", grey([[102], [204]]))
    expected = [[sigmoid((logit(p) + logit(1e-6)) / 2)] for p in (0.4, 0.8)]
    np.testing.assert_allclose(found.prob, expected, rtol=1e-4)


def test_a_view_without_seg_does_not_vote(painter):
    # mirrored left-right, the first pixel is white
    found = ask(painter, "flips", grey([[102, 255]]))
    np.testing.assert_allclose(found.prob, [[0.4, 1]], atol=2e-6)


def test_the_plain_view_decides_whether_there_is_a_mask(painter):
    found = ask(painter, "all", grey([[255, 0], [51, 51]]))
    assert not found.seg_found
    assert not found.prob.any()
    assert not found.mask.any()


def test_phrases_follow_a_flip_or_forbid_it(painter):
    image = grey([[102, 102]])
    assert ask(painter, "flips", image).prob == pytest.approx(0.4)
    # two of four views are mirrored, and asked for the right
    place = ask(painter, "flips", image, "the vessel on the left")
    assert place.text == "the vessel on the left"
    np.testing.assert_allclose(place.prob, sigmoid((logit(0.2) + logit(0.4)) / 2), rtol=1e-5)
    body = "left coronary artery"
    assert ask(painter, "flips", image, body).prob == pytest.approx(0.2)
    # scales mirror nothing
    expected = sigmoid((logit(0.2) + 2 * logit(0.9)) / 3)
    np.testing.assert_allclose(ask(painter, "all", image, body).prob, expected, rtol=1e-5)


def test_cases_of_a_batch_do_not_mix(painter):
    images = [grey([[51, 0]]), grey([[255, 0]]), grey([[102, 0], [0, 51]])]
    phrases = [PHRASE, PHRASE, "left coronary artery"]
    averaged = AveragedPredictor(painter, "all")
    together = averaged.predict_batch(["a", "b", "c"], images, phrases)
    for image, phrase, prediction in zip(images, phrases, together, strict=True):
        np.testing.assert_array_equal(prediction.prob, ask(painter, "all", image, phrase).prob)


def test_what_each_choice_asks():
    assert {tta: len(views) for tta, views in VIEWS.items()} == {
        "none": 0,
        "flips": 3,
        "scales": 2,
        "all": 5,
    }
