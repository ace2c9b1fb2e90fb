"""How a command ends: exit codes, and faults turned into one clear message.

0 done, 1 a check or gate failed, 2 bad input or too little memory, 3 the run cannot learn, 130 /
143 stopped.
"""

import os
import re
import signal
from types import FrameType
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from vasculora.cli.render import render_error

FAILED, BAD_INPUT, CANNOT_LEARN, INTERRUPTED, TERMINATED = 1, 2, 3, 130, 143


class _Terminated(BaseException):
    """The process was asked to end."""


class Guarded(TyperGroup):
    """A group of commands that turns faults into one clear message and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; a fault ends the program with its message and code."""
        signal.signal(signal.SIGTERM, _terminate)
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            _stop("stopped. What was finished is kept.", INTERRUPTED)
        except _Terminated:
            _stop("terminated. What was finished is kept.", TERMINATED)
        except (ValueError, OSError, RuntimeError, MemoryError) as fault:
            if ctx.params.get("debug"):
                raise
            _stop(*_verdict(fault))


def _terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise _Terminated


def _stop(message: str, code: int) -> NoReturn:
    render_error(message)
    raise typer.Exit(code)


def _verdict(fault: Exception) -> tuple[str, int]:
    """Return message and exit code of a fault; one that is none of the user's making goes on."""
    from vasculora.core.errors import CannotLearnError

    if isinstance(fault, CannotLearnError):
        return str(fault), CANNOT_LEARN
    if isinstance(fault, RuntimeError | MemoryError):
        return _without_room(fault), BAD_INPUT
    return _message(fault), BAD_INPUT


def _message(fault: Exception) -> str:
    """Return what to tell of a fault; what the system refused itself gets its file and a cure."""
    if isinstance(fault, OSError) and fault.strerror is not None and fault.filename is not None:
        cure = "Check that it is there and that you may use it (ls -ld), or choose another."
        return f"{os.fsdecode(fault.filename)}: {fault.strerror}. {cure}"
    return str(fault)


def _without_room(fault: RuntimeError | MemoryError) -> str:
    """Return what to tell where memory ran out; any other fault is raised again."""
    from vasculora.core.runtime import is_out_of_memory

    if not is_out_of_memory(fault):
        raise fault
    asked = re.search(r"allocate ([\d.]+ \w+)", str(fault))
    return _NO_ROOM.format(asked="" if asked is None else f" ({asked[1]} more were asked for)")


_NO_ROOM = (
    "memory ran out{asked}. Expected room for the model and all that is worked on together. What "
    "was finished is kept. Lower --batch-size (finetune), --set eval_batch_size=1 (its scores) or "
    "--set batch_size=1 (evaluate), train with --preset light, which keeps nothing of the image "
    "encoder, or end what else fills this memory (nvidia-smi, top)."
)
