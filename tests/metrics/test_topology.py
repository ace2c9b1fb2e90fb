import numpy as np
import pytest
from skimage.morphology import skeletonize

from vasculora.metrics.thinning import centreline
from vasculora.metrics.topology import (
    betti_numbers,
    cldice,
    skeleton_of,
    small_vessel_recall,
    vessel_widths,
)


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


def test_beyond_the_field_of_view_is_not_outside():
    mask = np.zeros((30, 40), dtype=bool)
    mask[10:18] = True  # eight wide, of which the field of view shows two
    fov = np.zeros_like(mask)
    fov[16:] = True
    seen = mask & fov
    assert set(vessel_widths(seen, seen)) == {2.0}
    assert vessel_widths(seen, seen, fov).max() > 3
    fov = np.zeros_like(mask)
    fov[11:17] = True  # nothing but vessel is in view
    assert set(vessel_widths(mask & fov, mask & fov, fov)) == {40.0}


def test_pieces_and_holes_by_hand():
    ring = np.zeros((16, 15), dtype=bool)
    ring[2:7, 2:7] = True
    ring[3:6, 3:6] = False
    assert betti_numbers(ring) == (1, 1)
    assert betti_numbers(ring | line(12, 3, 6)) == (2, 1)
    assert betti_numbers(ring[:, 3:]) == (1, 0)  # a loop that the image cuts open
    dots = np.eye(3, dtype=bool)  # pixels hang together by a corner
    assert betti_numbers(dots) == (1, 0)
    diamond = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], dtype=bool)  # its hole does not
    assert betti_numbers(diamond) == (1, 1)
    assert betti_numbers(np.zeros((3, 3), dtype=bool)) == (0, 0)
    assert betti_numbers(np.ones((1, 1), dtype=bool)) == (1, 0)


def test_pieces_less_holes_are_scikit_image_s_euler_number():
    from skimage.measure import euler_number

    rng = np.random.default_rng(3)
    for share in (0.2, 0.5, 0.8):
        mask = rng.random((40, 30)) < share
        pieces, holes = betti_numbers(mask)
        assert pieces - holes == euler_number(mask, connectivity=2)


def test_recall_of_small_vessels_by_hand():
    mask = np.zeros((40, 60), dtype=bool)
    mask[5:14] = True  # nine wide
    mask[20:23] = True  # three wide: its line is the middle row without both ends, 58 pixels
    pred = np.zeros_like(mask)
    pred[21, :15] = True
    pred[5:14] = True
    assert small_vessel_recall(pred, mask, small_width=3.0) == 14 / 58
    assert small_vessel_recall(pred, mask, small_width=2.0) is None
    assert small_vessel_recall(pred, np.zeros_like(mask), small_width=3.0) is None
    assert small_vessel_recall(np.zeros_like(mask), mask, small_width=3.0) == 0.0
    assert small_vessel_recall(pred, mask, small_width=9.0) > 0.5
