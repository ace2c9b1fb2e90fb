"""The terminal's face: the one place that knows rich and writes to the screen.

On a terminal there are bars, tables and a little colour. Anywhere else (a file, a pipe, a dumb
terminal) there are plain lines only: no bar, no escape codes, nothing wrapped, and a sign of life
every half minute, so that `vasculora finetune ... > training.log` gives a log that `grep` can read.
`FORCE_COLOR` and its kin are not obeyed for that reason.
"""

import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from vasculora.core.report import Progress
from vasculora.core.tables import is_numeric, plain_table

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import Task

PULSE_SECONDS = 30.0
"""Least time between two plain progress lines."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def make_console(*, stderr: bool = False, terminal: bool | None = None) -> Console:
    """Return a console on standard output or standard error.

    Args:
        stderr: Standard error instead of standard output.
        terminal: Whether somebody watches; None asks the stream.
    """
    if terminal is None:
        terminal = (sys.stderr if stderr else sys.stdout).isatty()
    console = Console(
        stderr=stderr, force_terminal=terminal, force_jupyter=False, highlight=False, emoji=False
    )
    return make_console(stderr=stderr, terminal=False) if console.is_dumb_terminal else console


def render_error(message: str) -> None:
    """Write what went wrong to standard error: one message, no traceback."""
    console = make_console(stderr=True)
    _speak(console, Text.assemble(("vasculora:", "bold red"), " ", _printable(message)))


def render_json(value: Mapping[str, object]) -> None:
    """Write a value to standard output as JSON, as it is: for programs."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    make_console(terminal=False).print(_printable(text), soft_wrap=True, markup=False)


def _speak(console: Console, text: Text) -> None:
    """Write a sentence: whole words a line on a terminal, one line anywhere else."""
    console.print(text, soft_wrap=not console.is_terminal)


def _printable(text: str) -> str:
    """Return a text with what no terminal can show, or would obey, written as an escape.

    Names of files may be in any encoding, or hold control characters.
    """
    shown = text.encode("utf-8", "backslashreplace").decode()
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", shown)


@dataclass
class Reporter:
    """A `Report` on the terminal, or in the log where there is none.

    Attributes:
        out: Takes everything that may be kept.
        err: Takes warnings, unless both are the terminal anyway.
        clock: Seconds that only grow.
    """

    out: Console = field(default_factory=make_console)
    err: Console = field(default_factory=lambda: make_console(stderr=True))
    clock: Callable[[], float] = time.monotonic
    _bars: "Bars | None" = None
    _plain: "list[_PlainProgress]" = field(default_factory=list)
    _last_pulse: float = 0.0

    def note(self, text: str) -> None:
        """Say something worth knowing."""
        self._print(text)

    def warn(self, text: str) -> None:
        """Say something the user should look at; never into a redirected log."""
        # A bar on the terminal is only left whole by what passes through its own console.
        console = self.out if self.out.is_terminal else self.err
        _speak(console, Text.assemble(("Warning:", "yellow"), " ", _printable(text)))

    def line(self, text: str) -> None:
        """Write one line of the log as it is."""
        self._print(text)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Show rows under a title; columns of numbers are aligned to the right."""
        if self.out.is_terminal:
            self._rich_table(title, columns, rows)
        else:
            for text in plain_table(title, columns, rows):
                self._print(text)

    @contextmanager
    def progress(self, total: int, description: str, unit: str = "images") -> Iterator[Progress]:
        """Yield a stretch of work to count; an inner one may run inside an outer one."""
        shown = self._bar if self.out.is_terminal else self._pulse
        with shown(total, description, unit) as progress:
            yield progress

    def _print(self, text: str) -> None:
        self.out.print(_printable(text), soft_wrap=True, markup=False)

    def _rich_table(
        self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]
    ) -> None:
        from rich import box
        from rich.table import Table

        table = Table(
            title=escape(title), title_style="bold", title_justify="left", box=box.SIMPLE_HEAD
        )
        for index, column in enumerate(columns):
            numeric = is_numeric([row[index] for row in rows])
            table.add_column(
                escape(column), justify="right" if numeric else "left", overflow="fold"
            )
        for row in rows:
            table.add_row(*map(escape, row))
        self.out.print(table)

    @contextmanager
    def _bar(self, total: int, description: str, unit: str) -> Iterator[Progress]:
        outermost = self._bars is None
        if self._bars is None:
            self._bars = _make_bars(self.out)
            self._bars.start()
        bars = self._bars
        task = bars.add_task(escape(description), total=total, unit=unit, remark="")
        try:
            yield _BarProgress(bars=bars, task=task)
        finally:
            bars.remove_task(task)
            bars.refresh()
            if outermost:
                bars.stop()
                self._bars = None

    @contextmanager
    def _pulse(self, total: int, description: str, unit: str) -> Iterator[Progress]:
        if not self._plain:
            self._last_pulse = self.clock()
        progress = _PlainProgress(
            total=total,
            description=description,
            unit=unit,
            start=self.clock(),
            beat=self._beat,
        )
        self._plain.append(progress)
        try:
            yield progress
        finally:
            self._plain.remove(progress)

    def _beat(self) -> None:
        now = self.clock()
        if now - self._last_pulse >= PULSE_SECONDS:
            self._last_pulse = now
            self._print(" | ".join(item.describe(now) for item in reversed(self._plain)))


@dataclass
class _PlainProgress:
    total: int
    description: str
    unit: str
    start: float
    beat: Callable[[], None]
    done: int = 0
    remark: str = ""

    def advance(self, count: int = 1) -> None:
        self.done += count
        self.beat()

    def detail(self, text: str) -> None:
        self.remark = text

    def describe(self, now: float) -> str:
        text = f"{self.description}: {self.done}/{self.total} {self.unit}"
        speed = self.done / max(now - self.start, 1e-9)
        if speed > 0:
            left = _duration((self.total - self.done) / speed)
            text += f", {_rate(speed, self.unit)}, {left} left"
        return f"{text}, {self.remark}" if self.remark else text


@dataclass(frozen=True)
class _BarProgress:
    bars: "Bars"
    task: int

    def advance(self, count: int = 1) -> None:
        self.bars.advance(self.task, count)  # type: ignore[arg-type] # rich's own name for int

    def detail(self, text: str) -> None:
        self.bars.update(self.task, remark=text)  # type: ignore[arg-type]


def _make_bars(console: Console) -> "Bars":
    from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
    from rich.table import Column

    class Numbers(ProgressColumn):
        def render(self, task: "Task") -> Text:
            return _numbers(task)

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        Numbers(table_column=Column(no_wrap=True, overflow="ellipsis")),
        console=console,
        transient=True,
        refresh_per_second=4,
        speed_estimate_period=60,
        redirect_stdout=False,
        redirect_stderr=False,
    )


def _numbers(task: "Task") -> Text:
    text = f"{task.completed:.0f}/{task.total:.0f} {task.fields['unit']}"
    if task.speed:
        text += f"  {_rate(task.speed, task.fields['unit'])}"
    if task.time_remaining is not None:
        text += f"  {_duration(task.time_remaining)} left"
    return Text(f"{text}  {task.fields['remark']}".rstrip(), style="dim")


def _rate(speed: float, unit: str) -> str:
    return f"{speed:.1f} {unit}/s" if speed >= 0.1 else f"{1 / speed:.0f} s each"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
