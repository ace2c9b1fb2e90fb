"""What a planted fault is, and how the place it must be named at is read off its own source.

The guilty line of a fault carries a comment:

    # cut            this line must be named, with the fault's kind
    # or KIND        this line with that kind is as good an answer
    # also KIND      may be named besides: a second thing that is wrong here
    # maybe          the line may be named, or no line at all

A fault without such a comment has no statement to blame: file and line must be None.
"""

import ast
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

MARK = re.compile(r"# (cut|or|also|maybe)\b(?: (\w+))?")
COMPREHENSIONS = ("<listcomp>", "<genexpr>", "<dictcomp>", "<setcomp>")


@dataclass(frozen=True)
class Case:
    """What `audit_gradients` is given."""

    model: nn.Module
    loss_fn: Callable[[], Tensor]
    optimizer: torch.optim.Optimizer | None = None
    groups: Mapping[str, str | Sequence[str]] | None = None


@dataclass(frozen=True)
class Place:
    """A cut as it should be named. A file may be given by its ending."""

    kind: str
    file: str | None = None
    line: int | None = None
    functions: tuple[str, ...] = ()

    def fits(self, cut: Any) -> bool:
        """Return whether a cut of a report is this one."""
        if cut.kind != self.kind:
            return False
        if self.file is None:
            return cut.file is None and cut.line is None
        if cut.file is None or not str(cut.file).endswith(self.file):
            return False
        right_function = not self.functions or cut.function in self.functions + COMPREHENSIONS
        return right_function and self.line in (None, cut.line)


@dataclass(frozen=True)
class Fault:
    """A way to lose a gradient, planted.

    Attributes:
        name: What it is.
        kind: The kind that must be named.
        build: Makes the model and its loss.
        source: What holds the marked line: a function or a class; several may be given.
        dead: Groups that must be reported dead; all others must learn, at least in part.
        outside: Groups that no optimizer moves.
        module: Ending of the dotted name that the cut must carry; None where any will do.
        twins: Healthy set-ups with the same words.
        places: Right answers that no mark can express.
        also: Kinds that may be named besides, at any place.
        refused: Whether torch itself refuses the loss, so that nothing is known of other groups.
    """

    name: str
    kind: str
    build: Callable[[], Case]
    source: Any = None
    dead: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()
    module: str | None = None
    twins: tuple[Callable[[], Case], ...] = ()
    places: tuple[Place, ...] = ()
    also: tuple[str, ...] = ()
    refused: bool = False

    def right_places(self) -> list[Place]:
        """Return the places of which one must be named."""
        marked = [place for mark, place in self._marked() if mark != "also"]
        if any(mark == "maybe" for mark, _ in self._marked()):
            marked.append(Place(self.kind))
        return [*marked, *self.places] or [Place(self.kind)]

    def allowed_places(self) -> list[Place]:
        """Return the places that may be named besides."""
        return [place for mark, place in self._marked() if mark == "also"]

    def _marked(self) -> list[tuple[str, Place]]:
        sources = self.source if isinstance(self.source, tuple) else (self.source,)
        return [found for source in sources if source for found in marks(source, self.kind)]


def marks(source: Any, kind: str) -> list[tuple[str, Place]]:
    """Return the marked lines of a function or class, each with its mark."""
    plain = inspect.unwrap(source)
    path = inspect.getsourcefile(plain)
    lines, first = inspect.getsourcelines(plain)
    found = []
    for number, line in enumerate(lines, start=first):
        for mark, named in MARK.findall(line):
            functions = (enclosing_function(path, number),)
            found.append((mark, Place(named or kind, path, number, functions)))
    return found


def enclosing_function(path: str, line: int) -> str:
    """Return the name of the innermost function a line belongs to, decorators included."""
    best = (-1, "<module>")
    for start, end, name in function_spans(path):
        if start <= line <= end:
            best = max(best, (start, name))
    return best[1]


@cache
def function_spans(path: str) -> list[tuple[int, int, str]]:
    """Return first line, last line and name of every function in a file."""
    spans = []
    for node in ast.walk(ast.parse(Path(path).read_text())):
        if isinstance(node, ast.FunctionDef):
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            spans.append((first, node.end_lineno, node.name))
        elif isinstance(node, ast.Lambda):
            spans.append((node.lineno, node.end_lineno, "<lambda>"))
    return spans
