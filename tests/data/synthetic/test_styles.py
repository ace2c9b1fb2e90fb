"""Drawn vessel cases: reproducible, and every phrase means what it says."""

from typing import get_args

import numpy as np
import pytest
from scipy import ndimage
from skimage.morphology import skeletonize

from vasculora.core.types import Sample
from vasculora.data.synthetic.styles import (
    PRETRAINING_STYLES,
    STYLES,
    SynthStyle,
    all_phrases,
    draw_case,
)


def _case(style: str, seed: int = 0, size: int = 128) -> Sample:
    return draw_case(style, size=size, rng=np.random.default_rng(seed), case_id="0000")


def _named(sample: Sample) -> dict[str, np.ndarray]:
    return dict(zip(sample.phrases, sample.masks, strict=True))


@pytest.mark.parametrize("style", STYLES)
def test_the_same_seed_draws_the_same_bytes(style: str) -> None:
    first, second, other = _case(style, 3), _case(style, 3), _case(style, 4)
    assert first.image.tobytes() == second.image.tobytes()
    assert first.masks.tobytes() == second.masks.tobytes()
    assert first.image.tobytes() != other.image.tobytes()


@pytest.mark.parametrize("style", STYLES)
def test_phrases_and_masks_fit_the_image_and_each_other(style: str) -> None:
    for seed in range(5):
        sample = _case(style, seed)
        named = _named(sample)
        assert sample.image.dtype == np.uint8
        assert sample.image.shape == (128, 128, 3)
        assert sample.masks.dtype == bool
        assert sample.masks.shape == (len(sample.phrases), 128, 128)
        assert sample.phrases[0] == "blood vessel"
        assert set(sample.phrases) <= set(all_phrases())
        assert np.array_equal(named["background"], ~named["blood vessel"])
        assert np.array_equal(named["blood vessel"], named["dark vessel"] | named["bright vessel"])
        assert not np.any(named["dark vessel"] & named["bright vessel"])


@pytest.mark.parametrize("style", ["cine", "xray", "fundus", "fundus_wide"])
def test_dark_styles_have_no_bright_vessel_and_darker_vessels(style: str) -> None:
    sample = _case(style, 1, 256)
    named = _named(sample)
    assert not named["bright vessel"].any()
    near = _ring_around(named["blood vessel"]) & (sample.image.mean(axis=2) > 25)
    assert sample.image[named["blood vessel"]].mean() < sample.image[near].mean() - 3


def _ring_around(mask: np.ndarray) -> np.ndarray:
    return ndimage.binary_dilation(mask, iterations=5) & ~ndimage.binary_dilation(
        mask, iterations=2
    )


def test_the_catheter_is_not_blood_vessel() -> None:
    for seed in range(6):
        named = _named(_case("xray", seed))
        assert named["catheter"].any()
        assert not np.any(named["catheter"] & named["blood vessel"])


def test_mixed_images_hold_both_kinds() -> None:
    named = _named(_case("mixed", 2))
    assert named["dark vessel"].any()
    assert named["bright vessel"].any()


@pytest.mark.parametrize("style", STYLES)
def test_vessels_cover_a_plausible_share(style: str) -> None:
    shares = [_case(style, seed).masks[0].mean() for seed in range(10)]
    assert 0.02 < np.mean(shares) < 0.12
    assert min(shares) > 0.005


def test_xray_vessels_are_two_to_six_pixels_wide() -> None:
    for seed in range(4):
        mask = _case("xray", seed, 256).masks[0]
        assert 0.03 < mask.mean() < 0.1
        widths = 2.0 * ndimage.distance_transform_edt(mask)[skeletonize(mask)]
        assert 2.0 <= np.median(widths) <= 6.0
        assert np.percentile(widths, 98) <= 9.0


def test_the_demo_style_is_kept_out_of_pretraining() -> None:
    assert "xray" in get_args(SynthStyle)
    assert "xray" not in PRETRAINING_STYLES
    assert set(PRETRAINING_STYLES) | set(get_args(SynthStyle)) == set(STYLES)


def test_an_unknown_style_names_the_known_ones() -> None:
    known = "cine, fundus, fundus_wide, mixed, octa, octa_wide, sides, tubes, xray"
    with pytest.raises(ValueError, match=rf"'mri'.*{known}"):
        _case("mri")


@pytest.mark.parametrize(
    ("style", "num_vessel_pixels", "mean"),
    [("xray", 1417, 92.0516), ("fundus", 1029, 87.6907), ("octa", 1171, 56.0324)],
)
def test_what_users_have_drawn_stays_as_it_was(
    style: str, num_vessel_pixels: int, mean: float
) -> None:
    sample = _case(style)
    assert sample.masks[0].sum() == num_vessel_pixels
    assert sample.image.mean() == pytest.approx(mean, abs=0.01)
    assert ("catheter" in sample.phrases) == (style == "xray")


def test_thick_is_at_least_twice_as_wide_as_thin() -> None:
    for style in ("tubes", "sides"):
        for seed in range(8):
            named = _named(_case(style, seed, 256))
            thick, thin = (named.get(f"{word} vessel") for word in ("thick", "thin"))
            if thick is None or thin is None or not thick.any() or not thin.any():
                continue
            assert not np.any(thick & thin)
            assert _width(thick) >= 2.0 * _width(thin)


def _width(mask: np.ndarray) -> float:
    return float(np.median(ndimage.distance_transform_edt(mask)[skeletonize(mask)]))


def test_left_and_right_vessels_have_a_gap_between_them() -> None:
    for seed in range(12):
        named = _named(_case("sides", seed))
        left, right = named["left vessel"], named["right vessel"]
        assert np.nonzero(left)[1].max() + 2 < np.nonzero(right)[1].min()
        assert np.array_equal(left | right, named["blood vessel"])
