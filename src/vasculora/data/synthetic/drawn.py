"""Drawn cases as an endless data set: every epoch draws new ones."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from torch.utils.data import Dataset

from vasculora.core.types import Sample
from vasculora.data.dataset import draw_lot
from vasculora.data.synthetic.choice import choose, reword
from vasculora.data.synthetic.phrases import SYNONYMS
from vasculora.data.synthetic.probes import PLACES, draw_probe
from vasculora.data.synthetic.shapes import draw_shapes
from vasculora.data.synthetic.styles import PRETRAINING_SHARES, PRETRAINING_STYLES, draw_case


class DrawnDataset(Dataset[Sample]):
    """Vessel trees and shapes, each image with several phrases that mean different masks.

    Args:
        num: Cases an epoch.
        size: Side of an image in pixels.
        seed: Seed of everything random.
        shapes_share: Share of images that show shapes, in [0, 1].
        max_phrases: Most phrases kept of an image.
        places_share: Share of images that are asked for nothing but left and right, in [0, 1]; the
            shares above are of the rest.
        transform: Varies vessel images; shapes, and what is asked for sides alone, stay as is.
    """

    def __init__(
        self,
        num: int,
        *,
        size: int,
        seed: int,
        shapes_share: float,
        max_phrases: int,
        places_share: float = 0.0,
        transform: Callable[[Sample, np.random.Generator], Sample] | None = None,
    ) -> None:
        self._num = num
        self._size = size
        self._seed = seed
        self._shapes_share = shapes_share
        self._max_phrases = max_phrases
        self._places_share = places_share
        self._transform = transform
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Draw other cases from now on."""
        self._epoch = epoch

    def __len__(self) -> int:
        """Return the number of cases in an epoch."""
        return self._num

    def __getitem__(self, index: int) -> Sample:
        """Return one drawn case."""
        sample = self._draw(index, np.random.default_rng([self._seed, self._epoch, index]))
        return replace(sample, lot=draw_lot(self._seed, self._epoch, index))

    def _draw(self, index: int, rng: np.random.Generator) -> Sample:
        case_id = f"{self._epoch:04d}-{index:05d}"
        if rng.random() < self._places_share:
            places = draw_probe(PLACES, rng, self._size)
            return replace(places, case_id=case_id, group=case_id)
        if rng.random() < self._shapes_share:
            shapes = draw_shapes(size=self._size, rng=rng, case_id=case_id)
            return choose(shapes, rng, most=self._max_phrases)
        style = str(rng.choice(PRETRAINING_STYLES, p=list(PRETRAINING_SHARES.values())))
        sample = draw_case(style, size=self._size, rng=rng, case_id=case_id)
        sample = choose(sample, rng, most=self._max_phrases)
        sample = reword(sample, rng, SYNONYMS[style])
        return sample if self._transform is None else self._transform(sample, rng)
