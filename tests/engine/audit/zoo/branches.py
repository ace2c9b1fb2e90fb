"""Results of which nothing is taken, and parts that do not run on this batch."""

from functools import partial

import torch
import torch.nn.functional as F
from tests.engine.audit.zoo.carriers import Two, inputs, truth
from tests.engine.audit.zoo.case import Case, Fault
from torch import Tensor, nn

# --- nothing of the result is taken


def boolean_index(num: int) -> Case:
    model, x, y = Two(), inputs(), truth()
    chosen = torch.arange(len(x)) < num

    def loss() -> Tensor:
        left, right = model(x)
        extra = (right - y)[chosen].square().sum()  # cut
        return F.mse_loss(left, y) + extra

    return Case(model, loss)


def empty_index(num: int) -> Case:
    model, x, y = Two(), inputs(), truth()
    rows = torch.arange(num)

    def loss() -> Tensor:
        left, right = model(x)
        found = right.index_select(0, rows)  # cut
        return F.mse_loss(left, y) + found.square().sum()  # or

    return Case(model, loss)


def where_never(share: float) -> Case:
    model, x, y = Two(), inputs(), truth()
    usual = torch.arange(len(x))[:, None] < share * len(x)

    def loss() -> Tensor:
        left, right = model(x)
        return F.mse_loss(torch.where(usual, left, right), y)  # cut # or zero_weight

    return Case(model, loss)


def filled_everywhere(share: float) -> Case:
    model, x, y = Two(), inputs(), truth()
    padding = torch.arange(len(x))[:, None] < share * len(x)

    def loss() -> Tensor:
        left, right = model(x)
        error = (right - y).square().masked_fill(padding, 0.0)  # cut # or zero_weight
        return F.mse_loss(left, y) + error.mean()

    return Case(model, loss)


class Branches(nn.Module):
    """A second path that is run on request."""

    def __init__(self, wanted: bool) -> None:
        super().__init__()
        torch.manual_seed(8)
        self.wanted = wanted
        self.trunk = nn.Linear(6, 1)
        self.branch = nn.Sequential(nn.Linear(6, 3), nn.Tanh(), nn.Linear(3, 1))

    def forward(self, x: Tensor) -> Tensor:
        answer = self.trunk(x)
        if self.wanted:  # maybe
            answer = answer + self.branch(x)  # or
        return answer


def branch(wanted: bool) -> Case:
    model, x, y = Branches(wanted), inputs(), truth()
    return Case(model, lambda: F.mse_loss(model(x), y))


def branch_by_data(threshold: float) -> Case:
    """Whether the part runs depends on the values of this very batch."""
    model, x, y = Two(), inputs(), truth()

    def loss() -> Tensor:
        state = torch.tanh(model.trunk(x))
        answer = model.left(state)
        if answer.mean() > threshold:  # maybe
            answer = answer + model.right(state)
        return F.mse_loss(answer, y)

    return Case(model, loss)


RIGHT = ("right",)
BRANCHES = [
    Fault(
        "a boolean index that selects nothing",
        "branch_not_taken",
        partial(boolean_index, 0),
        boolean_index,
        RIGHT,
        twins=(partial(boolean_index, 2),),
    ),
    Fault(
        "an index that is empty",
        "branch_not_taken",
        partial(empty_index, 0),
        empty_index,
        RIGHT,
        twins=(partial(empty_index, 3),),
    ),
    Fault(
        "where that takes one side only",
        "branch_not_taken",
        partial(where_never, 1.0),
        where_never,
        RIGHT,
        twins=(partial(where_never, 0.5),),
    ),
    Fault(
        "masked_fill everywhere",
        "branch_not_taken",
        partial(filled_everywhere, 1.0),
        filled_everywhere,
        RIGHT,
        twins=(partial(filled_everywhere, 0.5),),
    ),
    Fault(
        "a branch that is not taken",
        "branch_not_taken",
        partial(branch, False),
        Branches,
        ("branch",),
        module="branch",
        twins=(partial(branch, True),),
    ),
    Fault(
        "a branch that this batch does not take",
        "branch_not_taken",
        partial(branch_by_data, 1e3),
        branch_by_data,
        RIGHT,
        module="right",
        twins=(partial(branch_by_data, -1e3),),
    ),
]
