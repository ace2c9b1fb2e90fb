"""Gradients lost in figures: flat functions, formats that are too small, noise, infinities."""

from functools import partial

import torch
import torch.nn.functional as F
from tests.engine.audit.zoo.carriers import Net, Two, aside, early, inputs, late, truth
from tests.engine.audit.zoo.case import Case, Fault, Place
from torch import Tensor, nn

# --- the function is flat where its input lies


def sigmoid(h: Tensor) -> Tensor:
    return torch.sigmoid(h + 200)  # cut


def tanh(h: Tensor) -> Tensor:
    return (h - 100).tanh()  # cut


def relu(h: Tensor) -> Tensor:
    return F.relu(h - 50)  # cut


def clamp(h: Tensor) -> Tensor:
    return (h + 30).clamp(0, 1)  # cut


def hard_sigmoid(h: Tensor) -> Tensor:
    return F.hardsigmoid(h - 40)  # cut


def largest_of_a_constant(h: Tensor) -> Tensor:
    return torch.maximum(h, torch.full_like(h, 25.0))  # cut # or branch_not_taken


def soft_maximum(h: Tensor) -> Tensor:
    steep = torch.arange(h.shape[1]) * 1e4
    return torch.softmax(h + steep, dim=1)  # cut # or underflow


def sigmoid_in_range(h: Tensor) -> Tensor:
    return torch.sigmoid(h)


def tanh_in_range(h: Tensor) -> Tensor:
    return (h - 1).tanh()


def relu_in_part(h: Tensor) -> Tensor:
    return F.relu(h)


def clamp_in_part(h: Tensor) -> Tensor:
    return (h + 0.5).clamp(0, 1)


def hard_sigmoid_in_range(h: Tensor) -> Tensor:
    return F.hardsigmoid(h)


def largest_in_part(h: Tensor) -> Tensor:
    return torch.maximum(h, torch.zeros_like(h))


def soft_maximum_in_range(h: Tensor) -> Tensor:
    return torch.softmax(h + torch.arange(h.shape[1]), dim=1)


FLAT = {
    sigmoid: sigmoid_in_range,
    tanh: tanh_in_range,
    relu: relu_in_part,
    clamp: clamp_in_part,
    hard_sigmoid: hard_sigmoid_in_range,
    largest_of_a_constant: largest_in_part,
    soft_maximum: soft_maximum_in_range,
}


def sure_of_the_answer(scale: float) -> Case:
    """Cross-entropy that is exactly zero: nothing is left to learn, or nothing can be."""
    model, x = Net(), inputs()
    labels = torch.zeros(len(x), dtype=torch.long)

    def loss() -> Tensor:
        answer = model(x)
        scores = torch.cat([answer + scale, answer * -1], dim=1)
        return F.cross_entropy(scores, labels)  # cut # or underflow

    return Case(model, loss)


# --- the gradient is smaller than its number format


def half_precision(factor: float) -> Case:
    torch.manual_seed(10)
    model, x = nn.Sequential(nn.Linear(6, 3), nn.Linear(3, 1)).half(), inputs().half()
    groups = {"all": "."}

    def loss() -> Tensor:
        answer = model(x).float()  # cut
        return (answer * factor).sum()

    return Case(model, loss, groups=groups)


def half_precision_in_the_middle(small: float) -> Case:
    """The middle runs in float16; before and behind it is float32."""

    def halved(h: Tensor) -> Tensor:
        state = h.half()
        state = state * small  # or
        return state.float()  # cut

    model, x, y = Net(halved), inputs(), truth()
    return Case(model, lambda: 1e-6 * F.mse_loss(model(x), y))


def single_precision(factor: float) -> Case:
    def tiny(h: Tensor) -> Tensor:
        first = h * factor  # cut
        return first * factor  # or

    model, x, y = Net(tiny), inputs(), truth()
    return Case(model, lambda: F.mse_loss(model(x), y))


def deep_exponential(shift: float) -> Case:
    def small(h: Tensor) -> Tensor:
        return torch.exp(h - shift)  # cut # or saturation

    model, x, y = Net(small), inputs(), truth()
    return Case(model, lambda: F.mse_loss(model(x), y))


# --- only noise is left


def drowned(factor: float) -> Case:
    model, x, y = Two(), inputs(), truth()

    def loss() -> Tensor:
        left, right = model(x)
        quiet = factor * F.mse_loss(right, y)  # maybe
        return F.mse_loss(left, y) + quiet

    return Case(model, loss)


class Attention(nn.Module):
    """Attention whose keys have a bias: a softmax cannot see it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(11)
        self.query = nn.Linear(6, 6)
        self.key = nn.Linear(6, 6)
        self.value = nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        key = self.key(x)  # maybe
        weights = torch.softmax(self.query(x) @ key.T, dim=-1)  # maybe
        return weights @ self.value(x)


def biased_keys(apart: bool) -> Case:
    model, x, y = Attention(), inputs(), truth()
    groups = {"bias": r"key\.bias", "rest": "."} if apart else {"attention": "."}
    return Case(model, lambda: F.mse_loss(model(x), y), groups=groups)


# --- infinity, or not-a-number


def log_of_zero(h: Tensor) -> Tensor:
    return torch.log(F.relu(h - h.mean()))  # cut


def root_of_zero(h: Tensor) -> Tensor:
    """The distance between equal points: finite forward, infinity times zero backward."""
    return (h - h.clone()).square().sqrt()  # cut


def power_of_zero(h: Tensor) -> Tensor:
    squares = (h - h.mean(dim=0)).square() * 0.0
    return squares**0.5  # cut


def divided_by_zero(h: Tensor) -> Tensor:
    total = (h - h).sum(dim=1, keepdim=True)
    return h / total  # cut


def log_behind_where(h: Tensor) -> Tensor:
    """Finite forward; backward is zero times infinity."""
    return torch.where(h > 0, torch.log(h * (h > 0)), torch.zeros_like(h))  # cut


def overflow(h: Tensor) -> Tensor:
    return torch.exp(h + 500)  # cut


def overflow_in_half(h: Tensor) -> Tensor:
    return (h.sign() * 3e3 + h).half().square().float()  # cut


def softmax_of_nothing(h: Tensor) -> Tensor:
    hidden = h.masked_fill(h.abs() < 1e9, float("-inf"))  # or # also branch_not_taken
    return torch.softmax(hidden, dim=1)  # cut


def log_with_a_floor(h: Tensor) -> Tensor:
    return torch.log(h.relu() + 1e-3)


def root_with_a_floor(h: Tensor) -> Tensor:
    return (h.relu() + 1e-6).sqrt()


def divided_with_a_floor(h: Tensor) -> Tensor:
    return h / (h.square().sum(dim=1, keepdim=True) + 1e-6)


def log_inside_where(h: Tensor) -> Tensor:
    safe = torch.where(h > 0, h, torch.ones_like(h))
    return torch.where(h > 0, torch.log(safe), h)


def exponent_in_range(h: Tensor) -> Tensor:
    return torch.exp(h)


def half_in_range(h: Tensor) -> Tensor:
    return h.half().square().float()


def softmax_of_some(h: Tensor) -> Tensor:
    hidden = h.masked_fill(torch.arange(h.shape[1]) == 0, float("-inf"))
    return torch.softmax(hidden, dim=1)


NONFINITE = {
    log_of_zero: log_with_a_floor,
    root_of_zero: root_with_a_floor,
    power_of_zero: root_with_a_floor,
    divided_by_zero: divided_with_a_floor,
    log_behind_where: log_inside_where,
    overflow: exponent_in_range,
    overflow_in_half: half_in_range,
    softmax_of_nothing: softmax_of_some,
}

ALL = ("first", "last")
FIGURES = [
    fault
    for op, healthy in FLAT.items()
    for fault in (
        Fault(
            f"saturated {op.__name__}, early",
            "saturation",
            partial(early, op),
            op,
            ("first",),
            module="middle",
            twins=(partial(early, healthy), partial(aside, op)),
        ),
        Fault(f"saturated {op.__name__}, late", "saturation", partial(late, op), op, ALL),
    )
    if "soft" not in fault.name or "early" in fault.name
] + [
    Fault(
        "cross-entropy that is sure",
        "saturation",
        partial(sure_of_the_answer, 1e4),
        sure_of_the_answer,
        ALL,
        twins=(partial(sure_of_the_answer, 1.0),),
    ),
    Fault(
        "float16 loss too small",
        "underflow",
        partial(half_precision, 1e-9),
        half_precision,
        ("all",),
        twins=(partial(half_precision, 1.0),),
    ),
    Fault(
        "float16 in the middle of float32",
        "underflow",
        partial(half_precision_in_the_middle, 1e-3),
        half_precision_in_the_middle,
        ("first",),
        module="middle",
    ),
    Fault(
        "float32 too small",
        "underflow",
        partial(single_precision, 1e-25),
        single_precision,
        ("first",),
        module="middle",
        twins=(partial(single_precision, 1e-1),),
    ),
    Fault(
        "an exponential too small",
        "underflow",
        partial(deep_exponential, 300.0),
        deep_exponential,
        ("first",),
        module="middle",
        twins=(partial(deep_exponential, 0.5),),
    ),
    Fault(
        "a term that drowns in noise",
        "vanishing",
        partial(drowned, 1e-13),
        drowned,
        ("right",),
        places=(Place("vanishing", "carriers.py"),),
        twins=(partial(drowned, 1e-3),),
    ),
    Fault(
        "a bias that softmax cannot see",
        "vanishing",
        partial(biased_keys, True),
        Attention,
        ("bias",),
        twins=(partial(biased_keys, False),),
    ),
    *(
        Fault(
            op.__name__.replace("_", " "),
            "nonfinite",
            partial(early, op),
            op,
            module="middle",
            twins=(partial(early, healthy), partial(aside, op)),
        )
        for op, healthy in NONFINITE.items()
    ),
    *(
        Fault(
            f"{op.__name__.replace('_', ' ')}, late",
            "nonfinite",
            partial(late, op),
            op,
        )
        for op in (log_of_zero, root_of_zero, overflow)
    ),
]
