"""What the optimizer will move: membership, learning rates, and one step on trial."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import Parameter
from torch.optim import Optimizer

from vasculora.engine.audit.findings import cut
from vasculora.engine.audit.guard import spare_optimizer
from vasculora.engine.audit.report import Cut

Groups = Mapping[str, Mapping[str, Parameter]]


def unwrapped(optimizer: Optimizer) -> Optimizer:
    """Return the optimizer itself: accelerate's wrapper steps only when it chooses to."""
    return getattr(optimizer, "optimizer", optimizer)


def moving(optimizer: Optimizer) -> set[int]:
    """Return the ids of the weights that have a learning rate above zero."""
    return {id(p) for g in optimizer.param_groups if _peak_lr(g) > 0 for p in g["params"]}


def optimizer_cuts(model: nn.Module, optimizer: Optimizer, groups: Groups) -> list[Cut]:
    """Return what is wrong between a model's weights and the optimizer's."""
    held = {id(p): p for g in optimizer.param_groups for p in g["params"]}
    own = {id(p) for p in model.parameters()}
    strays = [p for key, p in held.items() if key not in own]
    moved = moving(optimizer)
    cuts: list[Cut] = []
    for group, params in groups.items():
        learning = {n: p for n, p in params.items() if p.requires_grad}
        absent = {n: p for n, p in learning.items() if id(p) not in held}
        replaced = [n for n, p in absent.items() if any(p.shape == s.shape for s in strays)]
        cuts += _cut("replaced_parameter", [group], replaced)
        cuts += _cut("not_in_optimizer", [group], [n for n in absent if n not in replaced])
        cuts += _cut(
            "zero_lr",
            [group],
            [n for n, p in learning.items() if id(p) in held and id(p) not in moved],
        )
    if strays and not any(p.requires_grad for p in model.parameters()):
        cuts += [cut("replaced_parameter", groups=tuple(groups), detail=f"{len(strays)} tensors")]
    frozen = [n for n, p in model.named_parameters() if id(p) in held and not p.requires_grad]
    concerned = [g for g, params in groups.items() if any(n in params for n in frozen)]
    return [*cuts, *_cut("frozen", concerned, frozen, "; the optimizer holds them")]


def _cut(kind: str, groups: Sequence[str], names: Sequence[str], remark: str = "") -> Iterator[Cut]:
    if names:
        detail = f"{len(names)} tensors, first {names[0]}{remark}"
        yield cut(kind, module=names[0].rpartition(".")[0], groups=tuple(groups), detail=detail)


def trial_updates(optimizer: Optimizer, groups: Groups) -> dict[str, float | None]:
    """Return, by group, the norm of one step over the norm of the weights.

    None for a group whose weights are all zero; no group at all where no step is tried.

    Uses the gradients that are there and the rate that warm-up ends at. The step is really taken:
    weights are put back by whoever guards them; the optimizer's own state is not touched. One that
    asks for a closure (LBFGS) is not tried.
    """
    if type(optimizer).step is torch.optim.LBFGS.step:
        return {}
    learning = {g: [p for p in params.values() if p.requires_grad] for g, params in groups.items()}
    before = {g: [p.detach().clone() for p in params] for g, params in learning.items()}
    with spare_optimizer(optimizer) as spare:
        for group in spare.param_groups:
            group["lr"] = _peak_lr(group)
        type(spare).step(spare)
    return {
        g: _ratio([p.detach() for p in params], before[g])
        for g, params in learning.items()
        if params
    }


def _ratio(after: list[torch.Tensor], before: list[torch.Tensor]) -> float | None:
    moved = sum(
        float((a - b).abs().double().square().sum()) for a, b in zip(after, before, strict=True)
    )
    size = sum(float(b.abs().double().square().sum()) for b in before)
    return (moved / size) ** 0.5 if size else None


def _peak_lr(group: Mapping[str, Any]) -> float:
    """Return the rate a group has, or had before its schedule began: warm-up may start at zero."""
    return max(float(group["lr"]), float(group.get("initial_lr", 0.0)))
