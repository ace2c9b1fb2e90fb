import numpy as np
import pytest
import torch

from vasculora.core.geometry import nearest_pixels, upsample_logits
from vasculora.metrics.ceiling import ceiling, perfect_prediction
from vasculora.metrics.mask import count, dice

RULES = ("nearest", "area", "full")


def lines(side, width, *, at=(9, 25, 44)):
    """Horizontal vessels of some width, from edge to edge."""
    mask = np.zeros((side, side), dtype=bool)
    for row in at:
        mask[row : row + width] = True
    return mask


def test_a_grid_as_fine_as_the_image_loses_nothing():
    mask = lines(64, 3)
    for rule in RULES:
        found = ceiling(mask, rule, grid=64, sam_size=64)
        assert (found.dice, found.cldice) == (1.0, 1.0)


def test_nearest_misses_a_line_between_its_rows():
    # a grid of half the side looks at even rows: a line of one pixel at an odd row is not there
    mask = lines(64, 1, at=(9,))
    assert ceiling(mask, "nearest", grid=32, sam_size=64).dice == 0.0


def test_nearest_makes_a_line_at_an_even_row_two_pixels_wide():
    # row 4 of the grid is 1, its neighbours 0: above 0.5 are rows 8 and 9, of which 8 is true
    found = ceiling(lines(64, 1, at=(8,)), "nearest", grid=32, sam_size=64)
    assert found.dice == pytest.approx(2 / 3)


def test_area_says_nothing_of_a_line_that_fills_half_its_cells():
    assert ceiling(lines(64, 1, at=(8,)), "area", grid=32, sam_size=64).dice == 0.0


def test_full_is_at_least_area_and_finds_more():
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:64, :64]
    mask = np.zeros((64, 64), dtype=bool)
    for _ in range(4):
        angle, offset = rng.uniform(0, np.pi), rng.uniform(-15, 15)
        away = (rows - 32) * np.sin(angle) + (columns - 32) * np.cos(angle) - offset
        mask |= np.abs(away) < 1.2
    found = {rule: ceiling(mask, rule, grid=32, sam_size=64) for rule in RULES}
    assert found["nearest"].dice < found["area"].dice < found["full"].dice
    assert found["full"].dice > 0.95
    start = perfect_prediction(mask, "full", grid=32, sam_size=64, num_steps=0)
    np.testing.assert_array_equal(
        start, perfect_prediction(mask, "area", grid=32, sam_size=64, num_steps=0)
    )


def test_the_way_back_is_the_prediction_s():
    # the image is not square, and SAM 2's square lies between grid and image
    rng = np.random.default_rng(1)
    mask = rng.random((48, 70)) < 0.3
    logits = 2 * nearest_pixels(torch.from_numpy(mask).float(), 16) - 1
    pred = upsample_logits(logits[None], via=32, size=(48, 70))[0].sigmoid() > 0.5
    expected = dice(count(pred.numpy(), mask))
    assert ceiling(mask, "nearest", grid=16, sam_size=32).dice == pytest.approx(expected)


def test_an_empty_mask_is_reached_by_all():
    nothing = np.zeros((20, 20), dtype=bool)
    for rule in RULES:
        assert ceiling(nothing, rule, grid=8, sam_size=16).dice == 1.0


def test_it_is_the_same_each_time_and_draws_nothing():
    state = torch.get_rng_state()
    mask = lines(48, 2, at=(5, 20))
    first = ceiling(mask, "full", grid=16, sam_size=32)
    with torch.no_grad():
        assert ceiling(mask, "full", grid=16, sam_size=32) == first
    assert torch.equal(torch.get_rng_state(), state)


def test_a_letterboxed_image_loses_more_and_goes_back_through_its_box():
    # 32 x 64 in a grid of 32: as it is pulled, rows keep their number; in its own shape half do
    mask = np.zeros((32, 64), dtype=bool)
    mask[8] = True
    assert ceiling(mask, "nearest", grid=32, sam_size=64).dice == 1.0
    found = ceiling(mask, "nearest", grid=32, sam_size=64, fit="letterbox")
    assert found.dice == pytest.approx(2 / 3)
    square = np.zeros((32, 32), dtype=bool)
    square[8] = True
    assert ceiling(square, "full", grid=32, sam_size=64, fit="letterbox").dice == 1.0
