"""Run a loss once or twice, see which weights its gradient reaches, and put everything back.

A first pass measures. Weights that get an exactly zero gradient only because others are zero
(`lora_A` behind a fresh `lora_B`, a block behind a gate that starts at 0) are proved alive by a
second pass, in which those zeros have moved the way their own gradient points. Only where something
is still dead, a third pass is followed operation by operation to find the cut.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import Optimizer

from vasculora.engine.audit.diagnosis import Case, diagnose
from vasculora.engine.audit.findings import cut
from vasculora.engine.audit.groups import Patterns, group_parameters
from vasculora.engine.audit.guard import Guard, address, guarded
from vasculora.engine.audit.optimizer import moving, optimizer_cuts, trial_updates, unwrapped
from vasculora.engine.audit.reach import Reach, backward, best, is_told, measure, move
from vasculora.engine.audit.report import AuditReport, Cut, GroupReport
from vasculora.model.adapters import adapter_faults

NUDGE = 1e-3
"""How far zeros move for the second pass."""


def audit_gradients(
    model: nn.Module,
    loss_fn: Callable[[], Tensor],
    optimizer: Optimizer | None = None,
    groups: Patterns | None = None,
) -> AuditReport:
    """Return which weights a loss can move, and where the path to the others is cut.

    The loss is run once where everything learns at once, and up to six times where it does not, so
    `loss_fn` must be callable again. Weights, buffers, gradients, the optimizer, random numbers,
    training modes and hooks are put back bit for bit.

    Args:
        model: Any model, in the mode it will be trained in.
        loss_fn: Runs it on a real batch and returns the loss: one number, with its graph.
        optimizer: What will move the weights; None leaves the question open.
        groups: Group to patterns searched in weights' names; None goes by top module, LoRA apart.

    Raises:
        ValueError: If a pattern is in no weight's name, or the loss is not one number.
    """
    optimizer = None if optimizer is None else unwrapped(optimizer)
    members = group_parameters(model, groups)
    learners = {n: p for g in members.values() for n, p in g.items() if p.requires_grad}
    with guarded(model, optimizer) as guard:
        outcome = _probe(loss_fn, learners, guard, optimizer, members)
        cuts = _frozen_writes(model, members, guard)
        guard.put_back()
        reports = _reports(members, outcome, optimizer)
        cuts = [*_standing_cuts(model, optimizer, members), *cuts]
        off = {g for c in cuts if c.kind.startswith("adapter_") for g in c.groups}
        case = Case(
            model=model,
            loss_fn=loss_fn,
            groups=members,
            states={name: reach.state for name, reach in outcome.reach.items()},
            dead=frozenset(g.name for g in reports if not g.num_touched or g.num_nonfinite),
            explained=frozenset(off),
            nudges=outcome.nudges,
            guard=guard,
        )
        if not outcome.is_sound:
            cuts = [*cuts, *diagnose(case)]
        return AuditReport(groups=tuple(reports), cuts=tuple(dict.fromkeys(cuts)))


@dataclass
class _Outcome:
    """What the measuring passes found."""

    reach: dict[str, Reach]
    updates: Mapping[str, float | None] = field(default_factory=dict)
    nudges: dict[str, Tensor] = field(default_factory=dict)
    fault: Exception | None = None
    is_finite: bool = True

    @property
    def is_sound(self) -> bool:
        """Whether there is nothing to explain."""
        touched = all(reach.state == "touched" for reach in self.reach.values())
        return touched and self.is_finite and self.fault is None


def _probe(
    loss_fn: Callable[[], Tensor],
    learners: Mapping[str, Parameter],
    guard: Guard,
    optimizer: Optimizer | None,
    members: Mapping[str, Mapping[str, Parameter]],
) -> _Outcome:
    """Measure once, and once more with zeros moved where something stayed untouched."""
    try:
        reach, is_finite = _pass(loss_fn, learners, guard)
        if not is_finite or any(r.state == "nonfinite" for r in reach.values()):
            return _Outcome(reach=reach, is_finite=is_finite)
        nudges = _nudges(learners, reach)
        updates = {} if optimizer is None else trial_updates(optimizer, members)
        if all(r.state == "touched" for r in reach.values()):
            nudges = {}
        if nudges:
            guard.put_back()
            move(learners, nudges)
            reach = best(reach, _pass(loss_fn, learners, guard)[0])
    except RuntimeError as fault:
        if not is_told(fault):
            raise
        return _Outcome(reach={name: Reach("none") for name in learners}, fault=fault)
    return _Outcome(reach=reach, updates=updates, nudges=nudges)


def _pass(
    loss_fn: Callable[[], Tensor], learners: Mapping[str, Parameter], guard: Guard
) -> tuple[dict[str, Reach], bool]:
    """Return how far the gradient reached, and whether the loss was finite."""
    guard.clear_grads()
    loss = loss_fn()
    guard.adopt(loss)
    backward(loss)
    return measure(learners), bool(torch.isfinite(torch.as_tensor(loss).detach()).all())


def _nudges(learners: Mapping[str, Parameter], reach: Mapping[str, Reach]) -> dict[str, Tensor]:
    """Return how far each all-zero tensor that has a gradient will have moved soon."""
    return {
        name: param.grad.detach() * (-NUDGE / reach[name].peak)
        for name, param in learners.items()
        if reach[name].state == "touched" and param.grad is not None and not param.detach().any()
    }


def _frozen_writes(
    model: nn.Module, members: Mapping[str, Mapping[str, Parameter]], guard: Guard
) -> list[Cut]:
    """Return which frozen weights were written to while the loss and the step ran."""
    cuts = []
    for name, param in model.named_parameters():
        if param.requires_grad or address(param.data) not in guard.writes:
            continue
        groups = tuple(g for g, params in members.items() if name in params)
        place = guard.writes[address(param.data)]
        cuts.append(cut("frozen_moved", place, module=name.rpartition(".")[0], groups=groups))
    return cuts


def _standing_cuts(
    model: nn.Module,
    optimizer: Optimizer | None,
    members: Mapping[str, Mapping[str, Parameter]],
) -> list[Cut]:
    """Return what is wrong before anything runs: with the optimizer, with adapters."""
    cuts = [] if optimizer is None else optimizer_cuts(model, optimizer, members)
    for fault in adapter_faults(model):
        layers = f"{len(fault.layers)} layers" if fault.layers else f"{fault.module!r}"
        concerned = tuple(
            g for g, params in members.items() if any(n.startswith(fault.layers) for n in params)
        )
        cuts.append(cut(fault.kind, module=fault.module, groups=concerned, detail=layers))
    return cuts


def _reports(
    members: Mapping[str, Mapping[str, Parameter]],
    outcome: _Outcome,
    optimizer: Optimizer | None,
) -> list[GroupReport]:
    moved = None if optimizer is None else moving(optimizer)
    return [_report(name, params, outcome, moved) for name, params in members.items() if params]


def _report(
    name: str, params: Mapping[str, Parameter], outcome: _Outcome, moved: set[int] | None
) -> GroupReport:
    learning = {n: p for n, p in params.items() if p.requires_grad}
    counts = dict.fromkeys(("touched", "zero", "none", "nonfinite"), 0)
    for n, p in learning.items():
        state = outcome.reach[n].state
        counts["zero" if state == "noise" else state] += p.numel()
    moving = learning if moved is None else {n: p for n, p in learning.items() if id(p) in moved}
    return GroupReport(
        name=name,
        num_parameters=sum(p.numel() for p in (learning or params).values()),
        num_outside=sum(p.numel() for n, p in learning.items() if n not in moving),
        grad_norm=sum(outcome.reach[n].square for n in learning) ** 0.5,
        update_ratio=outcome.updates.get(name),
        state=_state(counts, moves=bool(moving)) if learning else "frozen",
        unreached=tuple(n for n in learning if outcome.reach[n].state != "touched"),
        **{f"num_{state}": count for state, count in counts.items()},
    )


def _state(counts: Mapping[str, int], *, moves: bool) -> str:
    if counts["nonfinite"] or not counts["touched"] or not moves:
        return "dead"
    return "partial" if counts["zero"] or counts["none"] else "learns"
