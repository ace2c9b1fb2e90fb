"""When torch itself refuses a pass: the statement behind its message."""

import re

from vasculora.engine.audit.findings import cut
from vasculora.engine.audit.operations import FLATTENING, LEAVING, stem
from vasculora.engine.audit.places import raised_at
from vasculora.engine.audit.report import Cut
from vasculora.engine.audit.steps import Overwrite
from vasculora.engine.audit.trace import Trace

_UNDIFFERENTIABLE = re.compile(r"derivative for aten::(\w+) is not implemented")
_SHAPE = re.compile(r"Tensor \[([\d, ]*)\]\], which")


def explain_fault(fault: Exception, trace: Trace, *, groups: tuple[str, ...]) -> Cut:
    """Return the cut behind an error about tensors edited in place or made in inference mode.

    Args:
        fault: What torch raised.
        trace: The pass in which it did.
        groups: What cannot learn for it.
    """
    text = str(fault).partition("\n")[0].rstrip(". ")
    if "nference tensor" in text:
        switch = trace.switches.last_inference
        place, module = (switch.place, switch.module) if switch else (None, "")
        return cut("inference_mode", place, module=module, groups=groups, detail=text)
    if undifferentiable := _UNDIFFERENTIABLE.search(text):
        name = undifferentiable[1]
        step = next((s for s in reversed(trace.steps) if stem(s.name) == name), None)
        place, module = (step.place, step.module) if step else (None, "")
        kind = FLATTENING.get(name, LEAVING.get(name, "detach"))
        return cut(kind, place, module=module, groups=groups, detail=text)
    text = text.partition(";")[0]
    if "modified by an inplace operation" in text and (write := _overwrite(text, trace)):
        return cut("in_place", write.place, module=write.module, groups=groups, detail=text)
    place = raised_at(fault.__traceback__)
    return cut("in_place", place, module=trace.last_module, groups=groups, detail=text)


def _overwrite(text: str, trace: Trace) -> Overwrite | None:
    """Return the last write to a tensor of the size that the message names."""
    found = _SHAPE.search(text)
    shape = tuple(int(n) for n in found[1].split(",") if n.strip()) if found else None
    fitting = [write for write in trace.overwrites if shape in (None, write.shape)]
    return next(reversed(fitting or trace.overwrites), None)
