"""Where the recording of the graph was switched off, and by whom.

`no_grad` and `set_grad_enabled` are seen by the trace when they set torch's flag; entering
`inference_mode` is seen by nothing, so its entry is watched while the audit follows a pass.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch
import torch.utils.checkpoint
from torch.autograd import grad_mode

from vasculora.engine.audit.places import Place, is_passed_over, mode_decorator, statement

_GRAD_MODE_FILE = grad_mode.__file__
_CHECKPOINT_FILE = torch.utils.checkpoint.__file__


@dataclass(frozen=True)
class Switch:
    """One switching off of the graph.

    Attributes:
        kind: `no_grad`, `set_grad_enabled` or `inference_mode`; `enable_grad` for one that
            switches it on again.
        place: Who did it; None if it was off from the start.
        module: Dotted name of the part of the model that was running.
        owner: Tells one switch from another.
        transparent: Whether it belongs to reentrant checkpointing, which records later.
    """

    kind: str
    place: Place | None
    module: str
    owner: int
    transparent: bool = False


class Switches:
    """The switches that are set now, outermost first.

    Args:
        running: Tells which part of the model is running.
    """

    def __init__(self, running: Callable[[], str]) -> None:
        self._running = running
        self._set: list[Switch] = []
        self._kept: list[Any] = []
        self.last_inference: Switch | None = None
        if not torch.is_grad_enabled():
            self._set.append(Switch("set_grad_enabled", None, "", 0))

    @property
    def off(self) -> tuple[Switch, ...]:
        """The switches that keep the graph off now; empty while it is recorded."""
        found: list[Switch] = []
        for switch in self._set:
            found = [] if switch.kind == "enable_grad" else [*found, switch]
        return tuple(switch for switch in found if not switch.transparent)

    @property
    def in_checkpoint(self) -> bool:
        """Whether a reentrant checkpoint is running its function for the first time."""
        return any(switch.transparent for switch in self._set)

    def flag_set(self, enabled: bool) -> None:
        """Take note that torch's flag is being set."""
        frame = _outermost_of_grad_mode(sys._getframe(1))
        if frame is None or frame.f_code.co_name == "clone":  # a decorator's copy enters next
            return
        owner, event = frame.f_locals.get("self"), frame.f_code.co_name
        if event in ("__exit__", "__call__"):
            self._drop(id(owner))
        elif not any(switch.owner == id(owner) for switch in self._set):
            kind = "enable_grad" if enabled else type(owner).__name__
            self._add(kind, owner, frame.f_back)

    def inference(self, owner: Any, frame: FrameType | None, *, entered: bool) -> None:
        """Take note that inference mode is entered or left."""
        if not entered:
            self._drop(id(owner))
        elif owner.mode:
            self._add("inference_mode", owner, frame)
            self.last_inference = self._set[-1]

    def _add(self, kind: str, owner: Any, frame: FrameType | None) -> None:
        transparent = frame is not None and frame.f_code.co_filename == _CHECKPOINT_FILE
        self._set.append(Switch(kind, _blame(frame), self._running(), id(owner), transparent))
        self._kept.append(owner)  # an owner that is gone could lend its id to another

    def _drop(self, owner: int) -> None:
        self._set = [switch for switch in self._set if switch.owner != owner]


@contextmanager
def inference_mode_watched(switches: Switches) -> Iterator[None]:
    """Tell `switches` of every entry into inference mode."""
    cls = torch.inference_mode
    enter, leave = cls.__enter__, cls.__exit__

    def watched_enter(self: Any) -> Any:
        switches.inference(self, sys._getframe(1), entered=True)
        return enter(self)

    def watched_leave(self: Any, *fault: Any) -> Any:
        switches.inference(self, sys._getframe(1), entered=False)
        return leave(self, *fault)

    cls.__enter__, cls.__exit__ = watched_enter, watched_leave  # type: ignore[method-assign]
    try:
        yield
    finally:
        cls.__enter__, cls.__exit__ = enter, leave  # type: ignore[method-assign]


def _outermost_of_grad_mode(frame: FrameType | None) -> FrameType | None:
    """Return the frame of the context that sets the flag: no_grad sets it through another one."""
    while frame is not None and frame.f_code.co_filename != _GRAD_MODE_FILE:
        frame = frame.f_back
    while frame is not None and frame.f_back is not None:
        if frame.f_back.f_code.co_filename != _GRAD_MODE_FILE:
            return frame
        frame = frame.f_back
    return frame


def _blame(frame: FrameType | None) -> Place | None:
    """Return the `with` statement, the call, or the decorator of the function that is running."""
    while frame is not None and is_passed_over(frame.f_code.co_filename):
        if frame.f_code.co_name in _WRAPPERS and "func" in frame.f_locals:
            return mode_decorator(frame.f_locals["func"], frame.f_back)
        frame = frame.f_back
    return statement(frame)


_WRAPPERS = ("decorate_context", "generator_context")
"""What torch wraps a decorated function in."""
