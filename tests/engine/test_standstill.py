"""The sentinel on toy weights: plateaus, schedules and number formats that must not trip it."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import LambdaLR

from vasculora.core.errors import CannotLearnError
from vasculora.engine.scores import CaseScore, Evaluation
from vasculora.engine.sentinel import Sentinel, checksums


class Toy:
    """A linear model whose steps cost nothing, and scores that are given."""

    def __init__(self, factor, *, lr=0.1, make=SGD):
        torch.manual_seed(0)
        self.model = nn.Linear(6, 4)
        self.optimizer = make(self.model.parameters(), lr=lr)
        self.schedule = LambdaLR(self.optimizer, factor)
        groups = {"all": dict(self.model.named_parameters())}
        self.sentinel = Sentinel(groups=groups, optimizer=self.optimizer, warn=lambda text: None)

    def epoch(self, num_steps, dices=None, probs=(0.25, 0.5)):
        self.sentinel.begin_epoch()
        for _ in range(num_steps):
            self.model(torch.randn(8, 6)).square().mean().backward()
            self.optimizer.step()
            self.sentinel.after_step()
            self.schedule.step()
            self.optimizer.zero_grad()
        if dices is not None:
            self.sentinel.after_epoch(scored(dices, probs))


def scored(dices, probs=(0.25, 0.5)):
    return Evaluation(
        cases=tuple(
            CaseScore(
                case_id=str(index),
                group="",
                scores=dict.fromkeys(("dice", "iou", "sensitivity", "precision"), dice),
                mean_prob=prob,
            )
            for index, (dice, prob) in enumerate(zip(dices, probs, strict=True))
        ),
    )


def constant(step):
    return 1.0


def test_the_same_number_three_times_is_the_fault():
    toy = Toy(constant)
    toy.epoch(4, (0.7342, 0.7342))
    toy.epoch(4, (0.7342, 0.7342))
    with pytest.raises(CannotLearnError, match=r"for 3 epochs in a row \(mean Dice 0\.7342\)"):
        toy.epoch(4, (0.7342, 0.7342))


@pytest.mark.parametrize(
    "plateau",
    [
        [(0.7342, 0.7342 + 1e-6 * (epoch % 2)) for epoch in range(12)],
        [(0.0, 0.0), (0.0, 0.0), (0.6, 0.6), (0.6, 0.6), (0.61, 0.6)],
        [(0.7 + 0.01 * epoch, 0.7 - 0.01 * epoch) for epoch in range(8)],
        [(0.7, 0.7), (0.7, 0.7), (0.7, 0.6999999), (0.7, 0.7), (0.7, 0.7), (0.7, 0.71)],
        [(1.0, 1.0)] * 9,
    ],
    ids=["sixth decimal", "zero, then rising", "one mean", "two of three", "perfect"],
)
def test_an_honest_plateau(plateau):
    toy = Toy(constant)
    for dices in plateau:
        toy.epoch(2, dices)


def test_scores_may_stand_where_the_cosine_ends():
    optimizer_steps = 30 * 4
    toy = Toy(lambda step: 0.5 * (1 + np.cos(np.pi * step / optimizer_steps)))
    for epoch in range(30):
        toy.epoch(4, (0.5, 0.5) if epoch >= 23 else (epoch / 30, 0.5))


def test_a_fault_at_the_same_rates_is_seen():
    """So the test above can fail: the same scores, a rate that stays."""
    toy = Toy(constant)
    for epoch in range(25):
        toy.epoch(4, (0.5, 0.5) if epoch >= 23 else (epoch / 30, 0.5))
    with pytest.raises(CannotLearnError):
        toy.epoch(4, (0.5, 0.5))


def test_a_warm_up_from_zero_and_a_cosine_to_zero():
    def factor(step):
        return step / 3 if step < 3 else max(0.0, np.cos(np.pi / 2 * (step - 3) / 9))

    toy = Toy(factor)
    for _ in range(3):
        toy.epoch(4)


def test_float32_may_stop_at_the_very_end_of_a_long_cosine():
    """Rates of a millionth of the highest change no bit of weights around 1."""
    toy = Toy(lambda step: 1.0 if step < 8 else 1e-9, make=AdamW, lr=1e-3)
    with torch.no_grad():
        for param in toy.model.parameters():
            param.fill_(1.0)
    toy.epoch(140)


def test_one_tensor_that_moves_is_enough():
    """As in a LoRA whose first tensor has no gradient, or best-of-three's losing masks."""
    toy = Toy(constant)
    toy.optimizer.param_groups[0]["params"] = [toy.model.bias]
    toy.epoch(8)


def test_a_group_that_stops_late_is_seen():
    toy = Toy(constant)
    toy.epoch(100)
    toy.optimizer.param_groups[0]["params"] = [
        nn.Parameter(p.detach().clone()) for p in toy.model.parameters()
    ]
    with pytest.raises(CannotLearnError, match=r"all: after 130 optimizer steps"):
        toy.epoch(100)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_one_bit_of_one_weight_changes_the_checksum(dtype):
    params = {"a": nn.Parameter(torch.ones(3, 5, dtype=dtype)), "b": nn.Parameter(torch.ones(2))}
    before = checksums({"all": params})
    assert checksums({"all": params}) == before
    with torch.no_grad():
        params["a"][1, 2] += torch.finfo(dtype).eps
    after = checksums({"all": params})
    assert after["all"][0] != before["all"][0]
    assert after["all"][1] == before["all"][1]
