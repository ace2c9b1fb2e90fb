"""How a command ends: exit codes, and faults turned into one clear message.

0 done, 1 a check or gate failed, 2 bad input, 3 the run cannot learn, 130 / 143 stopped.
"""

import os
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
        except (ValueError, OSError, RuntimeError) as fault:
            if ctx.params.get("debug"):
                raise
            _stop(_message(fault), _exit_code(fault))


def _terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise _Terminated


def _stop(message: str, code: int) -> NoReturn:
    render_error(message)
    raise typer.Exit(code)


def _message(fault: Exception) -> str:
    """Return what to tell of a fault; what the system refused itself gets its file and a cure."""
    if isinstance(fault, OSError) and fault.strerror is not None and fault.filename is not None:
        cure = "Check that it is there and that you may use it (ls -ld), or choose another."
        return f"{os.fsdecode(fault.filename)}: {fault.strerror}. {cure}"
    return str(fault)


def _exit_code(fault: Exception) -> int:
    """Return the exit code of a fault; one that is none of the user's making is raised again."""
    from vasculora.core.errors import CannotLearnError

    if isinstance(fault, CannotLearnError):
        return CANNOT_LEARN
    if isinstance(fault, RuntimeError):
        raise fault
    return BAD_INPUT
