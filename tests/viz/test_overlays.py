import numpy as np
import pytest

from vasculora.viz.overlays import BACKGROUND, HIT, INVENTED, MISSED, case_panel, overlay, sheet


@pytest.fixture
def image():
    return np.full((40, 50, 3), 100, dtype=np.uint8)


def block(top, bottom, left, right):
    mask = np.zeros((40, 50), dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


def area(picture, colour):
    return int((picture == np.array(colour)).all(axis=2).sum())


def test_an_overlay_tints_the_inside_and_draws_one_pixel_of_contour(image):
    mask = block(10, 20, 15, 30)
    shown = overlay(image, mask)
    contour = (shown == np.array(HIT)).all(axis=2)
    assert contour.sum() == 2 * 15 + 2 * 8
    assert (mask & contour).sum() == contour.sum()
    np.testing.assert_array_equal(shown[15, 20], np.round((100 + np.array(HIT)) / 2))
    assert (shown[~mask] == 100).all()
    assert (image == 100).all()


def test_no_contour_runs_along_the_edge_of_the_image(image):
    shown = overlay(image, block(0, 10, 0, 50))
    contour = (shown == np.array(HIT)).all(axis=2)
    assert contour[9].all()
    assert contour.sum() == 50


def test_an_empty_mask_leaves_the_image_alone(image):
    np.testing.assert_array_equal(overlay(image, block(0, 0, 0, 0)), image)


def test_a_panel_colours_hits_misses_and_inventions(image):
    mask, pred = block(10, 20, 10, 20), block(10, 20, 15, 30)
    panel = case_panel(image, mask, pred, caption="case 7")
    without = case_panel(image, block(0, 0, 0, 0), block(0, 0, 0, 0), caption="case 7")
    # 40 x 50 is shown eight times as large; what the empty panel holds is its legend.
    assert area(panel, MISSED) - area(without, MISSED) == 50 * 64
    assert area(panel, INVENTED) - area(without, INVENTED) == 100 * 64


def test_a_panel_is_four_magnified_tiles_wide(image):
    panel = case_panel(image, block(0, 9, 0, 9), block(0, 9, 0, 9), caption="case 7")
    assert panel.shape[1] >= 4 * 8 * 50
    assert panel.shape[0] >= 8 * 40
    assert panel.dtype == np.uint8


def test_a_large_image_keeps_its_size():
    image = np.zeros((600, 500, 3), dtype=np.uint8)
    mask = np.zeros((600, 500), dtype=bool)
    panel = case_panel(image, mask, mask, caption="")
    assert 4 * 500 < panel.shape[1] < 4 * 500 + 100


def test_a_caption_changes_nothing_but_its_own_line(image):
    mask = block(10, 20, 10, 20)
    short = case_panel(image, mask, mask, caption="case")
    long = case_panel(image, mask, mask, caption="a very long name " * 40)
    assert short.shape == long.shape
    changed = (short != long).any(axis=(1, 2)).nonzero()[0]
    assert 0 < changed.max() < 45
    assert (long[:, -8:] == BACKGROUND).all()


def test_a_sheet_stacks_panels_of_different_width():
    first = np.full((3, 4, 3), 10, dtype=np.uint8)
    second = np.full((2, 6, 3), 20, dtype=np.uint8)
    page = sheet([first, second])
    assert page.shape == (5, 6, 3)
    assert (page[:3, :4] == 10).all()
    assert (page[:3, 4:] == BACKGROUND).all()
    assert (page[3:] == 20).all()


def test_a_sheet_needs_a_panel():
    with pytest.raises(ValueError, match="at least one panel"):
        sheet([])
