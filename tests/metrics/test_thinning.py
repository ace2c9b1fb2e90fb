import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.measure import label
from skimage.morphology import thin

from vasculora.metrics.thinning import centreline, skeletons

TURNS = (
    (lambda m: m, lambda m: m),
    (lambda m: m[::-1], lambda m: m[::-1]),
    (lambda m: m[:, ::-1], lambda m: m[:, ::-1]),
    (lambda m: m[::-1, ::-1], lambda m: m[::-1, ::-1]),
    (lambda m: m.T, lambda m: m.T),
    (lambda m: m[::-1].T, lambda m: m.T[::-1]),
    (lambda m: m[:, ::-1].T, lambda m: m.T[:, ::-1]),
    (lambda m: m[::-1, ::-1].T, lambda m: m.T[::-1, ::-1]),
)


def masks():
    rng = np.random.default_rng(0)
    yield from (rng.random((23, 31)) < share for share in (0.1, 0.5, 0.8, 0.97))
    yield gaussian_filter(rng.standard_normal((60, 50)), 3) > 0
    yield np.ones((12, 17), dtype=bool)
    yield np.zeros((5, 4), dtype=bool)
    yield np.ones((1, 1), dtype=bool)


@pytest.mark.parametrize("mask", list(masks()))
def test_each_bit_is_one_orientation_of_scikit_image_s(mask):
    bits = skeletons(mask)
    ours = sorted((bits >> bit & 1).astype(bool).tobytes() for bit in range(8))
    theirs = [back(thin(np.ascontiguousarray(turn(mask)))) for turn, back in TURNS]
    assert ours == sorted(skeleton.tobytes() for skeleton in theirs)
    np.testing.assert_array_equal(centreline(mask), np.sum(theirs, axis=0))


@pytest.mark.parametrize("turn", [turn for turn, _ in TURNS])
def test_the_line_turns_with_the_mask_and_a_single_skeleton_does_not(turn):
    mask = gaussian_filter(np.random.default_rng(1).standard_normal((60, 50)), 3) > 0
    np.testing.assert_array_equal(centreline(turn(mask)), turn(centreline(mask)))
    assert (thin(mask[::-1])[::-1] != thin(mask)).any()


def test_a_line_between_two_rows_is_shared():
    mask = np.zeros((8, 30), dtype=bool)
    mask[3:5] = True
    line = centreline(mask)
    np.testing.assert_array_equal(line[3:5, 3:-3], 4)  # half of the orientations each
    assert line[:3].sum() == line[5:].sum() == 0


def test_every_piece_keeps_a_line_in_every_orientation():
    mask = gaussian_filter(np.random.default_rng(2).standard_normal((80, 80)), 2) > 0.3
    bits = skeletons(mask)
    num = label(mask, connectivity=2).max()
    assert num > 5
    assert [label((bits >> bit & 1) > 0, connectivity=2).max() for bit in range(8)] == [num] * 8
