"""One pass of a loss, and how far its gradient reached: the state of every trainable tensor."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

FLOOR = 1e-10
"""Gradients below this share of the model's largest are float noise."""
SIBLING_FLOOR = 4
"""So are those below this many machine epsilons of the largest in their own module: a key's bias
gets a sum whose terms cancel, for softmax cannot see it."""
COARSE_FLOOR = 1e-3
"""The most that may be taken for noise so, in formats as coarse as bfloat16."""


@dataclass(frozen=True)
class Reach:
    """What one tensor got.

    Attributes:
        state: `touched`, `zero`, `noise` (not zero, but float noise), `none` or `nonfinite`.
        peak: Largest finite size of an entry.
        square: Sum of the squared finite entries.
    """

    state: str
    peak: float = 0.0
    square: float = 0.0


def backward(loss: Any) -> None:
    """Run a loss backwards, if it has a graph.

    Raises:
        ValueError: If it is a tensor of several numbers, or its graph is used up.
    """
    if not isinstance(loss, Tensor):
        return
    if loss.numel() != 1:
        raise ValueError(
            f"loss_fn must return one number, got a tensor of shape {tuple(loss.shape)}. "
            "Return its mean() or sum()."
        )
    if not loss.requires_grad:
        return
    try:
        loss.backward()
    except RuntimeError as fault:
        if "backward through the graph a second time" not in str(fault):
            raise
        raise ValueError(
            "the graph of what loss_fn returned has been used up. Let loss_fn run the model each "
            "time it is called, and leave backward() to the audit."
        ) from fault


def move(learners: Mapping[str, Parameter], nudges: Mapping[str, Tensor]) -> None:
    """Move weights for a pass; whoever guards them puts them back."""
    with torch.no_grad():
        for name, nudge in nudges.items():
            learners[name].add_(nudge)


def is_told(fault: Exception) -> bool:
    """Return whether torch's complaint is one of the kinds that the diagnosis explains."""
    return any(words in str(fault) for words in _TOLD)


_TOLD = ("in-place operation", "inplace operation", "nference tensor", "derivative for")


def measure(params: Mapping[str, Parameter]) -> dict[str, Reach]:
    """Return how far the gradient that lies in `.grad` reached, by name."""
    raw = {name: _measure(param) for name, param in params.items()}
    top = max((reach.peak for reach in raw.values()), default=0.0)
    nearby: dict[str, float] = {}
    for name, reach in raw.items():
        module = name.rpartition(".")[0]
        nearby[module] = max(nearby.get(module, 0.0), reach.peak)
    out = {}
    for name, reach in raw.items():
        epsilon = torch.finfo(params[name].dtype).eps
        share = min(SIBLING_FLOOR * epsilon, COARSE_FLOOR)
        floor = max(FLOOR * top, share * nearby[name.rpartition(".")[0]])
        noise = reach.state == "touched" and reach.peak <= floor
        out[name] = Reach("noise") if noise else reach
    return out


def best(one: Mapping[str, Reach], other: Mapping[str, Reach]) -> dict[str, Reach]:
    """Return what each tensor got in the better of two passes; a fault of the first one stays."""
    return {
        name: reach if reach.state in ("touched", "nonfinite") else other[name]
        for name, reach in one.items()
    }


def _measure(param: Parameter) -> Reach:
    if param.grad is None:
        return Reach("none")
    grad = param.grad.detach()
    grad = grad.coalesce().values() if grad.is_sparse else grad
    grad = (torch.view_as_real(grad) if grad.is_complex() else grad).double()
    if grad.numel() == 0:
        return Reach("zero")
    finite = grad.nan_to_num(0.0, 0.0, 0.0)
    peak, square = float(finite.abs().max()), float(finite.square().sum())
    if not bool(torch.isfinite(grad).all()):
        return Reach("nonfinite", peak, square)
    return Reach("touched" if peak > 0 else "zero", peak, square)
