"""Between two steps of a pass the gradient is lost: the kind of cut that is, and its place."""

import dis
import inspect
from collections.abc import Container
from types import CodeType

import torch
from torch import nn

from vasculora.engine.audit.findings import cut
from vasculora.engine.audit.operations import FLATTENING, LEAVING, stem
from vasculora.engine.audit.places import Place, defined_at
from vasculora.engine.audit.report import Cut
from vasculora.engine.audit.steps import Step

_CHECKPOINT = "CheckpointFunctionBackward"


def blame_forward(parent: Step, step: Step, *, live: bool, group: str) -> list[Cut]:
    """Return the cuts between two steps of which the second does not carry the first one's graph.

    Args:
        parent: The step that still carries it.
        step: The next one towards the loss.
        live: Whether the first carried it when the second was made.
        group: What loses its gradient there.
    """
    if parent.within and not live:
        within = "reentrant_checkpoint" if parent.reentrant else "custom_function"
        return [cut(within, parent.place, module=parent.module, groups=(group,))]
    cuts = [
        cut(switch.kind, switch.place, module=switch.module or step.module, groups=(group,))
        for switch in step.off
    ]
    kind = _leaving(step)
    if kind is not None or not cuts:
        unknown = "" if kind else f"{step.name}() does"
        kind = kind or "detach"
        cuts.append(cut(kind, step.place, module=step.module, groups=(group,), detail=unknown))
    return cuts


def _leaving(step: Step) -> str | None:
    """Return the kind of a step whose very nature is to have no graph; None if it has no such."""
    name = stem(step.name)
    kind = LEAVING.get(step.name, LEAVING.get(name))
    if step.dtype is None or kind in ("detach", "data", "copy", "detached_leaf"):
        return kind
    if step.dtype.is_floating_point or step.dtype.is_complex:
        return FLATTENING.get(name) if name in ("sign", "round") else None
    return kind or "cast"


def blame_backward(parent: Step, step: Step, group: str) -> Cut:
    """Return the cut between two steps of which only the one nearer the loss has a gradient."""
    if parent.is_empty:
        return cut("branch_not_taken", parent.place, module=parent.module, groups=(group,))
    kind, detail = _flattening(parent, step)
    return cut(kind, step.place, module=step.module, groups=(group,), detail=detail)


def _flattening(parent: Step, step: Step) -> tuple[str, str]:
    if step.custom == _CHECKPOINT:
        return "vanishing", "inside this checkpoint"
    if step.custom or step.within:
        return "custom_function", step.custom.removesuffix("Backward")
    name = stem(step.name)
    if step.zeros == "all" or (step.zeros and parent is step):
        return "zero_weight", name
    if name in FLATTENING:
        return FLATTENING[name], name
    formats = [d for d in (parent.dtype, step.dtype) if d is not None and d.is_floating_point]
    coarsest = torch.finfo(max(formats, key=lambda d: torch.finfo(d).tiny, default=torch.float32))
    if step.is_lost or abs(step.gradient or 0) < coarsest.tiny**0.5 or len(set(formats)) > 1:
        return "underflow", f"{coarsest.dtype} in {name}"
    return "vanishing", f"it becomes zero in {name}"


def unused_at(model: nn.Module, weight: str, ran: Container[str]) -> tuple[str, Place | None]:
    """Return the outermost part around a weight that did not run, and the line that would run it.

    Args:
        model: The model.
        weight: Name of the weight.
        ran: Names of the modules that did run; the model's own is empty.
    """
    parts = weight.split(".")
    depth = next((d for d in range(len(parts) - 1, -1, -1) if ".".join(parts[:d]) in ran), None)
    if depth is None:
        return weight.rpartition(".")[0], None
    owner = model.get_submodule(".".join(parts[:depth]))
    unused = ".".join(parts[: min(depth + 1, len(parts))])
    return unused, _mention(type(owner).forward, parts[depth])


def _mention(forward: object, name: str) -> Place | None:
    """Return the condition in front of where a forward names an attribute, or that line itself."""
    start = defined_at(forward)
    code = getattr(inspect.unwrap(forward), "__code__", None)  # type: ignore[arg-type]
    if start is None or not isinstance(code, CodeType):
        return start
    before: list[dis.Instruction] = []
    for instruction in dis.get_instructions(code):
        if instruction.argval == name:
            jumps = [i for i in before if "_IF_" in i.opname and i.argval > instruction.offset]
            blamed = (jumps or [instruction])[-1]
            line = blamed.positions and blamed.positions.lineno
            return Place(start.file, line or start.line, start.function)
        before.append(instruction)
    return start
