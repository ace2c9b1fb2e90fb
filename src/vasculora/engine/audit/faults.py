"""When torch itself refuses a pass: the statement behind its message."""

import re

from vasculora.engine.audit.findings import cut
from vasculora.engine.audit.places import Place, raised_at
from vasculora.engine.audit.report import Cut
from vasculora.engine.audit.trace import Trace

_SHAPE = re.compile(r"Tensor \[([\d, ]*)\]\], which")


def explain_fault(fault: RuntimeError, trace: Trace, *, groups: tuple[str, ...]) -> Cut:
    """Return the cut behind an error about tensors edited in place or made in inference mode.

    Args:
        fault: What torch raised.
        trace: The pass in which it did.
        groups: What cannot learn for it.
    """
    text = str(fault).partition("\n")[0].rstrip(". ")
    if "nference tensor" in text:
        switch = trace.switches.last_inference
        return cut(
            "inference_mode", None if switch is None else switch.place, groups=groups, detail=text
        )
    place = raised_at(fault.__traceback__)
    if "modified by an inplace operation" in text:
        place = _overwritten(text, trace) or place
    return cut("in_place", place, groups=groups, detail=text.partition(";")[0])


def _overwritten(text: str, trace: Trace) -> Place | None:
    """Return the last statement that wrote to a tensor of the size the message names."""
    found = _SHAPE.search(text)
    shape = tuple(int(n) for n in found[1].split(",") if n.strip()) if found else None
    places = [place for place, _ in trace.overwrites]
    fitting = [place for place, size in trace.overwrites if shape in (None, size)]
    return (fitting or places)[-1] if places else None
