"""What a recipe may say while it runs, without knowing where it is shown.

Recipes take a `Report`; the command line hands them one that writes to the terminal or a log, tests
and library users one that keeps quiet. What is kept (a log, a table) must not hold a patient's name
or path: `warn` alone goes to the user's own eyes.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@runtime_checkable
class Progress(Protocol):
    """One counted stretch of work."""

    def advance(self, count: int = 1) -> None:
        """Count `count` more as done."""

    def detail(self, text: str) -> None:
        """Show a short remark beside the count, in place of the one before."""


@runtime_checkable
class Report(Protocol):
    """Where a recipe speaks."""

    def note(self, text: str) -> None:
        """Say something worth knowing."""

    def warn(self, text: str) -> None:
        """Say something the user should look at; may name the user's own paths."""

    def line(self, text: str) -> None:
        """Write one line of the log as it is: never wrapped, never coloured."""

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Show rows under a title; one cell a column."""

    def progress(
        self, total: int, description: str, unit: str = "images"
    ) -> AbstractContextManager[Progress]:
        """Return a stretch of work to enter and count; an inner one may run inside an outer one."""


@dataclass(frozen=True)
class Silent:
    """A `Report` that says nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""

    def warn(self, text: str) -> None:
        """Say nothing."""

    def line(self, text: str) -> None:
        """Write nothing."""

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Show nothing."""

    @contextmanager
    def progress(self, total: int, description: str, unit: str = "images") -> Iterator[Progress]:
        """Yield a count that nobody sees."""
        yield _Unseen()


@dataclass(frozen=True)
class _Unseen:
    def advance(self, count: int = 1) -> None:
        pass

    def detail(self, text: str) -> None:
        pass
