import numpy as np
import pytest
from PIL import Image

from vasculora.metrics.mask import best_threshold, count, dice
from vasculora.model.frangi import frangi_prob


@pytest.fixture
def tube():
    """A bent tube four pixels wide, brighter than its surroundings."""
    rows, columns = np.mgrid[:64, :80]
    mask = np.abs(np.hypot(rows + 10, columns - 30) - 50) < 2
    image = np.where(mask, 170, 90).astype(np.uint8)
    return np.repeat(image[..., None], 3, axis=2), mask


def fit(prob, mask):
    threshold = best_threshold([prob], [mask])
    return dice(count(prob > threshold, mask))


def test_a_bright_tube_is_found_as_bright_only(tube):
    image, mask = tube
    assert fit(frangi_prob(image, dark=False), mask) > 0.9
    middle = np.roll(mask, 1, axis=0) & np.roll(mask, -1, axis=0)
    middle[:, :20] = middle[:, -20:] = False
    assert middle.sum() >= 20
    assert frangi_prob(image, dark=False)[middle].min() > 0.9
    assert frangi_prob(image, dark=True)[middle].max() == 0


def test_negatives_swap_dark_and_bright(tube):
    image, _ = tube
    np.testing.assert_allclose(
        frangi_prob(image, dark=False), frangi_prob(255 - image, dark=True), atol=1e-5
    )


def test_values_are_probabilities_that_reach_one(tube):
    prob = frangi_prob(tube[0], dark=False)
    assert prob.dtype == np.float32
    assert (prob.min(), prob.max()) == (0, 1)


def test_a_flat_image_has_no_vessel():
    assert not frangi_prob(np.full((20, 30, 3), 128, dtype=np.uint8), dark=True).any()


def test_a_speck_is_left_standing_alone():
    image = np.full((64, 64, 3), 128, dtype=np.uint8)
    image[30:32, 30:32] = 0
    assert frangi_prob(image, dark=True).max() == 1


def test_real_angiograms_are_found_better_than_by_chance(shared_dir):
    folder = shared_dir / "data" / "cimat_angios"
    scores = []
    for number in (1, 7, 20):
        image = np.asarray(Image.open(next(folder.rglob(f"{number}.png"))).convert("RGB"))
        truth = Image.open(next(folder.rglob(f"{number}_gt.png"))).convert("L")
        scores.append(fit(frangi_prob(image, dark=True), np.asarray(truth) >= 128))
    assert min(scores) > 0.45
