"""Small nets that carry a fault: alive layers before and behind it, so that little shows."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from tests.engine.audit.zoo.case import Case
from torch import Tensor, nn

Op = Callable[[Tensor], Tensor]

LOG: list[str] = []
"""Where healthy twins write what they only want to see."""


def note(value: object) -> None:
    """Keep what a value looks like, as a logger does."""
    LOG.append(repr(value)[:80])
    del LOG[:-5]


def seeded() -> torch.Generator:
    """Return random numbers of its own, so that building a case disturbs no other."""
    return torch.Generator().manual_seed(0)


def inputs(rows: int = 7, width: int = 6) -> Tensor:
    """Return a batch of inputs."""
    return torch.randn(rows, width, generator=seeded())


def truth(rows: int = 7) -> Tensor:
    """Return a batch of targets."""
    return torch.linspace(-1, 1, rows)[:, None]


class Middle(nn.Module):
    """A module whose forward pass is the planted operation."""

    def __init__(self, op: Op) -> None:
        super().__init__()
        self.op = op

    def forward(self, h: Tensor) -> Tensor:
        return self.op(h)


class Net(nn.Module):
    """first -> op -> last."""

    def __init__(self, op: Op = lambda h: h) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first = nn.Linear(6, 5)
        self.middle = Middle(op)
        self.last = nn.Linear(5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.middle(torch.tanh(self.first(x))))


class Two(nn.Module):
    """Two heads on a trunk; each returns its own answer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.trunk = nn.Linear(6, 5)
        self.left = nn.Linear(5, 1)
        self.right = nn.Linear(5, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(self.trunk(x))
        return self.left(h), self.right(h)


def early(op: Op) -> Case:
    """Return a net with an operation between its layers: only what is before it can lose."""
    model, x, y = Net(op), inputs(), truth()
    return Case(model, lambda: F.mse_loss(model(x), y))


def late(op: Op) -> Case:
    """Return a net with an operation between its answer and the loss: all of it can lose."""
    model, x, y = Net(), inputs(), truth()
    return Case(model, lambda: F.mse_loss(op(model(x)), y))


def aside(op: Op) -> Case:
    """Return a healthy net in which the operation's result is only looked at."""

    def shown(h: Tensor) -> Tensor:
        note(op(h))
        return h

    return early(shown)


def beside(op: Op) -> Case:
    """Return a healthy net in which the operation's result is added to a live one."""
    return early(lambda h: h + op(h))


def plain(model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> Case:
    """Return a model of one input and one answer with an ordinary loss."""
    x, y = inputs(), truth()
    return Case(model, lambda: F.mse_loss(model(x), y), optimizer)
