"""Probes: only contrasting phrases, each of something that is there, drawn alike every time."""

import numpy as np
import pytest

from vasculora.data.synthetic.probes import PROBES, draw_probe


@pytest.mark.parametrize("name", PROBES)
def test_a_probe_asks_for_different_things_that_are_there(name: str) -> None:
    for seed in range(5):
        sample = draw_probe(name, np.random.default_rng(seed), 96)
        assert set(sample.phrases) <= PROBES[name][0]
        assert len(sample.phrases) >= 2
        assert sample.masks.any(axis=(1, 2)).all()
        assert sample.masks.sum(axis=0).max() == 1
    again = draw_probe(name, np.random.default_rng(4), 96)
    assert again.image.tobytes() == sample.image.tobytes()
    assert again.masks.tobytes() == sample.masks.tobytes()


def test_an_unknown_probe_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'loud'.*left / right"):
        draw_probe("loud", np.random.default_rng(0), 64)
