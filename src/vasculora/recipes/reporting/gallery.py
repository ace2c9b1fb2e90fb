"""The cases that people look at: the best, the median and the worst, asked once more."""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Bool

from vasculora.core.types import Sample
from vasculora.data.dataset import VesselDataset
from vasculora.engine.evaluator import questions
from vasculora.engine.scores import CaseScore, Evaluation
from vasculora.recipes.reporting.report import GalleryCase

Rank = Literal["best", "median", "worst"]

Ask = Callable[[Sample], Bool[np.ndarray, "_ _"]]
"""Gives the predicted mask of a sample with one phrase."""


def pick_gallery(
    evaluation: Evaluation, data: VesselDataset, ask: Ask, *, num: int
) -> list[GalleryCase]:
    """Return the pictures of some cases: a third of the best, of the median and of the worst.

    Args:
        evaluation: What was scored.
        data: Its samples.
        ask: Gives a mask once more, so that not all of them are held.
        num: How many; all of them where there are fewer.
    """
    return [
        GalleryCase(
            case_id=case.case_id,
            group=case.group,
            rank=rank,
            dice=case.dice,
            image=sample.image,
            mask=sample.masks[0],
            pred=ask(sample),
        )
        for rank, case in choose_cases(evaluation.ranked(), num=num)
        for sample in _asked_for(data, case.case_id)
    ]


def choose_cases(ranked: Sequence[CaseScore], *, num: int) -> list[tuple[Rank, CaseScore]]:
    """Return cases of all ranks, none twice, from the best to the worst.

    Args:
        ranked: All cases by falling Dice.
        num: How many at most.
    """
    total = min(num, len(ranked))
    num_best, num_worst, num_median = (total + 2) // 3, (total + 1) // 3, total // 3
    worst = len(ranked) - num_worst
    median = num_best + (worst - num_best - num_median) // 2
    places: list[tuple[Rank, int, int]] = [
        ("best", 0, num_best),
        ("median", median, num_median),
        ("worst", worst, num_worst),
    ]
    return [(rank, case) for rank, at, size in places for case in ranked[at : at + size]]


def _asked_for(data: VesselDataset, case_id: str) -> Iterator[Sample]:
    """Yield the sample of a scored case, with that case's phrase alone."""
    for index, record in enumerate(data.records):
        if case_id.startswith(record.case_id):
            for question in questions(data[index]):
                if question.case_id == case_id:
                    yield question
                    return
    raise KeyError(case_id)
