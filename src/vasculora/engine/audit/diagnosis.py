"""From a followed pass to the cuts: why each untouched weight got nothing.

not used at all             -> its branch was not taken, or its adapter is off
used, but not for the loss  -> another tensor, or a constant
used, without a graph       -> every step on the way where the graph ends
used, with a graph          -> every step on the way where the gradient becomes zero
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from vasculora.core.runtime import is_out_of_memory
from vasculora.engine.audit.blame import blame_backward, blame_forward, unused_at
from vasculora.engine.audit.faults import explain_fault
from vasculora.engine.audit.findings import cut
from vasculora.engine.audit.guard import Guard
from vasculora.engine.audit.operations import FLATTENING, JOINING, LEAVING, NUMBERS, READING, stem
from vasculora.engine.audit.places import defined_at
from vasculora.engine.audit.reach import backward, is_told, move
from vasculora.engine.audit.report import Cut
from vasculora.engine.audit.steps import Step
from vasculora.engine.audit.trace import Trace
from vasculora.engine.audit.walks import Walks

SEVERING = frozenset(
    {"no_grad", "inference_mode", "set_grad_enabled", "detach", "data", "item", "numpy", "tolist"}
    | {"copy", "detached_leaf", "custom_function", "reentrant_checkpoint", "frozen", "in_place"}
    | {"adapter_disabled", "nonfinite"}
)
"""Kinds worth naming where a group is only partly reached: a choice that was not taken on this
batch is no fault, a graph that ends is."""
_NO_ROOM = (
    "the pass could not be followed, since that keeps more tensors in memory than training does; "
    "the table holds, but no cut is named. Audit with a smaller batch or image to see them."
)
PERTURBATIONS = (1e-2, 1.0)
"""How far weights are changed to see whether the loss depends on them: thresholds need more."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is to be explained.

    Attributes:
        model: The model.
        loss_fn: Its loss.
        groups: Weights by group and name.
        states: How far each trainable tensor was reached.
        dead: Groups that no finite gradient reaches.
        explained: Groups of which it is known why they are not used.
        nudges: What had been moved so that zeros do not hide a path.
        guard: Puts everything back between passes.
    """

    model: nn.Module
    loss_fn: Callable[[], Any]
    groups: Mapping[str, Mapping[str, Parameter]]
    states: Mapping[str, str]
    dead: frozenset[str]
    explained: frozenset[str]
    nudges: Mapping[str, Tensor]
    guard: Guard

    @property
    def learners(self) -> dict[str, Parameter]:
        """Trainable weights by name."""
        return {n: p for g in self.groups.values() for n, p in g.items() if p.requires_grad}


def diagnose(case: Case) -> list[Cut]:
    """Return where what should learn loses its gradient."""
    learners = case.learners
    trace = Trace(weights=learners, module_names={id(m): n for n, m in case.model.named_modules()})
    case.guard.put_back()
    case.guard.clear_grads()
    move(learners, case.nudges)
    try:
        with trace.following(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they were given in the first pass
            loss = case.loss_fn()
        ends = trace.of(loss)
        case.guard.adopt(loss)
        backward(loss)
    except (RuntimeError, MemoryError) as fault:
        if is_out_of_memory(fault):
            warnings.warn(_NO_ROOM, stacklevel=3)
            return []
        if not is_told(fault):
            raise
        return [explain_fault(fault, trace, groups=tuple(case.groups))]
    trace.settle()
    live = isinstance(loss, Tensor) and loss.requires_grad
    return list(_Diagnosis(case, trace, loss, Walks(trace.steps, dict.fromkeys(ends, live))).cuts())


@dataclass(frozen=True)
class _Diagnosis:
    """One followed pass, asked about every weight that got nothing."""

    case: Case
    trace: Trace
    loss: Any
    walks: Walks
    _dependence: dict[str, bool] = field(default_factory=dict)

    def cuts(self) -> Iterator[Cut]:
        """Yield the cuts: one a kind and place, whatever number of weights and groups it has."""
        found: dict[tuple[Any, ...], Cut] = {}
        for one in self._all():
            key = (one.kind, one.file, one.line, None if one.file else one.module)
            groups = (*found[key].groups, *one.groups) if key in found else one.groups
            found[key] = replace(found.get(key, one), groups=tuple(dict.fromkeys(groups)))
        yield from found.values()

    def _all(self) -> Iterator[Cut]:
        if isinstance(self.loss, Tensor) and not bool(torch.isfinite(self.loss.detach()).all()):
            groups = tuple(g for g, p in self.case.groups.items() if p.keys() & self.trace.roots)
            for step in self.walks.first_not_finite():
                yield cut("nonfinite", step.place, module=step.module, groups=groups)
            return
        for group, params in self.case.groups.items():
            for name in params:
                if self.case.states.get(name, "touched") != "touched":
                    yield from self._explain_within(group, name)

    def _explain_within(self, group: str, name: str) -> Iterator[Cut]:
        """Yield what there is to say of a weight; of a partly reached group, not everything."""
        for one in self._explain(self.trace.roots[name], group):
            if group in self.case.dead or one.kind in SEVERING:
                yield one

    def _explain(self, root: Step, group: str) -> Iterator[Cut]:
        state = self.case.states[root.name]
        reached = self.walks.descendants(root)
        if state == "nonfinite":
            lost = self.walks.frontier(root, lambda s: not isfinite(s.gradient or 0), spreads=True)
            for _, step in lost:
                yield self._cut("nonfinite", step, group)
        elif state == "noise":
            yield cut("vanishing", module=root.module, groups=(group,), detail=root.name)
        elif root.name in self.trace.frozen:
            kind, place = self.trace.frozen[root.name]
            yield cut(kind, place, module=root.module, groups=(group,))
        elif reached & self.walks.towards_loss:
            yield from self._explain_connected(root, reached, group)
        elif group not in self.case.explained:
            yield from self._explain_unconnected(root, reached, group)

    def _explain_unconnected(self, root: Step, reached: set[Step], group: str) -> Iterator[Cut]:
        """Explain a weight that is not used, or whose results end before the loss."""
        place, from_tensors = self.trace.made_at(self.loss)
        exits = [s for s in reached if s.name in NUMBERS]
        if exits and self._depends(group):
            last = max(exits, key=lambda step: step.index)
            for parent, step, on in self.walks.exits_to(last, self.walks.live(root)):
                yield from blame_forward(parent, self._fused(step), live=on, group=group)
        elif not self.walks.ends and (len(reached) == 1 or not from_tensors):
            place = place or defined_at(self.case.loss_fn)
            yield cut("constant_loss", place, groups=(group,))
        elif len(reached) == 1:
            module, place = unused_at(self.case.model, root.name, self.trace.ran)
            yield cut("branch_not_taken", place, module=module, groups=(group,))
        else:
            result = max((s for s in reached if s.live), key=lambda step: step.index)
            made = f"the loss is made at {place}" if place else ""
            yield self._cut("other_tensor", result, group, detail=made)

    def _explain_connected(self, root: Step, reached: set[Step], group: str) -> Iterator[Cut]:
        """Explain a weight that the loss depends on: a gradient of zero, or no graph."""
        live = self.walks.live(root)
        if any(end in live and on for end, on in self.walks.ends.items()):
            for parent, step in self.walks.frontier(root, lambda s: not s.gradient):
                yield self._blame_zero(parent, step, group)
            return
        for parent, step, on in self.walks.exits(live):
            yield from blame_forward(parent, self._fused(step), live=on, group=group)
        for step in sorted(reached & self.walks.towards_loss, key=lambda s: s.index):
            if step.name == "leaf" and step not in live:
                yield self._cut("detached_leaf", step, group)

    def _blame_zero(self, parent: Step, step: Step, group: str) -> Cut:
        """Return the cut at a step; one that only hands gradients on is not the one to blame."""
        if stem(step.name) in JOINING:
            later = self.walks.next_towards_loss(
                step, lambda s: bool(s.zeros) or stem(s.name) in FLATTENING
            )
            if later is not None:
                return blame_backward(later, later, group)
        return blame_backward(parent, step, group)

    def _fused(self, step: Step) -> Step:
        """Return what a statement does with what it detaches, where that is the greater fault."""
        kind = LEAVING.get(stem(step.name))
        onward = self.walks.onward(step) or self.walks.children(step)
        if kind in ("detach", "data") and len(onward) == 1 and onward[0].place == step.place:
            following = onward[0]
            return following if following.name in (*READING, "leaf") else step
        return step

    def _cut(self, kind: str, step: Step, group: str, detail: str = "") -> Cut:
        return cut(kind, step.place, module=step.module, groups=(group,), detail=detail)

    def _depends(self, group: str) -> bool:
        """Return whether the loss changes when a group's weights do, by changing them."""
        if group not in self._dependence:
            weights = self.case.groups[group]
            learning = {n: p for n, p in weights.items() if n in self.trace.roots}
            untouched = self._perturbed_loss({}, 0.0)
            self._dependence[group] = any(
                self._perturbed_loss(learning, share) != untouched for share in PERTURBATIONS
            )
        return self._dependence[group]

    def _perturbed_loss(self, weights: Mapping[str, Parameter], share: float) -> float:
        self.case.guard.put_back()
        generator = torch.Generator().manual_seed(0)
        changes = {
            name: torch.randn(weight.shape, generator=generator).to(weight)
            * (share * (1 + float(weight.detach().abs().mean())))
            for name, weight in weights.items()
        }
        move(weights, changes)
        loss = self.case.loss_fn()
        return float(loss.detach() if isinstance(loss, Tensor) else loss)
