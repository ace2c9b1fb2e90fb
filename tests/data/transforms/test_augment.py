import pickle

import numpy as np
import pytest
from scipy.ndimage import median_filter

from vasculora.core.types import Sample
from vasculora.data.modality import MODALITIES
from vasculora.data.transforms import (
    AUGMENTATIONS,
    augment,
    build_augment,
    knows_modality,
)
from vasculora.data.transforms.geometry import draw_flips, mirror

LEVELS = [("light", None), ("strong", None), *(("strong", kind) for kind in MODALITIES)]
STRONG = AUGMENTATIONS["strong"]
LIGHT_GREYS = [[51, 53, 51, 51], [52, 52, 45, 50], [52, 52, 52, 52], [52, 52, 53, 51]]
LIGHT_AREAS = [662, 193]
STRONGER = [(level, kind) for level, kind in LEVELS if level == "strong"]


@pytest.mark.parametrize(("level", "kind"), LEVELS)
@pytest.mark.parametrize("size", [(120, 120), (100, 140)])
@pytest.mark.parametrize("colour", [False, True])
def test_image_and_masks_move_alike(level, kind, size, colour, make_sample) -> None:
    transform = build_augment(level, kind)
    sample = make_sample(*size, colour=colour)
    # uneven light and noise blur where a disk ends, so they are given more room
    least = 0.95 if level == "light" else 0.93 if kind is None else 0.85
    for seed in range(15 if kind is None else 5):
        moved = transform(sample, np.random.default_rng(seed))
        bright = median_filter(moved.image[..., 0].astype(float), 3)
        union = moved.masks.any(axis=0)
        # Both disks are far brighter than the ground, so the halfway cut finds them again.
        found = bright > (bright[union].mean() + bright[~union].mean()) / 2
        overlap = 2 * (found & union).sum() / (found.sum() + union.sum())
        assert overlap > least, seed
        # Each mask stays with its phrase: the large disk is the first.
        assert moved.masks[0].sum() > 1.5 * moved.masks[1].sum()


@pytest.mark.parametrize(("level", "kind"), LEVELS)
def test_kind_and_size_are_kept_and_the_original_is_untouched(level, kind, make_sample) -> None:
    transform = build_augment(level, kind)
    for sample in (make_sample(), make_sample(90, 150, colour=True)):
        before = sample.image.copy(), sample.masks.copy()
        sample.image.flags.writeable = sample.masks.flags.writeable = False
        for seed in range(4):
            moved = transform(sample, np.random.default_rng(seed))
            assert moved.image.dtype == np.uint8
            assert moved.masks.dtype == bool
            assert moved.image.shape == sample.image.shape
            assert moved.masks.shape == sample.masks.shape
            assert (moved.case_id, moved.phrases) == (sample.case_id, sample.phrases)
        np.testing.assert_array_equal(sample.image, before[0])
        np.testing.assert_array_equal(sample.masks, before[1])


@pytest.mark.parametrize(("level", "kind"), LEVELS)
def test_equal_seeds_give_equal_samples_and_others_do_not(level, kind, make_sample) -> None:
    transform = build_augment(level, kind)
    sent = pickle.loads(pickle.dumps(transform))  # as a worker gets it
    for seed in range(3):
        first, same, other = (
            way(make_sample(), np.random.default_rng(number))
            for way, number in ((transform, seed), (sent, seed), (transform, seed + 1))
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


def test_only_the_strong_level_asks_what_kind_of_picture_it_is(make_sample) -> None:
    assert [knows_modality(name) for name in ("none", "light", "strong")] == [False, False, True]
    samples = [
        build_augment("light", kind)(make_sample(), np.random.default_rng(1))
        for kind in (None, "xray", "octa")
    ]
    assert all((sample.image == samples[0].image).all() for sample in samples)


def test_the_level_light_draws_what_it_always_drew(make_sample) -> None:
    # of the level's first form; what trained with it must be able to train so again
    moved = build_augment("light")(make_sample(), np.random.default_rng(7))
    assert moved.image[::30, ::30, 0].tolist() == LIGHT_GREYS
    assert moved.masks.sum(axis=(1, 2)).tolist() == LIGHT_AREAS


def test_a_strength_of_nothing_leaves_only_the_mirror_images(still, make_sample) -> None:
    sample = make_sample(colour=True)
    seen = set()
    for seed in range(40):
        moved = augment(sample, np.random.default_rng(seed), strength=still)
        flips = draw_flips(np.random.default_rng(seed), sample.phrases, size=(120, 120))
        image, masks = mirror(sample.image, sample.masks, flips)
        np.testing.assert_array_equal(moved.image, image)
        np.testing.assert_array_equal(moved.masks, masks)
        seen.add(moved.masks.tobytes())
    assert len(seen) == 8


def test_a_phrase_with_a_side_still_names_its_mask(make_sample) -> None:
    sample = make_sample(phrases=("the disk on the right", "left shape"))
    phrases = set()
    for seed in range(20):
        moved = augment(sample, np.random.default_rng(seed), strength=STRONG)
        across = [np.argwhere(mask)[:, 1].mean() for mask in moved.masks]
        right = "right" in moved.phrases[0]
        assert right == (across[0] > across[1])
        assert ("left" in moved.phrases[1]) == right
        phrases.add(moved.phrases)
    assert phrases == {
        ("the disk on the right", "left shape"),
        ("the disk on the left", "right shape"),
    }


def test_a_side_of_the_body_is_never_mirrored(still, make_sample) -> None:
    sample = make_sample(phrases=("left anterior descending artery", "vessel"))
    for seed in range(20):
        moved = augment(sample, np.random.default_rng(seed), strength=still)
        np.testing.assert_array_equal(moved.image, sample.image)
        assert moved.phrases == sample.phrases


def test_a_mask_is_never_pushed_out_of_the_picture() -> None:
    masks = np.zeros((2, 60, 60), dtype=bool)
    masks[0, 30, 59] = masks[1, 20:40, 20:40] = True
    image = np.full((60, 60, 3), 90, dtype=np.uint8)
    sample = Sample(case_id="a", group="a", image=image, masks=masks, phrases=("a", "b"))
    for seed in range(40):
        moved = augment(sample, np.random.default_rng(seed), strength=STRONG)
        assert moved.masks.any(axis=(1, 2)).all()


@pytest.mark.parametrize(("level", "kind"), STRONGER)
def test_a_tiny_image_survives(level, kind) -> None:
    image = np.full((3, 2, 3), 90, dtype=np.uint8)
    sample = Sample(
        case_id="a", group="a", image=image, masks=np.ones((1, 3, 2), bool), phrases=("a",)
    )
    for seed in range(8):
        moved = build_augment(level, kind)(sample, np.random.default_rng(seed))
        assert moved.masks.any()


@pytest.mark.parametrize(("level", "kind"), STRONGER)
def test_a_grey_image_stays_grey(level, kind, make_sample) -> None:
    for seed in range(8):
        moved = build_augment(level, kind)(make_sample(), np.random.default_rng(seed))
        assert (moved.image == moved.image[..., :1]).all()
