import numpy as np
import pytest
from skimage.morphology import skeletonize

from vasculora.metrics.thinning import centreline
from vasculora.metrics.topology import cldice, skeleton_of, vessel_widths


def bar():
    """A bar, 3 pixels wide and 11 long."""
    mask = np.zeros((16, 15), dtype=bool)
    mask[8:11, 2:13] = True
    return mask


def line(row, left, right):
    mask = np.zeros((16, 15), dtype=bool)
    mask[row, left:right] = True
    return mask


def test_a_mask_against_itself_scores_one():
    assert cldice(bar(), bar()) == 1.0


def test_a_thin_line_is_its_own_skeleton():
    np.testing.assert_array_equal(skeleton_of(line(4, 2, 10)), line(4, 2, 10))
    assert not skeleton_of(np.zeros((5, 5), dtype=bool)).any()


def test_a_bar_has_its_middle_row():
    skeleton = skeleton_of(bar())
    np.testing.assert_array_equal(skeleton[:, 4:11], line(9, 0, 15)[:, 4:11])


def test_working_on_a_part_changes_nothing():
    mask = np.random.default_rng(0).random((60, 50)) < 0.6
    mask[:7], mask[:, 43:] = False, False
    np.testing.assert_array_equal(skeleton_of(mask), skeletonize(mask))


def test_half_a_line_has_all_precision_and_half_the_length():
    # 10 pixels are true, 5 of them are found and nothing else: 2 * 1 * 0.5 / 1.5
    assert cldice(line(4, 0, 5), line(4, 0, 10)) == pytest.approx(2 / 3)


def test_width_does_not_count_but_length_does():
    thin = centreline(bar()) > 0
    assert cldice(thin, bar()) == 1.0
    # a false branch of 10 pixels beside a true line of 10: 2 * 0.5 * 1 / 1.5
    assert cldice(line(4, 0, 10) | line(12, 0, 10), line(4, 0, 10)) == pytest.approx(2 / 3)


def test_apart_scores_zero_and_empty_meets_empty():
    nothing = np.zeros((16, 15), dtype=bool)
    assert cldice(line(4, 0, 10), line(12, 0, 10)) == 0.0
    assert cldice(nothing, nothing) == 1.0
    assert cldice(nothing, bar()) == 0.0
    assert cldice(bar(), nothing) == 0.0


def test_a_known_skeleton_is_taken():
    mask, pred = bar(), line(9, 2, 8)
    assert cldice(pred, mask, line=centreline(mask)) == cldice(pred, mask)
    # of a line that is given, 10 pixels long, 5 lie in the prediction
    assert cldice(line(9, 2, 7), mask, line=line(9, 2, 12).astype(np.uint8)) == pytest.approx(2 / 3)


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 6])
def test_a_straight_line_is_as_wide_as_it_was_drawn(width):
    mask = np.zeros((30, 60), dtype=bool)
    mask[10 : 10 + width] = True  # from edge to edge: no end is drawn in
    widths = vessel_widths(mask, skeleton_of(mask))
    assert np.median(widths) == width
    assert np.percentile(widths, 5) == width


def test_a_slanted_line_is_as_wide_as_it_was_drawn_within_a_pixel():
    rows, columns = np.mgrid[:80, :80]
    for width in (3, 5, 8):
        mask = np.abs((rows - 40) * np.cos(0.6) - (columns - 40) * np.sin(0.6)) < width / 2
        assert np.median(vessel_widths(mask, skeleton_of(mask))) == pytest.approx(width, abs=1)


def test_widths_of_nothing_and_of_everything():
    nothing, everything = np.zeros((9, 9), dtype=bool), np.ones((9, 12), dtype=bool)
    assert len(vessel_widths(nothing, skeleton_of(nothing))) == 0
    assert set(vessel_widths(everything, skeleton_of(everything))) == {12.0}
