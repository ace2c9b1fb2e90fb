"""More gradients lost in numbers, and autograd used by hand."""

from functools import partial

import torch
import torch.nn.functional as F
from tests.engine.audit.zoo.carriers import Op, early
from tests.engine.audit.zoo.case import Case, Fault
from tests.engine.audit.zoo.others import both, floor_divided
from torch import Tensor, nn

# --- not a number, backward only


def root_behind_where(h: Tensor) -> Tensor:
    return torch.where(h > 0, torch.sqrt(h), torch.zeros_like(h))  # cut


def angle_of_the_same(h: Tensor) -> Tensor:
    return torch.acos(torch.ones_like(h) + 0 * h)  # cut


def normalised_nothing(h: Tensor) -> Tensor:
    empty = h * 0
    return empty / empty.norm(dim=1, keepdim=True)  # cut


def eigenvalues_of_twins(h: Tensor) -> Tensor:
    covariance = torch.eye(5) + 0 * (h.T @ h)
    _, vectors = torch.linalg.eigh(covariance)  # cut
    return h @ vectors


def inverse_root_of_a_constant(h: Tensor) -> Tensor:
    spread = (h - h.clone()).var(dim=0)
    return h * spread.rsqrt()  # cut


def healthy_root(h: Tensor) -> Tensor:
    positive = torch.where(h > 0, h, torch.ones_like(h))
    return torch.where(h > 0, torch.sqrt(positive), torch.zeros_like(h)) + h


def healthy_normalise(h: Tensor) -> Tensor:
    return F.normalize(h, dim=1, eps=1e-6)


NONFINITE: dict[Op, tuple[Op, ...]] = {
    root_behind_where: (healthy_root,),
    angle_of_the_same: (),
    normalised_nothing: (healthy_normalise,),
    eigenvalues_of_twins: (),
    inverse_root_of_a_constant: (),
}


def not_a_number(op: Op, twins: tuple[Op, ...]) -> Fault:
    """Return a fault that is reported whatever the groups' states."""
    return Fault(
        name=f"{op.__name__}, early",
        kind="nonfinite",
        build=partial(early, op),
        source=op,
        twins=tuple(partial(early, twin) for twin in twins),
    )


# --- autograd by hand


class OneSided(torch.autograd.Function):
    """Passes the gradient to its first input only."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, a: Tensor, b: Tensor) -> Tensor:
        return a + b

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple[Tensor, Tensor]:
        return grad, torch.zeros_like(grad)


def one_sided(h: Tensor) -> Tensor:
    return OneSided.apply(torch.ones_like(h).requires_grad_(), h)  # cut


def penalty_alone(create_graph: bool) -> Case:
    """A gradient penalty, which is a number without create_graph."""
    torch.manual_seed(41)
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 1, bias=False))

    def loss() -> Tensor:
        points = torch.randn(7, 6, requires_grad=True)
        score = model(points).sum()  # or other_tensor
        (slope,) = torch.autograd.grad(score, points, create_graph=create_graph)  # cut # or detach
        penalty = (slope.norm(dim=1) - 1).square().mean()
        return penalty if create_graph else penalty.requires_grad_()  # also detached_leaf

    return Case(model, loss, groups={"critic": "."})


PENALTY = Fault(
    "a gradient penalty without create_graph",
    "copy",
    partial(penalty_alone, False),
    penalty_alone,
    ("critic",),
    twins=(partial(penalty_alone, True),),
    also=("detached_leaf",),
)

REFUSED = Fault(
    "floor_divided, which torch refuses",
    "round",
    partial(early, floor_divided),
    floor_divided,
    ("first",),
    refused=True,
)
OTHER_NUMBERS = [not_a_number(op, twins) for op, twins in NONFINITE.items()]
OTHER_NUMBERS += [REFUSED, *both(one_sided, "custom_function"), PENALTY]
