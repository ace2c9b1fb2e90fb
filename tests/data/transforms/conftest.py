"""What tests of augmentation share: two disks, a generator without chance, a still strength."""

from dataclasses import replace

import numpy as np
import pytest

from vasculora.core.types import Sample
from vasculora.data.transforms.strength import AUGMENTATIONS


class Fixed(np.random.Generator):
    """A generator that always draws the upper end."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))

    def uniform(self, low=0.0, high=1.0, size=None):
        return high if size is None else np.full(size, high)


@pytest.fixture
def fixed():
    return Fixed()


@pytest.fixture
def still():
    nothing = dict.fromkeys(vars(AUGMENTATIONS["strong"]), 0) | {"zoom": 1, "gamma": 1}
    return replace(AUGMENTATIONS["strong"], **nothing)


def disk(height: int, width: int, x: float, y: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return (columns + 0.5 - x) ** 2 + (rows + 0.5 - y) ** 2 < radius**2


@pytest.fixture
def make_sample():
    def make(height=120, width=120, *, colour=False, phrases=("large", "small")):
        masks = np.stack([disk(height, width, 75, 40, 15), disk(height, width, 40, 70, 8)])
        image = np.full((height, width, 3), 60, dtype=np.uint8)
        image[masks.any(axis=0)] = (200, 150, 180) if colour else 200
        return Sample(case_id="a", group="a", image=image, masks=masks, phrases=phrases)

    return make
