import numpy as np
import pytest
import torch
from PIL import Image
from tests.conftest import draw

from vasculora.model.predictor import Predictor, to_rgb


@pytest.fixture
def predictor(opened):
    return Predictor.of(opened)


def test_a_prediction_has_the_pictures_own_size(predictor):
    image = draw("xray", 0).image[:50]
    prediction = predictor(image, "blood vessel")
    assert prediction.seg_found
    assert prediction.text == "Sure, it is [SEG].<|im_end|>"
    assert prediction.prob.shape == prediction.mask.shape == (50, 64)
    assert prediction.prob.dtype == np.float32
    assert prediction.mask.dtype == bool
    assert prediction.prob.min() >= 0
    assert prediction.prob.max() <= 1
    np.testing.assert_array_equal(prediction.mask, prediction.prob > 0.5)


def test_every_kind_of_picture_is_the_same_picture(predictor, tmp_path):
    image = draw("xray", 0).image
    path = tmp_path / "image.png"
    Image.fromarray(image).save(path)
    probs = [
        predictor(picture, "blood vessel").prob
        for picture in (image, path, str(path), Image.fromarray(image))
    ]
    assert all(np.array_equal(probs[0], prob) for prob in probs[1:])


def test_the_phrase_matters_and_has_a_default(predictor):
    image = draw("xray", 0).image
    default, same, other = (
        predictor(image, phrase).prob for phrase in (None, "blood vessel", "background")
    )
    np.testing.assert_array_equal(default, same)
    assert np.abs(same - other).max() > 1e-3


def test_together_is_one_by_one(predictor):
    cases = [draw("xray", 0), draw("octa", 1, size=48), draw("fundus", 2, size=57)]
    phrases = ["blood vessel", "a longer name of a vessel", "background"]
    together = predictor.predict_batch(
        [case.case_id for case in cases], [case.image for case in cases], phrases
    )
    for case, phrase, prediction in zip(cases, phrases, together, strict=True):
        alone = predictor(case.image, phrase)
        assert alone.text == prediction.text
        np.testing.assert_allclose(alone.prob, prediction.prob, atol=1e-5)


def test_a_given_answer_is_read_as_the_same_answer_is_when_given_freely(predictor):
    """Where the words are the same the masks are: evaluation then asks once."""
    for asked in (predictor, Predictor.from_pretrained("nano")):
        cases = [draw("xray", 0), draw("fundus", 2, size=57)]
        batch = [[c.case_id for c in cases], [c.image for c in cases], ["blood vessel", "fovea"]]
        forced = asked.teacher_forced(*batch)
        for prediction, free in zip(forced, asked.predict_batch(*batch), strict=True):
            assert asked.answers_as_trained(free)
            assert (prediction.text, prediction.seg_found) == (free.text, True)
            np.testing.assert_allclose(prediction.prob, free.prob, atol=1e-5)
            np.testing.assert_array_equal(prediction.mask, prediction.prob > 0.5)


def test_a_given_answer_is_the_trained_one_whatever_the_model_says(opened, predictor):
    image = draw("xray", 0).image
    prompt = opened.memory.prompt.model_copy(update={"answer": "It is [SEG], I think."})
    other = Predictor.of(opened.with_settings(processor=opened.memory.processor, prompt=prompt))
    free = other(image)
    assert free.text == "Sure, it is [SEG].<|im_end|>"
    assert not other.answers_as_trained(free)
    (forced,) = other.teacher_forced(["case"], [image], ["blood vessel"])
    assert forced.text == "It is [SEG], I think.<|im_end|>"
    assert other.answers_as_trained(forced)
    assert np.abs(forced.prob - free.prob).max() > 1e-4


def test_predicting_leaves_the_training_mode(predictor):
    predictor.model.train()
    before = predictor(draw("xray", 0).image).prob
    assert predictor.model.training
    predictor.model.eval()
    np.testing.assert_array_equal(predictor(draw("xray", 0).image).prob, before)
    assert not predictor.model.training


def test_training_goes_on_after_predicting(predictor, opened):
    """Nothing that inference mode made may stay in the model and break a later graph."""
    predictor(draw("xray", 0).image)
    output = opened.model(opened.processor.batch([draw("xray", 0)]))
    output.mask_logits.mean().backward()
    assert opened.model.seg_projector[0].weight.grad.abs().max() > 0


def test_a_model_is_opened_by_name(tiny_base, predictor):
    image = draw("xray", 0).image
    again = Predictor.from_pretrained(tiny_base)
    if not torch.cuda.is_available():  # noqa: TID251
        np.testing.assert_array_equal(again(image).prob, predictor(image).prob)
    assert again(image).mask.shape == (64, 64)


def test_grey_arrays_become_rgb():
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert np.array_equal(to_rgb(grey), np.stack([grey] * 3, axis=2))
    assert to_rgb(Image.fromarray(grey).convert("P")).shape == (2, 3, 3)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.float32),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
        np.zeros((4,), np.uint8),
    ],
)
def test_other_arrays_are_refused(image):
    with pytest.raises(ValueError, match=r"expected an image of dtype uint8 and shape \(h, w\)"):
        to_rgb(image)


def test_a_missing_picture_is_named(predictor, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.png"):
        predictor(tmp_path / "gone.png")
