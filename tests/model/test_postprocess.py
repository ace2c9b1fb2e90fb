import numpy as np
import pytest
from scipy import ndimage
from skimage.morphology import remove_small_objects

from vasculora.core.types import Prediction
from vasculora.model.postprocess import clean


def predicted(prob):
    prob = np.asarray(prob, dtype=np.float32)
    return Prediction(text="[SEG]", seg_found=True, prob=prob, mask=prob > 0.5)


def cleaned(prob, *, threshold=0.5, min_size=0, hysteresis=None):
    before = predicted(prob)
    after = clean(before, threshold=threshold, min_size=min_size, hysteresis=hysteresis)
    assert after.prob is before.prob
    assert (after.text, after.seg_found) == ("[SEG]", True)
    return after.mask.astype(int)


SPECKS = np.array(
    [
        [1, 0, 0, 0, 1],
        [0, 1, 0, 0, 1],
        [0, 0, 1, 0, 0],
        [0, 0, 0, 0, 1],
    ]
)
"""Pieces of three pixels (a diagonal), two and one."""


@pytest.mark.parametrize(
    ("min_size", "kept"),
    [
        (0, SPECKS),
        (2, SPECKS * [[1], [1], [1], [0]]),
        (3, SPECKS * [1, 1, 1, 1, 0]),
        (4, SPECKS * 0),
    ],
)
def test_pieces_below_the_least_size_go(min_size, kept):
    np.testing.assert_array_equal(cleaned(SPECKS, min_size=min_size), kept)


def test_faint_pixels_stay_where_they_are_joined_to_sure_ones():
    prob = [
        [0.9, 0.4, 0.2, 0.4],
        [0.1, 0.1, 0.4, 0.1],
        [0.4, 0.1, 0.1, 0.4],
    ]
    # the corner of two faint pixels is a joint, and a pixel of just 0.3 is none
    joined = [[1, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 1]]
    np.testing.assert_array_equal(cleaned(prob, hysteresis=0.3), joined)
    np.testing.assert_array_equal(cleaned(prob, hysteresis=0.4), np.array(prob) > 0.5)
    np.testing.assert_array_equal(cleaned(prob, hysteresis=0.3, threshold=0.95), np.zeros((3, 4)))
    # specks are counted after it: the sure pixel alone would be one
    np.testing.assert_array_equal(cleaned(prob, hysteresis=0.3, min_size=5), joined)
    np.testing.assert_array_equal(cleaned(prob, hysteresis=0.3, min_size=6), np.zeros((3, 4)))


def test_on_any_mask_it_is_what_others_do():
    prob = np.random.default_rng(0).random((40, 60), dtype=np.float32)
    around = np.ones((3, 3), dtype=bool)
    for low in (0.55, 0.8):
        expected = ndimage.binary_propagation(prob > 0.9, structure=around, mask=prob > low)
        np.testing.assert_array_equal(cleaned(prob, threshold=0.9, hysteresis=low), expected)
    expected = remove_small_objects(prob > 0.7, max_size=4, connectivity=2)
    np.testing.assert_array_equal(cleaned(prob, threshold=0.7, min_size=5), expected)


def test_without_wishes_a_mask_is_its_threshold():
    prob = np.random.default_rng(0).random((40, 60), dtype=np.float32)
    np.testing.assert_array_equal(cleaned(prob, threshold=0.3), prob > 0.3)
    assert cleaned(np.zeros((4, 4)), min_size=2, hysteresis=0.2).sum() == 0
    assert cleaned(np.ones((4, 4)), min_size=16, hysteresis=0.2).sum() == 16


@pytest.mark.parametrize("low", [0.5, 0.6])
def test_a_lower_threshold_is_lower(low):
    with pytest.raises(ValueError, match=rf"hysteresis {low} must be below the threshold, which"):
        cleaned(SPECKS, hysteresis=low)
