import math

import pytest
import torch
from pydantic import ValidationError
from torch.nn import Parameter

from vasculora.engine.optim import OptimConfig, build_optimizer, build_schedule


def rates(num_steps, warmup, count=None):
    """Return the learning rate of each step, as a share of the highest."""
    optimizer = build_optimizer([Parameter(torch.zeros(2, 2))], lr=1.0, weight_decay=0.0)
    schedule = build_schedule(optimizer, num_steps=num_steps, warmup=warmup)
    found = []
    for _ in range(num_steps if count is None else count):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_warm_up_and_cosine_by_hand():
    # two of ten steps rise; the other eight are eighths of half a cosine
    falling = [0.5 * (1 + math.cos(math.pi * k / 8)) for k in range(8)]
    assert rates(10, 0.2) == pytest.approx([0.5, 1.0, *falling])
    assert falling[4] == pytest.approx(0.5)


def test_without_warm_up_the_first_step_is_the_highest():
    assert rates(4, 0.0) == pytest.approx(
        [1.0, 0.5 + math.sqrt(0.125), 0.5, 0.5 - math.sqrt(0.125)]
    )


def test_after_the_last_step_nothing_moves():
    assert rates(4, 0.0, count=7)[4:] == pytest.approx([0, 0, 0])


def test_one_step_is_a_whole_run():
    assert rates(1, 0.1) == [1.0]
    assert rates(2, 0.5) == [1.0, 1.0]


def test_matrices_decay_and_vectors_do_not():
    matrix, vector = Parameter(torch.ones(2, 2)), Parameter(torch.ones(2))
    optimizer = build_optimizer([matrix, vector], lr=0.1, weight_decay=0.5)
    matrix.grad, vector.grad = torch.zeros(2, 2), torch.zeros(2)
    optimizer.step()
    torch.testing.assert_close(matrix.detach(), torch.full((2, 2), 0.95))
    assert torch.equal(vector.detach(), torch.ones(2))


@pytest.mark.parametrize("params", [[torch.ones(2)], [torch.ones(2, 2)]])
def test_one_kind_of_weight_is_enough(params):
    optimizer = build_optimizer([Parameter(p) for p in params], lr=0.1, weight_decay=0.5)
    assert len(optimizer.param_groups) == 1


def test_settings_are_bounded():
    for setting in ({"lr": -1e-4}, {"warmup": 1.0}, {"weight_decay": -1.0}, {"betas": (0.9, 0.99)}):
        with pytest.raises(ValidationError):
            OptimConfig(**setting)
