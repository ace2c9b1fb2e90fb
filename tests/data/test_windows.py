from dataclasses import replace

import numpy as np
import pytest

from vasculora.core.types import Sample
from vasculora.data.windows import build_windows, draw_window

DRAWS = 400


def rng(seed=0):
    return np.random.default_rng(seed)


def scene(height=60, width=90, phrases=("vessel",)):
    """Return a picture whose pixels tell where they are, with a speck of vessel near a corner."""
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([rows, columns, np.zeros_like(rows)], axis=2).astype(np.uint8)
    masks = np.zeros((len(phrases), height, width), dtype=bool)
    masks[0, 5:7, 80:82] = True
    image[..., 2] = masks[0] * 255
    return Sample(case_id="a", group="a", image=image, masks=masks, phrases=phrases)


def corner(cut):
    return int(cut.image[0, 0, 0]), int(cut.image[0, 0, 1])


def test_image_and_masks_are_cut_alike():
    for seed in range(50):
        cut = draw_window(scene(), rng(seed), window=32, foreground=0.5)
        assert cut.image.shape == (32, 32, 3)
        np.testing.assert_array_equal(cut.masks[0], cut.image[..., 2] == 255)
        top, left = corner(cut)
        np.testing.assert_array_equal(cut.image, scene().image[top : top + 32, left : left + 32])


def test_a_window_round_the_target_shows_it_wherever_it_is_placed():
    cuts = [draw_window(scene(), rng(seed), window=32, foreground=1.0) for seed in range(DRAWS)]
    assert all(cut.masks.any() for cut in cuts)
    tops, lefts = zip(*map(corner, cuts), strict=True)
    # pixel (5 or 6, 80 or 81) may lie in any row and column of the window that the image allows
    assert (min(tops), max(tops)) == (0, 6)
    assert (min(lefts), max(lefts)) == (49, 58)


def test_the_share_of_windows_round_the_target_is_as_asked():
    seen = [
        draw_window(scene(), rng(seed), window=32, foreground=0.5).masks.any()
        for seed in range(DRAWS)
    ]
    # the other half lies anywhere: tops 0 to 6 of 28 and lefts 49 to 58 of 58 show the speck
    expected = 0.5 + 0.5 * (7 / 29) * (10 / 59)
    assert np.mean(seen) == pytest.approx(expected, abs=3 * np.sqrt(0.25 / DRAWS))


def test_windows_anywhere_reach_every_border():
    cuts = [draw_window(scene(), rng(seed), window=32, foreground=0.0) for seed in range(DRAWS)]
    tops, lefts = zip(*map(corner, cuts), strict=True)
    assert (min(tops), max(tops)) == (0, 28)
    assert (min(lefts), max(lefts)) == (0, 58)


def test_a_short_side_is_taken_whole():
    cut = draw_window(scene(height=20), rng(), window=32, foreground=1.0)
    assert cut.image.shape == (20, 32, 3)
    assert cut.masks.any()


def test_an_image_no_larger_than_the_window_stays():
    sample = scene()
    assert draw_window(sample, rng(), window=90, foreground=1.0) is sample


def test_phrases_stay_where_they_are_seen_or_where_the_window_lies_anywhere():
    sample = scene(phrases=("vessel", "far", "absent"))
    sample.masks[1, 50:, :5] = True
    round_it = [draw_window(sample, rng(s), window=32, foreground=1.0) for s in range(60)]
    assert {cut.phrases for cut in round_it} == {("vessel",), ("far",)}
    assert all(len(cut.masks) == 1 and cut.masks.any() for cut in round_it)
    anywhere = [draw_window(sample, rng(s), window=32, foreground=0.0) for s in range(60)]
    assert all(cut.phrases == sample.phrases for cut in anywhere)
    assert not all(cut.masks.any() for cut in anywhere)


def test_a_case_without_any_target_is_cut_anywhere():
    sample = scene()
    empty = replace(sample, masks=np.zeros_like(sample.masks))
    cut = draw_window(empty, rng(), window=32, foreground=1.0)
    assert cut.phrases == ("vessel",)
    assert cut.masks.shape == (1, 32, 32)


def test_the_same_numbers_draw_the_same_window_and_the_sample_is_left_alone():
    sample = scene()
    sample.image.flags.writeable = sample.masks.flags.writeable = False
    one, two = (draw_window(sample, rng(3), window=32, foreground=0.5) for _ in range(2))
    np.testing.assert_array_equal(one.image, two.image)
    one.image[:] = 0  # a copy: what the data set keeps stays as it is
    np.testing.assert_array_equal(sample.image, scene().image)


def test_what_follows_gets_the_window_and_the_same_generator():
    def turn(sample, generator):
        return replace(sample, case_id=f"{generator.random():.6f} {sample.image.shape}")

    cut = build_windows(window=32, foreground=0.0, then=turn)(scene(), rng(1))
    own = rng(1)
    own.random(), own.integers(0, 28, endpoint=True), own.integers(0, 58, endpoint=True)
    assert cut.case_id == f"{own.random():.6f} (32, 32, 3)"
    assert build_windows(window=32, foreground=0.0, then=None)(scene(), rng(1)).case_id == "a"
