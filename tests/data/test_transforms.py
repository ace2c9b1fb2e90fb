from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import center_of_mass

from vasculora.core.types import Sample
from vasculora.data.transforms import AUGMENTATIONS, augment, build_augment, mirror, move, recolour

STILL = replace(
    AUGMENTATIONS["strong"], rotation=0, zoom=1, shift=0, gamma=1, contrast=0, brightness=0,
    noise=0, blur=0, blur_share=0,
)  # fmt: skip


def disk(height: int, width: int, x: float, y: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return (columns + 0.5 - x) ** 2 + (rows + 0.5 - y) ** 2 < radius**2


def make_sample(height: int = 120, width: int = 120, *, colour: bool = False) -> Sample:
    masks = np.stack(
        [disk(height, width, 75, 40, 15), disk(height, width, 40, 70, 8)],
    )
    image = np.full((height, width, 3), 60, dtype=np.uint8)
    image[masks.any(axis=0)] = (200, 150, 180) if colour else 200
    return Sample(case_id="a", group="a", image=image, masks=masks, phrases=("large", "small"))


def levels() -> list[str]:
    return [name for name in AUGMENTATIONS if name != "none"]


@pytest.mark.parametrize("level", levels())
@pytest.mark.parametrize("size", [(120, 120), (100, 140)])
@pytest.mark.parametrize("colour", [False, True])
def test_image_and_masks_move_alike(level: str, size: tuple[int, int], colour: bool) -> None:
    transform = build_augment(level)
    assert transform is not None
    sample = make_sample(*size, colour=colour)
    for seed in range(25):
        moved = transform(sample, np.random.default_rng(seed))
        bright = moved.image[..., 0].astype(float)
        union = moved.masks.any(axis=0)
        # Both disks are far brighter than the ground, so the halfway cut finds them again.
        found = bright > (bright[union].mean() + bright[~union].mean()) / 2
        overlap = 2 * (found & union).sum() / (found.sum() + union.sum())
        assert overlap > 0.95, (level, seed)
        # Each mask stays with its phrase: the large disk is the first.
        assert moved.masks[0].sum() > 1.5 * moved.masks[1].sum()


@pytest.mark.parametrize("level", levels())
def test_kind_and_size_are_kept_and_the_original_is_untouched(level: str) -> None:
    transform = build_augment(level)
    assert transform is not None
    for sample in (make_sample(), make_sample(90, 150, colour=True)):
        before = sample.image.copy(), sample.masks.copy()
        sample.image.flags.writeable = sample.masks.flags.writeable = False
        moved = transform(sample, np.random.default_rng(0))
        assert moved.image.dtype == np.uint8
        assert moved.masks.dtype == bool
        assert moved.image.shape == sample.image.shape
        assert moved.masks.shape == sample.masks.shape
        assert (moved.case_id, moved.phrases) == (sample.case_id, sample.phrases)
        np.testing.assert_array_equal(sample.image, before[0])
        np.testing.assert_array_equal(sample.masks, before[1])


@pytest.mark.parametrize("level", levels())
def test_equal_seeds_give_equal_samples_and_others_do_not(level: str) -> None:
    transform = build_augment(level)
    assert transform is not None
    first, same, other = (
        transform(make_sample(), np.random.default_rng(seed)) for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(first.image, same.image)
    np.testing.assert_array_equal(first.masks, same.masks)
    assert (first.image != other.image).any()


def test_none_changes_nothing_and_unknown_levels_are_named() -> None:
    assert build_augment("none") is None
    with pytest.raises(
        ValueError, match=r"unknown augmentation 'hard'\. Known: none, light, strong"
    ):
        build_augment("hard")


def test_a_strength_of_nothing_leaves_only_the_mirror_images() -> None:
    sample = make_sample(colour=True)
    seen = set()
    for seed in range(60):
        moved = augment(sample, np.random.default_rng(seed), strength=STILL)
        image, masks = mirror(sample.image, sample.masks, np.random.default_rng(seed))
        np.testing.assert_array_equal(moved.image, image)
        np.testing.assert_array_equal(moved.masks, masks)
        seen.add(moved.masks.tobytes())
    assert len(seen) == 8


def test_an_oblong_image_is_never_laid_on_its_side() -> None:
    sample = make_sample(100, 140)
    seen = set()
    for seed in range(60):
        _, masks = mirror(sample.image, sample.masks, np.random.default_rng(seed))
        assert masks.shape == sample.masks.shape
        seen.add(masks.tobytes())
    assert len(seen) == 4


class Fixed(np.random.Generator):
    """A generator that always draws the upper end."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))

    def uniform(self, low=0.0, high=1.0, size=None):  # type: ignore[no-untyped-def,override]
        return high if size is None else np.full(size, high)


def centre(mask: np.ndarray) -> tuple[float, float]:
    y, x = center_of_mass(mask)
    return x + 0.5, y + 0.5


def test_a_shift_moves_by_its_share_of_each_side() -> None:
    sample = make_sample(100, 200)
    _, masks = move(sample.image, sample.masks, Fixed(), replace(STILL, shift=0.05))
    assert centre(masks[0]) == pytest.approx((75 + 10, 40 + 5), abs=0.05)


def test_a_zoom_enlarges_round_the_centre() -> None:
    sample = make_sample()
    _, masks = move(sample.image, sample.masks, Fixed(), replace(STILL, zoom=1.25))
    assert centre(masks[0]) == pytest.approx((60 + 15 * 1.25, 60 - 20 * 1.25), abs=0.2)
    assert masks[0].sum() == pytest.approx(np.pi * 15**2 * 1.25**2, rel=0.01)


def test_a_turn_keeps_distances_from_the_centre() -> None:
    sample = make_sample()
    _, masks = move(sample.image, sample.masks, Fixed(), replace(STILL, rotation=90))
    # A quarter turn takes (15, -20) off the centre to (20, 15).
    assert centre(masks[0]) == pytest.approx((60 + 20, 60 + 15), abs=0.05)
    assert masks[0].sum() == pytest.approx(sample.masks[0].sum(), rel=0.01)


def test_the_border_is_filled_with_the_mirror_image_in_both() -> None:
    image = np.full((60, 60, 1), 50, dtype=np.uint8)
    masks = np.zeros((1, 60, 60), dtype=bool)
    masks[0, :, 2] = True
    image[masks[0]] = 250
    moved_image, moved_masks = move(image, masks, Fixed(), replace(STILL, shift=0.1))
    # The line 2 px from the border now stands 8 px from it, and its reflection at 4.
    assert np.flatnonzero(moved_masks[0, 30]).tolist() == [4, 8]
    assert np.flatnonzero(moved_image[30, :, 0] > 150).tolist() == [4, 8]


def test_a_mask_is_never_pushed_out_of_the_picture() -> None:
    masks = np.zeros((2, 60, 60), dtype=bool)
    masks[0, 30, 59] = masks[1, 20:40, 20:40] = True
    image = np.full((60, 60, 3), 90, dtype=np.uint8)
    sample = Sample(case_id="a", group="a", image=image, masks=masks, phrases=("a", "b"))
    for seed in range(40):
        moved = augment(sample, np.random.default_rng(seed), strength=AUGMENTATIONS["strong"])
        assert moved.masks.any(axis=(1, 2)).all()


def test_a_tiny_image_survives() -> None:
    image = np.full((3, 2, 3), 90, dtype=np.uint8)
    sample = Sample(
        case_id="a", group="a", image=image, masks=np.ones((1, 3, 2), bool), phrases=("a",)
    )
    moved = augment(sample, np.random.default_rng(0), strength=AUGMENTATIONS["strong"])
    assert moved.masks.any()


def test_gamma_contrast_and_brightness_by_hand() -> None:
    image = np.array([[[0], [51]], [[102], [255]]], dtype=np.uint8)
    gamma = recolour(image, Fixed(), replace(STILL, gamma=2.0))
    # Brightness as a share of 255, squared.
    assert gamma.ravel().tolist() == [0, 10, 41, 255]
    contrast = recolour(image, Fixed(), replace(STILL, contrast=0.5))
    # The mean is 102: (v - 102) * 1.5 + 102, cut at 0 and 255.
    assert contrast.ravel().tolist() == [0, 26, 102, 255]
    brightness = recolour(image, Fixed(), replace(STILL, brightness=10))
    assert brightness.ravel().tolist() == [10, 61, 112, 255]


def test_noise_has_its_deviation_and_no_bias() -> None:
    image = np.full((300, 300, 1), 128, dtype=np.uint8)
    noisy = recolour(image, Fixed(), replace(STILL, noise=8.0)).astype(float)
    assert noisy.mean() == pytest.approx(128, abs=0.1)
    assert noisy.std() == pytest.approx(8, rel=0.02)


def test_blur_softens_an_edge() -> None:
    image = np.zeros((20, 20, 1), dtype=np.uint8)
    image[:, 10:] = 200
    blurred = recolour(image, Fixed(), replace(STILL, blur=1.0, blur_share=1.0))
    assert 0 < blurred[10, 9, 0] < blurred[10, 10, 0] < 200


def test_a_grey_image_stays_grey() -> None:
    moved = augment(make_sample(), np.random.default_rng(1), strength=AUGMENTATIONS["strong"])
    assert (moved.image == moved.image[..., :1]).all()
