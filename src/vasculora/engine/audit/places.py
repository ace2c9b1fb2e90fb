"""From a running call to the statement that is to blame: file, line, function.

Frames of torch itself, of this package's audit, and of wrappers that stand for nobody's decision
are passed over; what remains first is a line of the user's or of a library.
"""

import contextlib
import functools
import inspect
import linecache
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import CodeType, FrameType, TracebackType
from typing import Any

import torch

_LIBRARIES = ("site-packages", "dist-packages")
_MODE_WORDS = ("no_grad", "inference_mode", "set_grad_enabled")


@dataclass(frozen=True)
class Place:
    """A statement.

    Attributes:
        file: Its file.
        line: Its line, from 1.
        function: The function it stands in.
        caller: Of a library's statement: the statement outside all libraries that led to it.
    """

    file: str
    line: int
    function: str
    caller: "Place | None" = field(default=None, compare=False)

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def here(skip: tuple[str, ...] = ()) -> Place | None:
    """Return the innermost running statement outside torch, and outside folders named in `skip`."""
    return statement(sys._getframe(1), skip)


def statement(frame: FrameType | None, skip: tuple[str, ...] = ()) -> Place | None:
    """Return the innermost statement, from a frame outwards, that somebody wrote on purpose."""
    while frame is not None:
        file = frame.f_code.co_filename
        if not is_passed_over(file) and not _lies_in(file, skip):
            called = statement(frame.f_back, _LIBRARIES) if _lies_in(file, _LIBRARIES) else None
            return Place(file, frame.f_lineno, frame.f_code.co_name, called)
        frame = frame.f_back
    return None


def raised_at(traceback: TracebackType | None) -> Place | None:
    """Return the innermost statement outside torch that an exception came through."""
    found = None
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if not is_passed_over(code.co_filename):
            found = Place(code.co_filename, traceback.tb_lineno, code.co_name)
        traceback = traceback.tb_next
    return found


def defined_at(function: Any) -> Place | None:
    """Return where a function's definition begins: its first decorator, if it has one."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if not isinstance(code, CodeType):
        return None
    return Place(code.co_filename, code.co_firstlineno, code.co_name)


def mode_decorator(function: Any, frame: FrameType | None) -> Place | None:
    """Return the decorator that switches the graph off for a function called from a frame.

    Running tells the function; of several decorators, the text tells which.
    """
    place = defined_at(function)
    if place is None:
        return None
    if _lies_in(place.file, _LIBRARIES):
        place = replace(place, caller=statement(frame, _LIBRARIES))
    number = place.line
    while (text := linecache.getline(place.file, number)) and not text.lstrip().startswith("def "):
        if any(word in text for word in _MODE_WORDS):
            return replace(place, line=number)
        number += 1
    return place


@functools.cache
def is_passed_over(file: str) -> bool:
    """Return whether the frames of a file stand for nobody's decision."""
    return file.startswith(("<@beartype", "<frozen", *_PASSED_OVER))


@functools.cache
def _lies_in(file: str, names: tuple[str, ...]) -> bool:
    """Return whether a file lies in a folder of one of these names."""
    return any(name in Path(file).parts for name in names)


def _folder_of(module: Any) -> str:
    return str(Path(module.__file__).parent) + "/"


_PASSED_OVER = (
    _folder_of(torch),
    str(Path(__file__).parent) + "/",
    contextlib.__file__,
    functools.__file__,
    str(Path(torch.__file__).parent.parent / "jaxtyping") + "/",
)
