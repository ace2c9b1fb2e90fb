"""Weights that get a gradient and still do not move: the optimizer does not know them."""

from functools import partial

import torch
import torch.nn.functional as F
from tests.engine.audit.zoo.carriers import Net, inputs, note, plain, truth
from tests.engine.audit.zoo.case import Case, Fault
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR


def with_adamw(model: nn.Module) -> Case:
    return plain(model, AdamW(model.parameters(), lr=1e-3))


def right_optimizer() -> Case:
    return with_adamw(Net())


def after_some_steps() -> Case:
    """An optimizer with a state: moments must come back too."""
    model = Net()
    case = plain(model, Adam(model.parameters(), lr=1e-2, amsgrad=True))
    for _ in range(3):
        case.optimizer.zero_grad()
        case.loss_fn().backward()
        case.optimizer.step()
    return case


def head_replaced_after() -> Case:
    case = with_adamw(Net())
    case.model.last = nn.Linear(5, 1)
    return case


def head_replaced_before() -> Case:
    model = Net()
    model.last = nn.Linear(5, 1)
    return with_adamw(model)


def weights_assigned_after() -> Case:
    """load_state_dict(assign=True) puts new tensors in the old ones' place."""
    case = with_adamw(Net())
    case.model.load_state_dict({k: v.clone() for k, v in Net().state_dict().items()}, assign=True)
    case.model.requires_grad_(True)
    return case


def weights_loaded_after() -> Case:
    case = with_adamw(Net())
    case.model.load_state_dict({k: v.clone() for k, v in Net().state_dict().items()})
    case.model.double().float()  # swaps the values below the same parameters
    return case


def weight_renewed_after() -> Case:
    """One tensor of a group is made anew."""
    model = Net()
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    model.first.weight = nn.Parameter(model.first.weight.detach().clone())
    return plain(model, optimizer)


def group_forgotten() -> Case:
    model = Net()
    return plain(model, AdamW(model.last.parameters(), lr=1e-3))


def bias_forgotten() -> Case:
    model = Net()
    decayed = [p for p in model.parameters() if p.ndim > 1]
    return plain(model, AdamW([{"params": decayed, "weight_decay": 0.1}], lr=1e-3))


def two_groups() -> Case:
    model = Net()
    decayed = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
    return plain(model, AdamW(groups, lr=1e-3))


def added_group() -> Case:
    model = Net()
    optimizer = SGD(model.last.parameters(), lr=0.1)
    optimizer.add_param_group({"params": model.first.parameters(), "lr": 0.01})
    return plain(model, optimizer)


def no_step_size() -> Case:
    model = Net()
    return plain(model, AdamW(model.parameters(), lr=0.0))


def no_step_size_for_a_group() -> Case:
    model = Net()
    groups = [{"params": model.first.parameters(), "lr": 0.0}, {"params": model.last.parameters()}]
    return plain(model, SGD(groups, lr=0.1))


def warming_up() -> Case:
    """The schedule starts at zero and climbs from there."""
    model = Net()
    optimizer = AdamW(model.parameters(), lr=1e-3)
    LambdaLR(optimizer, lambda step: min(step / 10, 1.0))
    assert optimizer.param_groups[0]["lr"] == 0
    return plain(model, optimizer)


def one_cycle() -> Case:
    model = Net()
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    OneCycleLR(optimizer, max_lr=0.2, total_steps=10)
    return plain(model, optimizer)


def step_size_in_a_tensor(lr: float) -> Case:
    model = Net()
    return plain(model, AdamW(model.parameters(), lr=torch.tensor(lr)))


def frozen_after() -> Case:
    case = with_adamw(Net())
    case.model.first.requires_grad_(False)
    return case


def frozen_before() -> Case:
    model = Net()
    model.first.requires_grad_(False)
    return plain(model, AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3))


def frozen_in_the_loss() -> Case:
    model, x, y = Net(), inputs(), truth()

    def loss() -> Tensor:
        model.first.requires_grad_(False)  # cut
        return F.mse_loss(model(x), y)

    return Case(model, loss)


def frozen_in_the_loss_one_by_one() -> Case:
    model, x, y = Net(), inputs(), truth()

    def loss() -> Tensor:
        for param in model.last.parameters():
            param.requires_grad = False  # cut
        return F.mse_loss(model(x), y)

    return Case(model, loss, AdamW(model.parameters(), lr=1e-3))


def frozen_in_the_loss_and_back() -> Case:
    """As a generator's step freezes its critic for a while."""
    model, x, y = Net(), inputs(), truth()

    def loss() -> Tensor:
        model.first.requires_grad_(False)
        note(model(x))
        model.first.requires_grad_(True)
        return F.mse_loss(model(x), y)

    return Case(model, loss)


OPTIMIZERS = [
    Fault(
        "Linear replaced after the optimizer was made",
        "replaced_parameter",
        head_replaced_after,
        outside=("last",),
        module="last",
        twins=(head_replaced_before, right_optimizer, after_some_steps),
    ),
    Fault(
        "weights assigned after the optimizer was made",
        "replaced_parameter",
        weights_assigned_after,
        outside=("first", "last"),
        twins=(weights_loaded_after,),
    ),
    Fault(
        "one weight made anew after the optimizer was made",
        "replaced_parameter",
        weight_renewed_after,
        outside=("first",),
        module="first",
    ),
    Fault(
        "a group not handed to the optimizer",
        "not_in_optimizer",
        group_forgotten,
        outside=("first",),
        module="first",
        twins=(two_groups, added_group),
    ),
    Fault(
        "biases not handed to the optimizer",
        "not_in_optimizer",
        bias_forgotten,
        outside=("first", "last"),
    ),
    Fault(
        "learning rate zero",
        "zero_lr",
        no_step_size,
        outside=("first", "last"),
        twins=(warming_up, one_cycle),
    ),
    Fault(
        "learning rate zero in a tensor",
        "zero_lr",
        partial(step_size_in_a_tensor, 0.0),
        outside=("first", "last"),
        twins=(partial(step_size_in_a_tensor, 1e-3),),
    ),
    Fault(
        "learning rate zero for one group",
        "zero_lr",
        no_step_size_for_a_group,
        outside=("first",),
        module="first",
    ),
    Fault(
        "frozen after the optimizer was made",
        "frozen",
        frozen_after,
        dead=("first",),
        module="first",
        twins=(frozen_before,),
    ),
    Fault(
        "frozen inside the loss",
        "frozen",
        frozen_in_the_loss,
        frozen_in_the_loss,
        ("first",),
        twins=(frozen_in_the_loss_and_back,),
    ),
    Fault(
        "frozen inside the loss, one by one",
        "frozen",
        frozen_in_the_loss_one_by_one,
        frozen_in_the_loss_one_by_one,
        ("last",),
    ),
]
