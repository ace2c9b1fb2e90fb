from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import center_of_mass

from vasculora.data.transforms import AUGMENTATIONS
from vasculora.data.transforms.geometry import SPANS, draw_flips, mirror, move
from vasculora.data.transforms.sides import Flips

STRONG = AUGMENTATIONS["strong"]


def test_an_oblong_image_is_never_laid_on_its_side(make_sample) -> None:
    sample = make_sample(100, 140)
    seen = set()
    for seed in range(60):
        flips = draw_flips(np.random.default_rng(seed), sample.phrases, size=(100, 140))
        _, masks = mirror(sample.image, sample.masks, flips)
        assert masks.shape == sample.masks.shape
        seen.add(masks.tobytes())
    assert len(seen) == 4


def test_a_forbidden_flip_takes_its_random_numbers_all_the_same() -> None:
    for seed in range(8):
        free, bound = np.random.default_rng(seed), np.random.default_rng(seed)
        draw_flips(free, ("vessel",), size=(9, 9))
        flips = draw_flips(bound, ("vessel", "left coronary artery"), size=(9, 9))
        assert flips == Flips(left_right=False, up_down=False, diagonal=False)
        assert free.random() == bound.random()


def centre(mask: np.ndarray) -> tuple[float, float]:
    y, x = center_of_mass(mask)
    return x + 0.5, y + 0.5


def test_a_shift_moves_by_its_share_of_each_side(fixed, still, make_sample) -> None:
    sample = make_sample(100, 200)
    _, masks = move(sample.image, sample.masks, fixed, replace(still, shift=0.05))
    assert centre(masks[0]) == pytest.approx((75 + 10, 40 + 5), abs=0.05)


def test_a_zoom_enlarges_round_the_centre(fixed, still, make_sample) -> None:
    sample = make_sample()
    _, masks = move(sample.image, sample.masks, fixed, replace(still, zoom=1.25))
    assert centre(masks[0]) == pytest.approx((60 + 15 * 1.25, 60 - 20 * 1.25), abs=0.2)
    assert masks[0].sum() == pytest.approx(np.pi * 15**2 * 1.25**2, rel=0.01)


def test_a_turn_keeps_distances_from_the_centre(fixed, still, make_sample) -> None:
    sample = make_sample()
    _, masks = move(sample.image, sample.masks, fixed, replace(still, rotation=90))
    # A quarter turn takes (15, -20) off the centre to (20, 15).
    assert centre(masks[0]) == pytest.approx((60 + 20, 60 + 15), abs=0.05)
    assert masks[0].sum() == pytest.approx(sample.masks[0].sum(), rel=0.01)


def test_the_border_is_filled_with_the_mirror_image_in_both(fixed, still) -> None:
    image = np.full((60, 60, 1), 50, dtype=np.uint8)
    masks = np.zeros((1, 60, 60), dtype=bool)
    masks[0, :, 2] = True
    image[masks[0]] = 250
    moved_image, moved_masks = move(image, masks, fixed, replace(still, shift=0.1))
    # The line 2 px from the border now stands 8 px from it, and its reflection at 4.
    assert np.flatnonzero(moved_masks[0, 30]).tolist() == [4, 8]
    assert np.flatnonzero(moved_image[30, :, 0] > 150).tolist() == [4, 8]


def test_an_even_bend_is_a_shift(fixed, still, make_sample) -> None:
    sample = make_sample(100, 200)
    # All displacements at their upper end: each pixel comes from 5 pixels further on.
    image, masks = move(sample.image, sample.masks, fixed, replace(still, elastic=0.05))
    assert centre(masks[0]) == pytest.approx((75 - 5, 40 - 5), abs=0.05)
    np.testing.assert_array_equal(image[:90, :190], sample.image[5:95, 5:195])


def test_a_bend_moves_by_no_more_than_it_may_and_stretches_little(still) -> None:
    # Two ramps tell where each pixel came from.
    ramp = np.arange(240, dtype=np.uint8)
    image = np.stack(np.broadcast_arrays(ramp[:, None], ramp, 0), axis=-1).astype(np.uint8)
    masks = np.ones((1, 240, 240), dtype=bool)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        bent, _ = move(image, masks, rng, replace(still, elastic=0.02))
        came_from = bent[20:-20, 20:-20, :2].astype(float)
        moved = came_from - image[20:-20, 20:-20, :2]
        assert 1 < np.abs(moved).max() <= 0.02 * 240 + 1
        # over ten pixels, so that the ramps' whole grey levels do not count
        steps = (came_from[10:, :, 0] - came_from[:-10, :, 0]) / 10
        assert np.abs(steps - 1).max() < 2 * 0.02 * SPANS + 0.1
        assert steps.min() > 0.5


def test_a_vessel_three_pixels_wide_stays_in_one_piece() -> None:
    from skimage.measure import label

    rows, columns = np.mgrid[:200, :200]
    vessel = np.abs(rows - 100 - 30 * np.sin(columns / 15)) < 1.5 * np.hypot(1, 2)
    vessel &= (columns > 30) & (columns < 170)
    strength = replace(STRONG, shift=0, zoom=1)
    image = np.where(vessel, 40, 160).astype(np.uint8)[..., None]
    for seed in range(25):
        moved_image, masks = move(image, vessel[None], np.random.default_rng(seed), strength)
        assert label(masks[0], connectivity=2).max() == 1
        assert masks[0].sum() == pytest.approx(vessel.sum(), rel=0.15)
        assert moved_image[masks[0]].mean() < 75
