"""From a followed pass to the cuts: why each untouched weight got nothing.

not used at all             -> its branch was not taken, or its adapter is off
used, but not for the loss  -> another tensor, or a constant
used, without a graph       -> every step on the way where the graph ends
used, with a graph          -> every step on the way where the gradient becomes zero
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)

from vasculora.engine.audit.blame import blame_backward, blame_forward, unused_at
from vasculora.engine.audit.faults import explain_fault
from vasculora.engine.audit.findings import cut
from vasculora.engine.audit.guard import Guard
from vasculora.engine.audit.operations import READING
from vasculora.engine.audit.places import defined_at
from vasculora.engine.audit.reach import backward, is_told, move
from vasculora.engine.audit.report import Cut
from vasculora.engine.audit.switches import inference_mode_watched
from vasculora.engine.audit.trace import Step, Trace

SEVERING = frozenset(
    {"no_grad", "inference_mode", "set_grad_enabled", "detach", "data", "item", "numpy", "tolist"}
    | {"copy", "detached_leaf", "custom_function", "reentrant_checkpoint", "frozen", "in_place"}
    | {"adapter_disabled", "nonfinite"}
)
"""Kinds worth naming where a group is only partly reached: a choice that was not taken on this
batch is no fault, a graph that ends is."""
PERTURBATION = 1e-2


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is to be explained.

    Attributes:
        model: The model.
        loss_fn: Its loss.
        groups: Weights by group and name.
        states: How far each trainable tensor was reached.
        dead: Groups that learn nothing.
        nudges: What had been moved so that zeros do not hide a path.
        guard: Puts everything back between passes.
    """

    model: nn.Module
    loss_fn: Callable[[], Any]
    groups: Mapping[str, Mapping[str, Parameter]]
    states: Mapping[str, str]
    dead: tuple[str, ...]
    nudges: Mapping[str, Tensor]
    guard: Guard

    @property
    def learners(self) -> dict[str, Parameter]:
        """Trainable weights by name."""
        return {n: p for g in self.groups.values() for n, p in g.items() if p.requires_grad}


@dataclass
class _Findings:
    """Cuts as they are found; one a place and kind, whatever number of weights it concerns."""

    cuts: dict[tuple[Any, ...], Cut] = field(default_factory=dict)

    def add(self, found: Cut) -> None:
        key = (found.kind, found.file, found.line, None if found.file else found.module)
        known = self.cuts.get(key)
        if known is not None:
            groups = tuple(dict.fromkeys((*known.groups, *found.groups)))
            found = cut_with_groups(known, groups)
        self.cuts[key] = found


def cut_with_groups(found: Cut, groups: tuple[str, ...]) -> Cut:
    """Return a cut that concerns other groups."""
    fields = {name: getattr(found, name) for name in Cut.__dataclass_fields__}
    return Cut(**fields | {"groups": groups})


def diagnose(case: Case) -> list[Cut]:
    """Return where what should learn loses its gradient."""
    learners = case.learners
    trace = Trace(weights=learners, module_names={id(m): n for n, m in case.model.named_modules()})
    case.guard.put_back()
    case.guard.clear_grads()
    move(learners, case.nudges)
    try:
        with _followed(trace):
            loss = case.loss_fn()
        ends = trace.of(loss)
        backward(loss)
    except RuntimeError as fault:
        if not is_told(fault):
            raise
        return [explain_fault(fault, trace, groups=tuple(case.groups))]
    live = isinstance(loss, Tensor) and loss.requires_grad
    return _Diagnosis(case, trace, loss, dict.fromkeys(ends, live)).run()


@contextmanager
def _followed(trace: Trace) -> Iterator[None]:
    """Follow what runs inside, and which module runs it."""
    hooks = (
        register_module_forward_pre_hook(trace.enter_module),
        register_module_forward_hook(trace.leave_module, always_call=True),
    )
    try:
        with inference_mode_watched(trace.switches), trace:
            yield
    finally:
        for hook in hooks:
            hook.remove()


class _Diagnosis:
    """One followed pass, asked about every weight that got nothing."""

    def __init__(self, case: Case, trace: Trace, loss: Any, ends: Mapping[Step, bool]) -> None:
        self.case, self.trace, self.loss, self.ends = case, trace, loss, ends
        self.found = _Findings()
        self.children: dict[Step, list[tuple[Step, bool]]] = {}
        for step in trace.steps:
            for parent, live in step.parents:
                self.children.setdefault(parent, []).append((step, live))
        self.towards_loss = self._ancestors(ends)

    def run(self) -> list[Cut]:
        """Return the cuts, in the order of the pass."""
        if self._loss_is_not_finite():
            self._blame_not_finite(set(self.case.groups))
            return list(self.found.cuts.values())
        for group, params in self.case.groups.items():
            unreached = [n for n in params if self.case.states.get(n, "touched") != "touched"]
            found = _Findings()
            for name in unreached:
                for one in self._explain(name, group):
                    if group in self.case.dead or one.kind in SEVERING:
                        found.add(one)
            for one in found.cuts.values():
                self.found.add(one)
        return list(self.found.cuts.values())

    def _explain(self, name: str, group: str) -> Iterator[Cut]:
        root = self.trace.roots[name]
        if self.case.states[name] == "nonfinite":
            bad = self._frontier(root, lambda s: s.gradient is not None and not _is_finite(s))
            for _, step in bad:
                yield self._cut("nonfinite", step, group)
            return
        reached = self._descendants(root)
        if name in self.trace.frozen:
            kind, place = self.trace.frozen[name]
            yield cut(kind, place, module=root.module, groups=(group,))
        elif len(reached) == 1:
            yield from self._explain_unused(root, group)
        elif not reached & self.towards_loss:
            yield from self._explain_unconnected(root, reached, group)
        else:
            yield from self._explain_connected(root, reached, group)

    def _explain_unused(self, root: Step, group: str) -> Iterator[Cut]:
        if not self.ends:
            yield self._constant(group)
            return
        module, place = unused_at(self.case.model, root.name, self.trace.ran)
        yield cut("branch_not_taken", place, module=module, groups=(group,))

    def _explain_unconnected(self, root: Step, reached: set[Step], group: str) -> Iterator[Cut]:
        """Explain a weight whose results end before the loss."""
        exits = [
            (parent, step)
            for step in reached
            if step.name in READING and step.name != "__bool__"
            for parent, live in step.parents
            if live or parent in reached
        ]
        if exits and self._depends(root.name):
            last = max(exits, key=lambda pair: pair[1].index)
            yield from self._forward_cuts(*last, live=True, group=group)
            return
        place, from_tensors = self.trace.made_at(self.loss)
        if not self.ends and not from_tensors:
            yield self._constant(group)
            return
        last_result = max((s for s in reached if s.live), key=lambda s: s.index)
        detail = f"the loss is made at {place}" if place else ""
        yield cut(
            "other_tensor",
            last_result.place,
            module=last_result.module,
            groups=(group,),
            detail=detail,
        )

    def _constant(self, group: str) -> Cut:
        place, _ = self.trace.made_at(self.loss)
        return cut("constant_loss", place or defined_at(self.case.loss_fn), groups=(group,))

    def _explain_connected(self, root: Step, reached: set[Step], group: str) -> Iterator[Cut]:
        """Explain a weight that the loss depends on: no graph, or a gradient of zero."""
        live = self._live(root)
        if any(end in live and on for end, on in self.ends.items()):
            lost = list(self._frontier(root, lambda s: not _has_gradient(s)))
            for parent, step in lost:
                yield blame_backward(parent, step, group)
            if not lost:
                yield cut("vanishing", module=root.module, groups=(group,), detail=root.name)
            return
        for step in sorted(live, key=lambda s: s.index):
            ways = [*self.children.get(step, []), *self._end_of(step)]
            for child, on in ways:
                if child not in live and (child in self.towards_loss or child is step):
                    yield from self._forward_cuts(step, child, live=on, group=group)
        yield from (
            self._cut("detached_leaf", s, group)
            for s in reached & self.towards_loss
            if s.name == "leaf" and s not in live
        )

    def _end_of(self, step: Step) -> list[tuple[Step, bool]]:
        """Return the way from a step to the loss itself, where it ends there without a graph."""
        return [(step, False)] if self.ends.get(step) is False else []

    def _forward_cuts(self, parent: Step, step: Step, *, live: bool, group: str) -> list[Cut]:
        return blame_forward(parent, step, live=live, group=group)

    def _cut(self, kind: str, step: Step, group: str) -> Cut:
        return cut(kind, step.place, module=step.module, groups=(group,))

    # -- walks ---------------------------------------------------------------------------------

    def _ancestors(self, ends: Mapping[Step, bool]) -> set[Step]:
        seen, waiting = set(ends), list(ends)
        while waiting:
            for parent, _ in waiting.pop().parents:
                if parent not in seen:
                    seen.add(parent)
                    waiting.append(parent)
        return seen

    def _descendants(self, root: Step) -> set[Step]:
        seen, waiting = {root}, [root]
        while waiting:
            for child, _ in self.children.get(waiting.pop(), []):
                if child not in seen:
                    seen.add(child)
                    waiting.append(child)
        return seen

    def _live(self, root: Step) -> set[Step]:
        """Return the steps that a weight reaches without leaving the graph."""
        seen, waiting = {root}, [root]
        while waiting:
            step = waiting.pop()
            for child, on in self.children.get(step, []):
                passes = on or (step.within and child.within)
                if passes and (child.live or child.within) and child not in seen:
                    seen.add(child)
                    waiting.append(child)
        return seen

    def _frontier(self, root: Step, is_bad: Callable[[Step], bool]) -> Iterator[tuple[Step, Step]]:
        """Yield the pairs of steps, towards the loss, between which the gradient goes bad."""
        live = self._live(root) & self.towards_loss
        seen, waiting = {root}, [root]
        while waiting:
            step = waiting.pop()
            for child, _ in self.children.get(step, []):
                if child not in live:
                    continue
                if not is_bad(child) and not (child.within and not child.live):
                    yield step, child
                elif child not in seen:
                    seen.add(child)
                    waiting.append(child)

    # -- numbers that are not finite -----------------------------------------------------------

    def _loss_is_not_finite(self) -> bool:
        return isinstance(self.loss, Tensor) and not bool(torch.isfinite(self.loss.detach()).all())

    def _blame_not_finite(self, groups: set[str]) -> None:
        """Walk back from the loss, through what is not finite, to where it appeared."""
        bad = {s for s in self.towards_loss if s.finite is not None and not bool(s.finite)}
        for step in sorted(bad, key=lambda s: s.index):
            if not any(parent in bad for parent, _ in step.parents):
                concerned = tuple(g for g in self.case.groups if g in groups)
                self.found.add(cut("nonfinite", step.place, module=step.module, groups=concerned))

    # -- proof of dependence -------------------------------------------------------------------

    def _depends(self, name: str) -> bool:
        """Return whether the loss changes when a weight does, by changing it."""
        values = []
        for scale in (0.0, PERTURBATION):
            self.case.guard.put_back()
            weight = self.case.learners[name]
            noise = torch.Generator().manual_seed(0)
            change = torch.randn(weight.shape, generator=noise).to(weight) * scale
            move({name: weight}, {name: change * (1 + weight.detach().abs().mean())})
            values.append(float(self.case.loss_fn()))
        return values[0] != values[1]


def _has_gradient(step: Step) -> bool:
    return step.gradient is not None and bool(step.gradient != 0)


def _is_finite(step: Step) -> bool:
    return step.gradient is not None and bool(torch.isfinite(step.gradient))
