from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.conftest import draw

from vasculora.core.types import Prediction
from vasculora.model.official.predict_forward import predict_forward
from vasculora.model.predictor import Predictor
from vasculora.model.tiles import blend, cut_windows, widen


def predicted(prob, *, text="[SEG]", seg_found=True):
    prob = np.asarray(prob, dtype=np.float32)
    return Prediction(text=text, seg_found=seg_found, prob=prob, mask=prob > 0.5)


def of_windows(opened, window, overlap=0.25):
    """Return a predictor that sees windows."""
    config = opened.memory.processor.model_copy(
        update={"window": window, "window_overlap": overlap}
    )
    return Predictor.of(opened.with_settings(processor=config, prompt=opened.memory.prompt))


def corners(size, **settings):
    return [(rows.start, columns.start) for rows, columns in cut_windows(size, **settings)]


@pytest.mark.parametrize("size", [(100, 100), (101, 37), (33, 640), (32, 32), (7, 9), (1, 200)])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.75])
def test_every_pixel_is_in_a_window_and_no_window_leaves_the_image(size, overlap):
    seen = np.zeros(size, dtype=int)
    for window in cut_windows(size, window=32, overlap=overlap):
        assert seen[window].shape == (min(32, size[0]), min(32, size[1]))
        seen[window] += 1
    assert seen.min() >= 1


def test_windows_overlap_by_the_share_asked_for_and_no_more_than_needed():
    # 100 - 32 = 68 pixels to go, at most 24 a step: three steps, evenly
    assert corners((32, 100), window=32, overlap=0.25) == [(0, 0), (0, 23), (0, 45), (0, 68)]
    # 64 in one step of 32 fits exactly where no overlap is asked for
    assert corners((64, 64), window=32, overlap=0.0) == [(0, 0), (0, 32), (32, 0), (32, 32)]
    assert corners((999, 960), window=None, overlap=0.25) == [(0, 0)]


def test_an_even_map_stays_even():
    size = (50, 70)
    windows = cut_windows(size, window=32, overlap=0.25)
    mixed = blend(size, windows, [predicted(np.full((32, 32), 0.3))] * len(windows), threshold=0.25)
    np.testing.assert_allclose(mixed.prob, 0.3, atol=1e-6)
    assert mixed.mask.all()
    assert mixed.prob.dtype == np.float32


def test_windows_that_agree_give_the_whole():
    whole = np.random.default_rng(0).random((50, 70), dtype=np.float32)
    windows = cut_windows(whole.shape, window=32, overlap=0.5)
    mixed = blend(whole.shape, windows, [predicted(whole[w]) for w in windows], threshold=0.5)
    np.testing.assert_allclose(mixed.prob, whole, atol=1e-6)


def test_neighbours_are_weighed_by_their_bells():
    windows = [(slice(0, 1), slice(0, 8)), (slice(0, 1), slice(4, 12))]
    parts = [predicted(np.ones((1, 8))), predicted(np.zeros((1, 8)))]
    prob = blend((1, 12), windows, parts, threshold=0.5).prob[0]
    assert (prob[:4] == 1).all()
    assert (prob[8:] == 0).all()
    # column 4 is 0.5 from the one's centre and 3.5 from the other's; an eighth of 8 pixels is 1
    one, other = np.exp(-0.5 * 0.5**2), np.exp(-0.5 * 3.5**2)
    np.testing.assert_allclose(prob[4], one / (one + other), rtol=1e-5)
    np.testing.assert_allclose(prob[4:8] + prob[7:3:-1], 1, atol=1e-6)
    assert (np.diff(prob[3:9]) <= 0).all()


def test_a_window_without_seg_is_empty_and_every_different_answer_is_told():
    windows = [(slice(0, 1), slice(0, 4)), (slice(0, 1), slice(4, 8))]
    dumb = predicted(np.zeros((1, 4)), text="No.", seg_found=False)
    mixed = blend((1, 8), windows, [dumb, predicted(np.ones((1, 4)))], threshold=0.5)
    assert (mixed.text, mixed.seg_found) == ("No.\n[SEG]", True)
    np.testing.assert_array_equal(mixed.prob, [[0] * 4 + [1] * 4])
    mixed = blend((1, 8), windows, [dumb, dumb], threshold=0.5)
    assert (mixed.text, mixed.seg_found) == ("No.", False)
    assert not mixed.mask.any()


def test_images_no_larger_than_a_window_are_predicted_as_without(opened):
    cases = [draw("xray", 0), draw("octa", 1, size=48), draw("fundus", 2, size=57)]
    asked = [[c.case_id for c in cases], [c.image for c in cases], ["blood vessel"] * 3]
    without = Predictor.of(opened).predict_batch(*asked)
    for window in (64, 500):
        for one, other in zip(
            without, of_windows(opened, window).predict_batch(*asked), strict=True
        ):
            np.testing.assert_array_equal(one.prob, other.prob)
            assert one.text == other.text


def test_a_large_image_is_the_blend_of_its_windows(opened):
    image = draw("xray", 0, size=128).image[:100]
    predictor = of_windows(opened, 64)
    windows = cut_windows((100, 128), window=64, overlap=0.25)
    assert len(windows) == 2 * 3
    parts = [Predictor.of(opened)(image[window], "blood vessel") for window in windows]
    expected = blend((100, 128), windows, parts, threshold=0.5)
    found, small = predictor.predict_batch(
        ["large", "small"], [image, image[:40, :50]], ["blood vessel"] * 2
    )
    assert found.seg_found
    np.testing.assert_allclose(found.prob, expected.prob, atol=1e-5)
    whole = Predictor.of(opened)(image, "blood vessel")
    assert np.abs(found.prob - whole.prob).max() > 1e-3
    own = Predictor.of(opened)(image[:40, :50], "blood vessel")
    np.testing.assert_allclose(small.prob, own.prob, atol=1e-5)


def test_a_given_answer_is_read_window_by_window(opened):
    image = draw("xray", 0, size=128).image[:100]
    predictor = of_windows(opened, 64)
    (free,) = predictor.predict_batch(["case"], [image], ["blood vessel"])
    (forced,) = predictor.teacher_forced(["case"], [image], ["blood vessel"])
    assert predictor.answers_as_trained(free)
    np.testing.assert_allclose(forced.prob, free.prob, atol=1e-5)
    # one window that says more is enough
    assert not predictor.answers_as_trained(replace(free, text=f"{free.text}\nNo."))


def test_a_zoom_shows_less_or_more_at_once():
    size = (100, 80)
    whole = {"window": None, "overlap": 0.25}
    # 1/1.25 of 100 is 80 and of 80 is 64: two windows each way
    assert corners(size, zoom=1.25, **whole) == [(0, 0), (0, 16), (20, 0), (20, 16)]
    assert cut_windows(size, zoom=1.25, **whole)[-1] == (slice(20, 100), slice(16, 80))
    assert cut_windows(size, zoom=0.8, **whole) == [(slice(0, 125), slice(0, 100))]
    # windows of 64 become 80: all 100 rows in two of them, and 70 rows are too few for one
    assert corners((100, 80), window=64, overlap=0.25, zoom=0.8) == [(0, 0), (20, 0)]
    assert cut_windows((70, 80), window=64, overlap=0.25, zoom=0.8) == [
        (slice(0, 80), slice(0, 80))
    ]


def test_what_is_shown_beyond_an_image_is_its_mirror_image_and_cut_off_again():
    row = np.array([[10, 20, 30, 40]], np.uint8)
    image = np.repeat(row[..., None], 3, axis=2)
    windows = [(slice(0, 1), slice(0, 7))]
    wide = widen(image, windows)
    np.testing.assert_array_equal(wide[..., 0], [[20, 10, 20, 30, 40, 30, 20]])
    assert widen(image, [(slice(0, 1), slice(0, 4))]) is image
    seen = blend((1, 4), windows, [predicted(wide[..., 0] / 50)], threshold=0.5)
    np.testing.assert_allclose(seen.prob, row / 50, atol=1e-6)
    np.testing.assert_array_equal(seen.mask, [[False, False, True, True]])


@pytest.mark.parametrize("zoom", [1.25, 0.8])
def test_a_zoomed_image_is_that_of_its_windows(opened, zoom):
    image = draw("xray", 0).image[:50]
    predictor = Predictor.of(opened)
    (found,) = predictor.predict_batch(["case"], [image], ["blood vessel"], zoom=zoom)
    windows = cut_windows((50, 64), window=None, overlap=0.25, zoom=zoom)
    wide = widen(image, windows)
    parts = [predictor(wide[window], "blood vessel") for window in windows]
    expected = blend((50, 64), windows, parts, threshold=0.5)
    np.testing.assert_allclose(found.prob, expected.prob, atol=1e-5)
    assert found.prob.shape == found.mask.shape == (50, 64)
    assert np.abs(found.prob - predictor(image, "blood vessel").prob).max() > 1e-3


def test_predict_forward_refuses_what_the_model_only_saw_in_parts(opened):
    model = opened.model
    asked = {"video": None, "text": "<image>Go", "past_text": "", "mask_prompts": None}
    door = of_windows(opened, 48).processor
    image = draw("xray", 0).image
    with pytest.raises(ValueError, match="64x64, but this model was trained on windows of 48"):
        predict_forward(model, door, image=image, return_tensors=False, **asked)
    found = predict_forward(model, door, image=image[:48, :48], return_tensors=False, **asked)
    assert all(mask.shape == (1, 48, 48) for mask in found["prediction_masks"])


def test_gradient_flows_through_letterboxed_masks(opened):
    config = opened.memory.processor.model_copy(update={"fit": "letterbox"})
    door = opened.with_settings(processor=config, prompt=opened.memory.prompt).processor
    batch = door.batch([draw("xray", 0)])
    with torch.enable_grad():
        logits = opened.model(batch).mask_logits
        door.upsample(logits, (40, 64)).sum().backward()
    assert opened.model.seg_projector[0].weight.grad.abs().max() > 0
