"""Tensors that are overwritten: leaves, values the graph still needs, weights that are frozen."""

from functools import partial

import torch
import torch.nn.functional as F
from tests.engine.audit.zoo.carriers import Net, aside, early, inputs, note, truth
from tests.engine.audit.zoo.case import Case, Fault
from torch import Tensor, nn


class Words(nn.Module):
    """An embedding and a head; one word is not to count."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(12)
        self.embedding = nn.Embedding(9, 5)
        self.head = nn.Linear(5, 1)
        self.ids = torch.tensor([1, 2, 3, 4, 5, 6, 7])

    def forward(self, table: Tensor) -> Tensor:
        return self.head(F.embedding(self.ids, table))


def fill_a_view() -> Case:
    """The seed's line: rows of a weight are filled in place."""
    model, y = Words(), truth()

    def loss() -> Tensor:
        rows = model.embedding.weight[2:4]
        rows.masked_fill_(torch.ones(2, 1, dtype=torch.bool), 0.0)  # cut
        return F.mse_loss(model(model.embedding.weight), y)

    return Case(model, loss)


def fill_a_copy() -> Case:
    model, y = Words(), truth()

    def loss() -> Tensor:
        table = model.embedding.weight.clone()
        table[2:4].masked_fill_(torch.ones(2, 1, dtype=torch.bool), 0.0)
        return F.mse_loss(model(table), y)

    return Case(model, loss)


def assign_to_rows() -> Case:
    """The seed's other line: indexed assignment into a weight."""
    model, y = Words(), truth()

    def loss() -> Tensor:
        model.embedding.weight[0] = torch.zeros(5)  # cut
        return F.mse_loss(model(model.embedding.weight), y)

    return Case(model, loss)


def assign_to_a_view() -> Case:
    model, y = Words(), truth()

    def loss() -> Tensor:
        table = model.embedding.weight.view(3, 3, 5)
        table[1, 1] = 0.5  # cut
        return F.mse_loss(model(table.view(9, 5)), y)

    return Case(model, loss)


def assign_to_rows_of_a_copy() -> Case:
    model, y = Words(), truth()

    def loss() -> Tensor:
        table = model.embedding.weight * 1
        table[0] = torch.zeros(5)
        note(table)
        return F.mse_loss(model(table), y)

    return Case(model, loss)


def add_to_a_weight() -> Case:
    model, x, y = Net(), inputs(), truth()

    def loss() -> Tensor:
        model.first.bias.add_(0.1)  # cut
        return F.mse_loss(model(x), y)

    return Case(model, loss)


def weights_held_in_bounds() -> Case:
    """A trainable weight is clipped before it is used, outside the graph: nothing is lost."""
    model, x, y = Net(), inputs(), truth()

    def loss() -> Tensor:
        with torch.no_grad():
            model.first.weight.clamp_(-0.3, 0.3)
            model.last.bias.mul_(0.99)
        return F.mse_loss(model(x), y)

    return Case(model, loss)


def sigmoid_overwritten(h: Tensor) -> Tensor:
    """Refused only in backward(): sigmoid needs its own result there."""
    probability = torch.sigmoid(h)
    probability += 1  # cut
    return probability


def exponent_overwritten(h: Tensor) -> Tensor:
    rate = h.exp()
    rate[:, 0] = 0.0  # cut
    return rate


def factor_overwritten(h: Tensor) -> Tensor:
    scale = h.tanh()
    product = h * scale
    scale.zero_()  # cut
    return product


def relu_in_place(h: Tensor) -> Tensor:
    return F.relu_(h * 2)


def copy_overwritten(h: Tensor) -> Tensor:
    probability = torch.sigmoid(h)
    shown = probability.clone()
    shown += 1
    shown[:, 0] = 0.0
    note(shown)
    return probability


def room_filled(h: Tensor) -> Tensor:
    """Writing into a fresh tensor keeps the graph."""
    room = torch.zeros(h.shape)
    room[:, 1:] = h[:, 1:]
    room[:, 0].copy_(h[:, 0])
    return room.mul_(1.5)


class Moving(nn.Module):
    """A frozen copy that follows the trained layer, as parameters or as buffers."""

    def __init__(self, buffers: bool) -> None:
        super().__init__()
        torch.manual_seed(13)
        self.online = nn.Linear(6, 3)
        self.follower = nn.Linear(6, 3).requires_grad_(False)
        self.by_buffers = buffers
        if buffers:
            del self.follower
            self.register_buffer("kept", torch.randn(3, 6))

    def forward(self, x: Tensor) -> Tensor:
        if self.by_buffers:
            self.kept.lerp_(self.online.weight.detach(), 0.1)
            return F.mse_loss(self.online(x), F.linear(x, self.kept))
        with torch.no_grad():
            self.follower.weight.lerp_(self.online.weight, 0.1)  # cut
            goal = self.follower(x)
        return F.mse_loss(self.online(x), goal)


def moving(buffers: bool) -> Case:
    model, x = Moving(buffers), inputs()
    return Case(model, lambda: model(x))


def frozen_scaled_through_data() -> Case:
    model, x, y = Net(), inputs(), truth()
    model.first.requires_grad_(False)

    def loss() -> Tensor:
        model.first.weight.data *= 0.9  # cut
        return F.mse_loss(model(x), y)

    return Case(model, loss)


def frozen_scaled_for_a_while() -> Case:
    """Scaled by a power of two and back: it is as it was."""
    model, x, y = Net(), inputs(), truth()
    model.first.requires_grad_(False)

    def loss() -> Tensor:
        return F.mse_loss(model(x) + F.linear(x, model.first.weight.data * 0.5).mean(), y)

    return Case(model, loss)


def frozen_normalised() -> Case:
    """A frozen batch norm left in training mode: its buffers move, its weights do not."""
    torch.manual_seed(14)
    model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 1))
    model[1].requires_grad_(False)
    x, y = inputs(), truth()
    return Case(model, lambda: F.mse_loss(model(x), y))


WORDS, FOLLOWERS = ("embedding",), ("follower",)
SAVED = (sigmoid_overwritten, exponent_overwritten, factor_overwritten)
WRITES = [
    Fault(
        "masked_fill_ on a leaf's view", "in_place", fill_a_view, fill_a_view, twins=(fill_a_copy,)
    ),
    Fault(
        "indexed assignment to a leaf",
        "in_place",
        assign_to_rows,
        assign_to_rows,
        twins=(assign_to_rows_of_a_copy,),
    ),
    Fault("assignment to a leaf's view", "in_place", assign_to_a_view, assign_to_a_view),
    Fault(
        "addition to a leaf",
        "in_place",
        add_to_a_weight,
        add_to_a_weight,
        twins=(weights_held_in_bounds,),
    ),
    *(
        Fault(
            op.__name__.replace("_", " "),
            "in_place",
            partial(early, op),
            op,
            module="middle",
            twins=(partial(early, copy_overwritten), partial(aside, op)),
            refused=True,
        )
        for op in SAVED
    ),
    Fault(
        "a frozen follower moves",
        "frozen_moved",
        partial(moving, False),
        Moving,
        module="follower",
        twins=(partial(moving, True), partial(early, room_filled), partial(early, relu_in_place)),
    ),
    Fault(
        "a frozen weight is scaled through data",
        "frozen_moved",
        frozen_scaled_through_data,
        frozen_scaled_through_data,
        module="first",
        twins=(frozen_scaled_for_a_while, frozen_normalised),
    ),
]
