from dataclasses import replace

import numpy as np
import pytest

from vasculora.data.transforms.intensity import equalise, recolour


def test_gamma_contrast_and_brightness_by_hand(fixed, still) -> None:
    image = np.array([[[0], [51]], [[102], [255]]], dtype=np.uint8)
    gamma = recolour(image, fixed, replace(still, gamma=2.0))
    # Brightness as a share of 255, squared.
    assert gamma.ravel().tolist() == [0, 10, 41, 255]
    contrast = recolour(image, fixed, replace(still, contrast=0.5))
    # The mean is 102: (v - 102) * 1.5 + 102, cut at 0 and 255.
    assert contrast.ravel().tolist() == [0, 26, 102, 255]
    brightness = recolour(image, fixed, replace(still, brightness=10))
    assert brightness.ravel().tolist() == [10, 61, 112, 255]


def test_noise_has_its_deviation_and_no_bias(fixed, still) -> None:
    image = np.full((300, 300, 1), 128, dtype=np.uint8)
    noisy = recolour(image, fixed, replace(still, noise=8.0)).astype(float)
    assert noisy.mean() == pytest.approx(128, abs=0.1)
    assert noisy.std() == pytest.approx(8, rel=0.02)


def test_blur_softens_an_edge(fixed, still) -> None:
    image = np.zeros((20, 20, 1), dtype=np.uint8)
    image[:, 10:] = 200
    blurred = recolour(image, fixed, replace(still, blur=1.0, blur_share=1.0))
    assert 0 < blurred[10, 9, 0] < blurred[10, 10, 0] < 200


def ground() -> np.ndarray:
    """Return a ramp from dark to bright, with a faint vessel at each end."""
    image = np.broadcast_to(np.linspace(40, 200, 160), (160, 160)).copy()
    image[60:64] -= 6
    return np.round(image).astype(np.uint8)[..., None]


def test_local_contrast_is_raised_where_there_is_little() -> None:
    evened = equalise(ground(), clip_limit=0.02).astype(float)
    for columns in (slice(10, 40), slice(120, 150)):
        before = ground()[50:60, columns].mean() - ground()[60:64, columns].mean()
        after = evened[50:60, columns].mean() - evened[60:64, columns].mean()
        assert before == pytest.approx(6, abs=0.5)
        assert after > 1.5 * before


def test_local_contrast_leaves_colours_what_they_are() -> None:
    grey = ground()
    image = np.concatenate([grey, grey // 2, grey // 3], axis=2)
    evened = equalise(image, clip_limit=0.02)
    assert evened.shape == image.shape
    assert (evened != image).any()
    # red minus blue is colour, not lightness
    before, after = (i[..., 0].astype(float) - i[..., 2] for i in (image, evened))
    assert np.abs(after - before).mean() < 12
