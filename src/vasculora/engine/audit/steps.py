"""What a followed pass is made of: calls of torch, and steps of what depends on a weight."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vasculora.engine.audit.operations import (
    MATCHING,
    MULTIPLYING,
    SHAPED,
    WEIGHTED,
    is_in_place,
    stem,
)
from vasculora.engine.audit.places import Place
from vasculora.engine.audit.switches import Switch
from vasculora.engine.audit.values import TracedArray


@dataclass(eq=False, slots=True)
class Step:
    """One value that depends on a trainable weight.

    Attributes:
        index: Its turn in the pass.
        name: The call that made it; of a weight, the weight's name.
        parents: What it was made from, and whether each carried the graph then.
        live: Whether it carries the graph.
        place: The statement.
        module: The module that was running.
        off: What had switched the graph off, outermost first.
        within: Whether it was made inside a custom autograd function, whose graph shows later.
        reentrant: Whether that function is a reentrant checkpoint.
        custom: Name of the custom function it came out of.
        dtype: Its number format; None for numbers and arrays.
        zeros: Whether a factor in the call that made it is zero: `all` of it, `some`, or nowhere
            (empty).
        is_empty: Whether it has no entry.
        is_lost: Whether it has become too small for its number format.
        finite: Whether all of it is finite, as measured.
        is_finite: The same, once the pass is over.
        peak: Largest size of the gradient that came back to it, as measured; None where none did.
        gradient: The same, once the pass is over.
    """

    index: int
    name: str
    parents: "Sources" = ()
    live: bool = False
    place: Place | None = None
    module: str = ""
    off: tuple[Switch, ...] = ()
    within: bool = False
    reentrant: bool = False
    custom: str = ""
    dtype: torch.dtype | None = None
    zeros: str = ""
    is_empty: bool = False
    is_lost: bool = False
    finite: Tensor | None = None
    is_finite: bool = True
    peak: Tensor | None = None
    gradient: float | None = None

    @property
    def is_discrete(self) -> bool:
        """Whether it is a choice: an index, a token, true or false."""
        numbers = self.dtype is None or self.dtype.is_floating_point or self.dtype.is_complex
        return not numbers


Sources = tuple[tuple[Step, bool], ...]


@dataclass(frozen=True)
class Call:
    """A call of torch: its plain name, its arguments, and the values found in them."""

    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    items: tuple[Any, ...]

    @property
    def values(self) -> tuple[Any, ...]:
        """The items whose values count; of some calls' arguments, only the shape does."""
        if self.name in SHAPED and self.args and isinstance(self.args[0], Tensor):
            return tuple(values_in((self.args[1:], self.kwargs)))
        return tuple(values_in(self.args[:1])) if self.name in MATCHING else self.items


@dataclass(frozen=True)
class Overwrite:
    """A statement that wrote into a tensor of some shape, while a part of the model ran."""

    place: Place | None
    shape: tuple[int, ...]
    module: str


def values_in(value: Any) -> Iterator[Any]:
    """Yield the tensors, arrays and numbers in nested arguments."""
    if isinstance(value, list | tuple):
        for item in value:
            yield from values_in(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from values_in(item)
    elif isinstance(value, Tensor | TracedArray | float | int):
        yield value


def written_by(call: Call) -> Tensor | None:
    """Return the tensor that a call overwrites."""
    args, kwargs = call.args, call.kwargs
    target = kwargs.get("out")
    if target is None and is_in_place(call.name):
        target = args[0] if args else kwargs.get("tensor", kwargs.get("input"))
    if target is None and kwargs.get("inplace") is True and args:
        target = args[0]
    return target if isinstance(target, Tensor) else None


def zeros_in(call: Call) -> str:
    """Return whether `all` or `some` of a factor in a call is zero; empty if none of any is."""
    name = stem(call.name)
    if name in WEIGHTED:
        factors: tuple[Any, ...] = tuple(call.kwargs.get(n) for n in WEIGHTED[name])
    else:
        factors = call.items if name in MULTIPLYING else ()
    found = {_zeros_of(factor) for factor in factors}
    return next((share for share in ("all", "some") if share in found), "")


def _zeros_of(factor: Any) -> str:
    if isinstance(factor, Tensor):
        num_zero = factor.numel() - int(factor.count_nonzero())
        return "" if num_zero == 0 else "all" if num_zero == factor.numel() else "some"
    is_number = isinstance(factor, float | int) and not isinstance(factor, bool)
    return "all" if is_number and factor == 0 else ""


def storage_of(tensor: Tensor) -> int:
    """Return where a tensor's memory begins; 0 where it has none."""
    try:
        return tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):  # sparse and meta tensors
        return 0
