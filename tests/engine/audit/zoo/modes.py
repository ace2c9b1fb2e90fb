"""Grad modes around whole models and around their parts."""

from functools import partial

import torch
import torch.nn.functional as F
from tests.engine.audit.zoo.carriers import Net, Two, inputs, note, truth
from tests.engine.audit.zoo.case import Case, Fault
from torch import Tensor, nn

ALL = ("first", "last")

# --- the closure runs the model without a graph


def whole_model_in_a_block() -> Case:
    model, x, y = Net(), inputs(), truth()

    def loss() -> Tensor:
        with torch.no_grad():  # cut
            answer = model(x)
        return F.mse_loss(answer, y)

    return Case(model, loss)


def metric_in_a_block() -> Case:
    model, x, y = Net(), inputs(), truth()

    def loss() -> Tensor:
        answer = model(x)
        with torch.no_grad():
            note(((answer > 0) == (y > 0)).float().mean())
            note(F.mse_loss(model(x), y))
        return F.mse_loss(answer, y)

    return Case(model, loss)


def whole_loss_decorated() -> Case:
    model, x, y = Net(), inputs(), truth()

    @torch.inference_mode()  # cut
    def loss() -> Tensor:
        return F.mse_loss(model(x), y)

    return Case(model, loss)


def whole_loss_in_a_switch() -> Case:
    model, x, y = Net(), inputs(), truth()

    def loss() -> Tensor:
        with torch.set_grad_enabled(mode=False):  # cut
            return F.mse_loss(model(x), y)

    return Case(model, loss)


def switched_by_training_mode() -> Case:
    """The graph is on while the model is in training mode; it was left in evaluation mode."""
    model, x, y = Net().eval(), inputs(), truth()

    def loss() -> Tensor:
        with torch.set_grad_enabled(model.training):  # cut
            return F.mse_loss(model(x), y)

    return Case(model, loss)


def switched_on_by_training_mode() -> Case:
    model, x, y = Net().train(), inputs(), truth()

    def loss() -> Tensor:
        with torch.set_grad_enabled(model.training):
            return F.mse_loss(model(x), y)

    return Case(model, loss)


def switched_off_for_good() -> Case:
    model, x, y = Net(), inputs(), truth()

    def loss() -> Tensor:
        torch.set_grad_enabled(False)  # cut
        return F.mse_loss(model(x), y)

    return Case(model, loss)


def switched_off_and_on() -> Case:
    model, x, y = Net(), inputs(), truth()

    def loss() -> Tensor:
        torch.set_grad_enabled(False)
        note(model(x).mean())
        torch.set_grad_enabled(True)
        return F.mse_loss(model(x), y)

    return Case(model, loss)


def switched_on_inside() -> Case:
    """A block without a graph, in which it is switched on again where it matters."""
    model, x, y = Net(), inputs(), truth()

    def loss() -> Tensor:
        with torch.no_grad():
            note(model(x).mean())
            with torch.enable_grad():
                return F.mse_loss(model(x), y)

    return Case(model, loss)


# --- a part of the model runs without a graph


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 5)

    @torch.no_grad()  # cut
    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.layer(x))


class Headed(nn.Module):
    """An encoder and a head, both meant to learn."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.encoder = encoder
        self.head = nn.Linear(5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x))


def decorated_forward() -> Case:
    model, x, y = Headed(Encoder()), inputs(), truth()
    return Case(model, lambda: F.mse_loss(model(x), y))


def decorated_forward_of_a_frozen_part() -> Case:
    case = decorated_forward()
    case.model.encoder.requires_grad_(False)
    return case


class Blocked(nn.Module):
    """Two trunks; one runs in a block without a graph."""

    def __init__(self, live: bool) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.live = live
        self.still = nn.Linear(6, 5)
        self.lively = nn.Linear(6, 5)
        self.head = nn.Linear(5, 1)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():  # cut
            state = self.still(x)
            state = torch.relu(state)
        if self.live:
            note(state)
            state = torch.relu(self.still(x))
        return self.head(torch.tanh(self.lively(x)) + state)


def blocked(live: bool) -> Case:
    model, x, y = Blocked(live), inputs(), truth()
    return Case(model, lambda: F.mse_loss(model(x), y))


def inference_meets_weights() -> Case:
    """torch itself refuses to save a tensor of inference mode for backward()."""
    model, x, y = Two(), inputs(), truth()

    def loss() -> Tensor:
        with torch.inference_mode():  # cut
            state = model.trunk(x)
        return F.mse_loss(model.left(state) + model.right(state), y)

    return Case(model, loss)


def inference_meets_nothing() -> Case:
    model, x, y = Two(), inputs(), truth()

    def loss() -> Tensor:
        with torch.inference_mode():
            note(model.left(model.trunk(x)).max())
        left, right = model(x)
        return F.mse_loss(left + right, y)

    return Case(model, loss)


MODES = [
    Fault(
        "whole model in a no_grad block",
        "no_grad",
        whole_model_in_a_block,
        whole_model_in_a_block,
        ALL,
        twins=(metric_in_a_block, switched_on_inside),
    ),
    Fault(
        "whole loss under inference_mode",
        "inference_mode",
        whole_loss_decorated,
        whole_loss_decorated,
        ALL,
    ),
    Fault(
        "whole loss under set_grad_enabled",
        "set_grad_enabled",
        whole_loss_in_a_switch,
        whole_loss_in_a_switch,
        ALL,
    ),
    Fault(
        "graph switched by a training mode left at eval",
        "set_grad_enabled",
        switched_by_training_mode,
        switched_by_training_mode,
        ALL,
        twins=(switched_on_by_training_mode,),
    ),
    Fault(
        "graph switched off for good",
        "set_grad_enabled",
        switched_off_for_good,
        switched_off_for_good,
        ALL,
        twins=(switched_off_and_on,),
    ),
    Fault(
        "a part's forward is decorated",
        "no_grad",
        decorated_forward,
        Encoder,
        ("encoder",),
        module="encoder",
        twins=(decorated_forward_of_a_frozen_part,),
    ),
    Fault(
        "a block without a graph beside a live trunk",
        "no_grad",
        partial(blocked, False),
        Blocked,
        ("still",),
        twins=(partial(blocked, True),),
    ),
    Fault(
        "inference tensors meet weights",
        "inference_mode",
        inference_meets_weights,
        inference_meets_weights,
        ("trunk",),
        twins=(inference_meets_nothing,),
        refused=True,
    ),
]
