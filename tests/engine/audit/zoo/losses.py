"""Losses that do not depend on what should learn: weights of zero, constants, other tensors."""

import copy
from functools import partial

import torch
import torch.nn.functional as F
from tests.engine.audit.zoo.carriers import Net, Two, inputs, note, truth
from tests.engine.audit.zoo.case import Case, Fault, Place
from torch import Tensor, nn

# --- a weight of zero


def term_of_weight_zero() -> Case:
    model, x, y = Two(), inputs(), truth()

    def loss() -> Tensor:
        left, right = model(x)
        return F.mse_loss(left, y) + 0.0 * F.mse_loss(right, y)  # cut

    return Case(model, loss)


def more_of_a_live_term() -> Case:
    """The second term is switched off, and nothing hangs on it alone."""
    model, x, y = Two(), inputs(), truth()

    def loss() -> Tensor:
        left, right = model(x)
        live = F.mse_loss(left + right, y)
        return live + 0.0 * left.abs().mean() + 0 * right.square().mean()

    return Case(model, loss)


def weights_in_a_table(aux: float) -> Case:
    model, x, y = Two(), inputs(), truth()
    weights = {"main": 1.0, "aux": aux}

    def loss() -> Tensor:
        left, right = model(x)
        parts = {"main": F.mse_loss(left, y), "aux": F.l1_loss(right, y)}
        return sum(weights[name] * part for name, part in parts.items())  # cut

    return Case(model, loss)


def weight_in_a_tensor(weight: float) -> Case:
    model, x, y = Two(), inputs(), truth()
    weights = torch.tensor([weight, 1.0])

    def loss() -> Tensor:
        left, right = model(x)
        parts = torch.stack([F.mse_loss(left, y), F.mse_loss(right, y)])  # or
        return parts @ weights  # cut

    return Case(model, loss)


def masked_everywhere(share: float) -> Case:
    model, x, y = Two(), inputs(), truth()
    valid = (torch.arange(len(x))[:, None] < share * len(x)).float()

    def loss() -> Tensor:
        left, right = model(x)
        error = (right - y).square() * valid  # cut
        return F.mse_loss(left, y) + error.sum() / valid.sum().clamp(min=1)

    return Case(model, loss)


def masked_in_the_net(live: bool) -> Case:
    """A gate of zeros between two layers, in the only path."""
    gate = torch.tensor([1.0, 0.0, 0.0, 1.0, 0.0]) if live else torch.zeros(5)

    def gated(h: Tensor) -> Tensor:
        return h * gate  # cut

    model, x, y = Net(gated), inputs(), truth()
    return Case(model, lambda: F.mse_loss(model(x), y))


def weighted_samples(weight: float) -> Case:
    """torch.mul with out of place names, in another order."""
    model, x, y = Net(), inputs(), truth()
    weights = torch.full((len(x), 1), weight)

    def loss() -> Tensor:
        error = F.mse_loss(model(x), y, reduction="none")
        return torch.mul(weights, error).mean()  # cut

    return Case(model, loss)


# --- the loss is made from something else


def constant() -> Case:
    model, x = Net(), inputs()

    def loss() -> Tensor:
        note(model(x))
        return torch.tensor(1.0, requires_grad=True)  # maybe # or detached_leaf

    return Case(model, loss)


def constant_without_model() -> Case:
    return Case(Net(), lambda: torch.zeros((), requires_grad=True) * 3)


def constant_besides() -> Case:
    model, x, y = Net(), inputs(), truth()

    def loss() -> Tensor:
        return F.mse_loss(model(x), y) + torch.tensor(1.0, requires_grad=True)

    return Case(model, loss)


class Plain(nn.Module):
    """One layer, whose line is marked: here its result is made."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(9)
        self.layer = nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)  # cut # or constant_loss


def statistics_of_the_target() -> Case:
    model, x, y = Plain(), inputs(), truth()

    def loss() -> Tensor:
        answer = model(x)  # cut # or constant_loss
        note(answer)
        loss = F.mse_loss(y, y.mean().expand(y.shape))  # or constant_loss
        return loss.requires_grad_(True)  # also detached_leaf # or constant_loss

    return Case(model, loss, groups={"layer": "."})


def answer_of_an_earlier_batch() -> Case:
    model, x, y = Plain(), inputs(), truth()
    kept = {"answer": model(x).detach()}

    def loss() -> Tensor:
        answer = model(x + 1)  # cut # or constant_loss
        note(answer.shape)
        return F.mse_loss(kept["answer"], y)  # or constant_loss

    return Case(model, loss, groups={"layer": "."})


def answer_of_this_batch() -> Case:
    model, x, y = Plain(), inputs(), truth()
    kept = {}

    def loss() -> Tensor:
        note(kept.get("answer"))
        answer = model(x)
        kept["answer"] = answer.detach()
        return F.mse_loss(answer, y)

    return Case(model, loss)


def answer_of_another_model() -> Case:
    """The loss has a graph: that of a copy of the model."""
    model, x, y = Net(), inputs(), truth()
    stale = copy.deepcopy(model)
    return Case(model, lambda: F.mse_loss(stale(x), y))  # or


def answer_beside_another_model() -> Case:
    model, x, y = Net(), inputs(), truth()
    teacher = copy.deepcopy(model)
    return Case(model, lambda: F.mse_loss(model(x), y) + F.mse_loss(model(x), teacher(x) + 0.1))


def wrong_head() -> Case:
    """Both heads are run; the loss takes the same one twice."""
    model, x, y = Two(), inputs(), truth()

    def loss() -> Tensor:
        state = torch.tanh(model.trunk(x))
        left = model.left(state)
        right = model.right(state)  # cut # or branch_not_taken
        note(right)
        return F.mse_loss(left, y) + F.l1_loss(left, y)

    return Case(model, loss)


def both_heads() -> Case:
    model, x, y = Two(), inputs(), truth()

    def loss() -> Tensor:
        left, right = model(x)
        note(left + right)
        return F.mse_loss(left, y) + F.l1_loss(right, y)

    return Case(model, loss)


RIGHT, ALL = ("right",), ("first", "last")
LOSSES = [
    Fault(
        "a term of weight zero",
        "zero_weight",
        term_of_weight_zero,
        term_of_weight_zero,
        RIGHT,
        twins=(more_of_a_live_term,),
    ),
    Fault(
        "a table of weights with a zero",
        "zero_weight",
        partial(weights_in_a_table, 0.0),
        weights_in_a_table,
        RIGHT,
        twins=(partial(weights_in_a_table, 0.1),),
    ),
    Fault(
        "a tensor of weights with a zero",
        "zero_weight",
        partial(weight_in_a_tensor, 0.0),
        weight_in_a_tensor,
        ("left",),
        twins=(partial(weight_in_a_tensor, 1.0),),
    ),
    Fault(
        "a mask that is empty",
        "zero_weight",
        partial(masked_everywhere, 0.0),
        masked_everywhere,
        RIGHT,
        twins=(partial(masked_everywhere, 0.5),),
    ),
    Fault(
        "a gate of zeros in the net",
        "zero_weight",
        partial(masked_in_the_net, False),
        masked_in_the_net,
        ("first",),
        module="middle",
        twins=(partial(masked_in_the_net, True),),
    ),
    Fault(
        "every sample weighs nothing",
        "zero_weight",
        partial(weighted_samples, 0.0),
        weighted_samples,
        ALL,
        twins=(partial(weighted_samples, 0.3),),
    ),
    Fault(
        "a constant that requires a gradient",
        "constant_loss",
        constant,
        constant,
        ALL,
        places=(Place("other_tensor", "zoo/carriers.py"), Place("other_tensor", "losses.py")),
        twins=(constant_besides,),
    ),
    Fault(
        "a constant without the model",
        "constant_loss",
        constant_without_model,
        dead=ALL,
        places=(Place("constant_loss", "losses.py"), Place("constant_loss")),
    ),
    Fault(
        "statistics of the target",
        "other_tensor",
        statistics_of_the_target,
        (Plain, statistics_of_the_target),
        ("layer",),
        places=(Place("constant_loss"),),
        twins=(answer_of_this_batch,),
    ),
    Fault(
        "the answer of an earlier batch",
        "other_tensor",
        answer_of_an_earlier_batch,
        (Plain, answer_of_an_earlier_batch),
        ("layer",),
        places=(Place("constant_loss"),),
    ),
    Fault(
        "the answer of another model",
        "constant_loss",
        answer_of_another_model,
        answer_of_another_model,
        dead=ALL,
        places=(Place("constant_loss"), Place("branch_not_taken"), Place("other_tensor")),
        twins=(answer_beside_another_model,),
    ),
    Fault(
        "the wrong head",
        "other_tensor",
        wrong_head,
        wrong_head,
        RIGHT,
        twins=(both_heads,),
    ),
]
