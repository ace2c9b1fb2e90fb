"""Referring shapes: reproducible, and every phrase's mask is what the words say."""

from itertools import combinations

import numpy as np

from vasculora.core.types import Sample
from vasculora.data.synthetic.shapes import (
    COLOURS,
    FORMS,
    SHAPE_PHRASES,
    draw_named_shapes,
    draw_shapes,
)


def _case(seed: int, size: int = 96) -> Sample:
    return draw_shapes(size=size, rng=np.random.default_rng(seed), case_id="0000")


def test_the_same_seed_draws_the_same_bytes() -> None:
    first, second, other = _case(1), _case(1), _case(2)
    assert first.image.tobytes() == second.image.tobytes()
    assert first.masks.tobytes() == second.masks.tobytes()
    assert first.phrases == second.phrases
    assert first.image.tobytes() != other.image.tobytes()


def test_phrases_are_known_distinct_and_mostly_mean_different_masks() -> None:
    same, pairs, empty = 0, 0, 0
    for seed in range(60):
        sample = _case(seed)
        assert sample.masks.shape == (len(sample.phrases), 96, 96)
        assert sample.masks.dtype == bool
        assert len(set(sample.phrases)) == len(sample.phrases) >= 3
        assert set(sample.phrases) <= set(SHAPE_PHRASES)
        assert sample.masks[0].any()
        empty += sum(not mask.any() for mask in sample.masks)
        for one, other in combinations(sample.masks, 2):
            pairs += 1
            same += np.array_equal(one, other)
    assert same < 0.25 * pairs
    assert 3 <= empty <= 40


def test_a_named_colour_is_the_colour_seen() -> None:
    checked = 0
    for seed in range(60):
        sample = _case(seed)
        for phrase, mask in zip(sample.phrases, sample.masks, strict=True):
            colour, _, form = phrase.partition(" ")
            if colour in COLOURS and form in FORMS and mask.any():
                seen = sample.image[mask].mean(axis=0)
                distance = {
                    name: np.linalg.norm(seen - np.array(value)) for name, value in COLOURS.items()
                }
                assert min(distance, key=lambda name: distance[name]) == colour
                checked += 1
    assert checked > 60


def test_left_is_left_of_right() -> None:
    checked = 0
    for seed in range(200):
        sample = _case(seed, 64)
        named = dict(zip(sample.phrases, sample.masks, strict=True))
        if "left shape" in named and "right shape" in named:
            left, right = (
                np.nonzero(named[phrase])[1].mean() for phrase in ("left shape", "right shape")
            )
            assert left < right
            checked += 1
    assert checked > 5


def test_most_images_need_both_words() -> None:
    shared = 0
    for seed in range(60):
        exact = [key for key in map(str.split, _named(seed)) if key[0] in COLOURS]
        kinds = [(one, two) for one, two in exact if two in FORMS]
        shared += any(a[0] == b[0] or a[1] == b[1] for a, b in combinations(kinds, 2))
    assert shared > 35


def test_sides_and_sizes_are_beyond_doubt() -> None:
    checked = 0
    for seed in range(60):
        named = _named(seed)
        if "left shape" in named:
            left, right = named["left shape"], named["right shape"]
            assert np.array_equal(left | right, named["shape"])
            assert np.nonzero(left)[1].mean() < 48 < np.nonzero(right)[1].mean()
            checked += 1
        assert ("large shape" in named) == ("small shape" in named)
        assert ("left shape" in named) == ("right shape" in named)
    assert checked > 20


def _named(seed: int) -> dict[str, np.ndarray]:
    return draw_named_shapes(np.random.default_rng(seed), 96)[1]
