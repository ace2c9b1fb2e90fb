"""Numbers and arrays that remember which tensor they were read from.

A loss made from `item()` or `numpy()` has no graph, and torch no longer sees what it was made of.
While the audit follows a pass, such a value therefore carries its origin through arithmetic, until
it meets a tensor again.
"""

from collections.abc import Callable
from typing import Any

import numpy as np


class TracedFloat(float):
    """A float that came out of a tensor.

    Attributes:
        origin: The step of the trace it was read at.
    """

    origin: Any

    def __new__(cls, value: float, origin: Any) -> "TracedFloat":
        """Return the value with its origin."""
        self = super().__new__(cls, value)
        self.origin = origin
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return float, (float(self),)


class TracedArray(np.ndarray):
    """An array that came out of a tensor; views and results of NumPy's functions are some too."""

    origin: Any

    def __array_finalize__(self, obj: Any) -> None:
        self.origin = getattr(obj, "origin", None)

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        if array.ndim == 0 and array.dtype.kind == "f":
            return TracedFloat(float(array), self.origin)
        return super().__array_wrap__(array, context, return_scalar)


def traced(value: Any, origin: Any) -> Any:
    """Return a value read from a tensor so that it remembers; whole numbers and the like do not."""
    if isinstance(value, float):
        return TracedFloat(value, origin)
    if isinstance(value, list):
        return [traced(item, origin) for item in value]
    if isinstance(value, np.ndarray):
        array = value.view(TracedArray)
        array.origin = origin
        return array
    return value


def _lift(name: str) -> Callable[..., Any]:
    plain = getattr(float, name)

    def lifted(self: TracedFloat, *others: Any) -> Any:
        result = plain(self, *others)
        return TracedFloat(result, self.origin) if isinstance(result, float) else result

    lifted.__name__ = name
    return lifted


for _operator in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
    setattr(TracedFloat, f"__{_operator}__", _lift(f"__{_operator}__"))
    setattr(TracedFloat, f"__r{_operator}__", _lift(f"__r{_operator}__"))
for _operator in ("neg", "pos", "abs"):
    setattr(TracedFloat, f"__{_operator}__", _lift(f"__{_operator}__"))
