"""More optimizers that move something else than what learns, and some that look so and do not."""

import copy
import itertools
from functools import partial

import torch
import torch.nn.functional as F
from tests.engine.audit.zoo.carriers import Net, inputs, plain, truth
from tests.engine.audit.zoo.case import Case, Fault, Place
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import LambdaLR

ALL = ("first", "last")
NOT_MOVED = (Place("not_in_optimizer"), Place("replaced_parameter"))


def of_the_average(average: bool) -> Case:
    """The optimizer was given the copy that follows."""
    model = Net()
    follower = copy.deepcopy(model)
    return plain(model, AdamW((follower if average else model).parameters(), lr=1e-3))


def exhausted_generator(exhausted: bool) -> Case:
    model = Net()
    body = (p for p in model.first.parameters())
    if exhausted:
        assert sum(p.numel() for p in body) == 35
    groups = [{"params": list(body)}, {"params": model.last.parameters()}]
    return plain(model, SGD(groups, lr=0.1))


def normed_after(after: bool) -> Case:
    model = Net()
    if not after:
        parametrizations.weight_norm(model.last)
    optimizer = AdamW(model.parameters(), lr=1e-3)
    if after:
        parametrizations.weight_norm(model.last)
    return plain(model, optimizer)


def pruned(amount: float) -> Case:
    """Pruning after the optimizer was made keeps the very weights, behind a mask."""
    model = Net()
    optimizer = SGD(model.parameters(), lr=0.1)
    prune.l1_unstructured(model.first, "weight", amount=amount)
    model.first.bias.requires_grad_(amount < 1)
    if amount == 1:
        optimizer = SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    return plain(model, optimizer)


def grown_after(added: bool) -> Case:
    """A head for a new class, whose group is forgotten."""
    model = Net()
    optimizer = AdamW(model.parameters(), lr=1e-3)
    model.extra = nn.Linear(5, 1)
    if added:
        optimizer.add_param_group({"params": model.extra.parameters()})
    x, y = inputs(), truth()

    def loss() -> Tensor:
        return F.mse_loss(model(x) + model.extra(torch.tanh(model.first(x))), y)

    return Case(model, loss, optimizer)


def scheduled_from_nothing(rate: float) -> Case:
    model = Net()
    optimizer = AdamW(model.parameters(), lr=rate)
    LambdaLR(optimizer, lambda step: min(1.0, step / 10))
    return plain(model, optimizer)


def rebuilt_on_another_dtype() -> Case:
    """A cast by hand, which makes new parameters."""
    model = Net()
    optimizer = AdamW(model.parameters(), lr=1e-3)
    for layer in (model.first, model.last):
        layer.weight = nn.Parameter(layer.weight.double())
        layer.bias = nn.Parameter(layer.bias.double())
    x, y = inputs().double(), truth().double()
    return Case(model, lambda: F.mse_loss(model(x), y), optimizer)


def cast_after() -> Case:
    """`.to()` keeps the parameters and swaps what is in them."""
    model = Net()
    optimizer = AdamW(model.parameters(), lr=1e-3)
    model.to(torch.float64)
    for param in model.parameters():
        param.data = param.data * 0.5
    x, y = inputs().double(), truth().double()
    return Case(model, lambda: F.mse_loss(model(x), y), optimizer)


def tied_after() -> Case:
    """A tensor that no longer belongs to the model stays with the optimizer."""
    torch.manual_seed(60)
    model = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 9, bias=False))
    optimizer = AdamW(model.parameters(), lr=1e-3)
    model[1].weight = model[0].weight
    ids = torch.arange(7)
    return Case(model, lambda: F.cross_entropy(model(ids), ids + 1), optimizer)


def unfrozen_late(handed: bool) -> Case:
    """The optimizer is made of what learns at first; the rest is thawed later."""
    model = Net()
    model.first.requires_grad_(False)
    wanted = model.parameters() if handed else filter(lambda p: p.requires_grad, model.parameters())
    optimizer = AdamW(wanted, lr=1e-3)
    model.first.requires_grad_(True)
    return plain(model, optimizer)


def only_the_first(whole: bool) -> Case:
    """`next(model.parameters())` where all were meant."""
    model = Net()
    some = itertools.islice(model.parameters(), 4 if whole else 1)
    return plain(model, SGD(some, lr=0.1))


OTHER_OPTIMIZERS = [
    Fault(
        "the optimizer holds the average's weights",
        "replaced_parameter",
        partial(of_the_average, True),
        outside=ALL,
        places=NOT_MOVED,
        twins=(partial(of_the_average, False), cast_after, tied_after),
    ),
    Fault(
        "a generator of weights was used up",
        "not_in_optimizer",
        partial(exhausted_generator, True),
        outside=("first",),
        twins=(partial(exhausted_generator, False),),
    ),
    Fault(
        "weight_norm after the optimizer was made",
        "replaced_parameter",
        partial(normed_after, True),
        outside=("last",),
        places=NOT_MOVED,
        twins=(partial(normed_after, False),),
    ),
    Fault(
        "everything is pruned",
        "zero_weight",
        partial(pruned, 1.0),
        dead=("first",),
        places=(
            Place("zero_weight"),
            Place("zero_weight", "others_optimizers.py"),
            Place("zero_weight", "zoo/carriers.py"),
        ),
        twins=(partial(pruned, 0.4),),
    ),
    Fault(
        "a head grown after the optimizer was made",
        "not_in_optimizer",
        partial(grown_after, False),
        outside=("extra",),
        places=NOT_MOVED,
        twins=(partial(grown_after, True),),
    ),
    Fault(
        "a warm-up to nothing",
        "zero_lr",
        partial(scheduled_from_nothing, 0.0),
        outside=ALL,
        twins=(partial(scheduled_from_nothing, 1e-3),),
    ),
    Fault(
        "weights cast by hand after the optimizer was made",
        "replaced_parameter",
        rebuilt_on_another_dtype,
        outside=ALL,
    ),
    Fault(
        "thawed after the optimizer was made",
        "not_in_optimizer",
        partial(unfrozen_late, False),
        outside=("first",),
        twins=(partial(unfrozen_late, True),),
    ),
    Fault(
        "only the first weight",
        "not_in_optimizer",
        partial(only_the_first, False),
        outside=ALL,
        twins=(partial(only_the_first, True),),
    ),
]
