"""What the audit found: group by group, cut by cut, in numbers and in words."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from vasculora.core.errors import DeadGradientError
from vasculora.core.tables import plain_table
from vasculora.engine.audit.kinds import KINDS

COLUMNS = ("group", "weights", "reached", "gradient", "update", "state")
NUM_NAMED = 3
"""Tensors of a group that are listed by name in the table's notes."""
NUM_PARTS = 4
"""Parts of a dotted name that are shown there."""


@dataclass(frozen=True, kw_only=True)
class GroupReport:
    """How far a gradient reaches one group of weights.

    Attributes:
        name: The group.
        num_parameters: Its trainable weights; of a frozen group, all.
        num_touched: Those in tensors with a finite gradient above float noise.
        num_zero: Those in tensors whose gradient is zero, or float noise.
        num_none: Those in tensors that got no gradient at all.
        num_nonfinite: Those in tensors whose gradient holds an infinity or NaN.
        num_outside: Trainable weights that no optimizer moves: not handed to it, or learning rate
            0.
        grad_norm: Norm of the finite gradients.
        update_ratio: Norm of one trial step over the norm of the weights; None without an
            optimizer, or where all weights are zero.
        state: `learns`, `partial`, `dead` (no gradient reaches it, or no optimizer moves it) or
            `frozen`.
        unreached: Names of the trainable tensors without a gradient.
    """

    name: str
    num_parameters: int
    num_touched: int
    num_zero: int
    num_none: int
    num_nonfinite: int
    num_outside: int = 0
    grad_norm: float = 0.0
    update_ratio: float | None = None
    state: str
    unreached: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Cut:
    """One place where what should learn loses its gradient.

    Attributes:
        kind: A name in `KINDS`.
        file: The file of the statement; None where no statement is to blame.
        line: Its line, from 1.
        function: The function it stands in.
        module: Dotted name of the part of the model that ran, or that is concerned.
        explanation: What happens there.
        cure: What to do.
        groups: The groups that lose their gradient there.
    """

    kind: str
    file: str | None = None
    line: int | None = None
    function: str | None = None
    module: str | None = None
    explanation: str
    cure: str
    groups: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Hold the list of kinds closed."""
        assert self.kind in KINDS, self.kind

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}, in {self.function}" if self.file else ""
        inside = f"module {self.module}" if self.module else ""
        groups = f"cuts off {', '.join(self.groups)}" if self.groups else ""
        head = f"[{self.kind}] {'; '.join(p for p in (where, inside, groups) if p)}".rstrip()
        return f"{head}\n    {_sentence(self.explanation)} {self.cure}"


@dataclass(frozen=True)
class AuditReport:
    """What learns in a model, seen on one batch.

    Attributes:
        groups: What the gradient reaches.
        cuts: Where it is lost; empty where every trainable weight can learn.
        sentence: How far masks move with the sentence, by name; empty where it was not asked.
    """

    groups: tuple[GroupReport, ...]
    cuts: tuple[Cut, ...] = ()
    sentence: dict[str, float] = field(default_factory=dict)

    @property
    def num_parameters(self) -> int:
        """Number of trainable weights."""
        return sum(group.num_parameters for group in self.groups if group.state != "frozen")

    @property
    def num_touched(self) -> int:
        """Number of trainable weights that the gradient reaches."""
        return sum(group.num_touched for group in self.groups)

    @property
    def ok(self) -> bool:
        """Whether everything that should learn does, and nothing else moves."""
        learning = [group for group in self.groups if group.state != "frozen"]
        alive = all(group.state != "dead" and not group.num_outside for group in learning)
        return bool(learning) and alive and not any(cut.kind in FATAL for cut in self.cuts)

    def rows(self) -> list[tuple[str, ...]]:
        """Return the table a person reads, a row a group."""
        return [
            (
                group.name,
                f"{group.num_parameters:,}",
                f"{group.num_touched:,} ({group.num_touched / max(group.num_parameters, 1):.1%})",
                f"{group.grad_norm:.3g}",
                "-" if group.update_ratio is None else f"{group.update_ratio:.2g}",
                group.state,
            )
            for group in self.groups
        ]

    def notes(self) -> list[str]:
        """Return what the table cannot say, cuts last."""
        return [*self.remarks(), *(str(cut) for cut in self.cuts)]

    def remarks(self) -> list[str]:
        """Return the notes without the cuts: the total, unreached tensors, the sentence."""
        total = _share(self.num_touched, self.num_parameters)
        lines = [f"Reached: {total} trainable weights."] if self.num_parameters else []
        for group in self.groups:
            if group.state == "partial":
                lines.append(f"{group.name}: not reached: {_list(group.unreached)}.")
        outside = [
            f"{_share(group.num_outside, group.num_parameters)} of {group.name}"
            for group in self.groups
            if group.num_outside
        ]
        lines += [f"Moved by no optimizer: {', '.join(outside)}."] if outside else []
        parts = [f"{name.replace('_', ' ')} {value:.3g}" for name, value in self.sentence.items()]
        return [*lines, f"Sentence: {', '.join(parts)}."] if parts else lines

    def verdict(self) -> str:
        """Return the outcome as a sentence."""
        if self.ok:
            return "Everything that should learn does."
        if not self.num_parameters:
            return "No weight is trainable, so nothing can learn."
        dead = [group.name for group in self.groups if group.state == "dead"]
        outside = [g.name for g in self.groups if g.num_outside and g.state != "dead"]
        named = dict.fromkeys(KINDS[c.kind].what for c in self.cuts if c.kind in FATAL)
        parts = [f"{', '.join(dead)} cannot learn"] if dead else []
        parts += [f"no optimizer moves all of {', '.join(outside)}"] if outside else []
        parts += [] if parts else named
        return f"This run cannot learn as it should: {'; '.join(parts)}."

    def raise_if_dead(self) -> None:
        """Raise unless everything that should learn does.

        Raises:
            DeadGradientError: With the table, the cuts and their cures.
        """
        if not self.ok:
            raise DeadGradientError(f"{self.verdict()}\n{self}")

    def to_dict(self) -> dict[str, Any]:
        """Return what `audit.json` holds."""
        return {
            "ok": self.ok,
            "verdict": self.verdict(),
            "num_parameters": self.num_parameters,
            "num_touched": self.num_touched,
            "groups": [asdict(group) for group in self.groups],
            "cuts": [asdict(cut) for cut in self.cuts],
            "sentence": self.sentence,
        }

    def __str__(self) -> str:
        table = plain_table("What learns, on one batch", COLUMNS, self.rows())
        return "\n".join([*table, *self.notes()])


FATAL = frozenset(
    {"frozen", "frozen_moved", "adapter_disabled", "adapter_merged", "no_target", "in_place"}
    | {"nonfinite", "ignored_prompt"}
)
"""Kinds that make a report not ok even where every group still has a gradient."""


def _share(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,} ({part / max(whole, 1):.1%})"


def _list(names: Sequence[str]) -> str:
    rest = len(names) - NUM_NAMED
    return ", ".join(map(_end, names[:NUM_NAMED])) + (f" and {rest} more" if rest > 0 else "")


def _end(name: str) -> str:
    """Return the last parts of a long dotted name, which tell its siblings apart."""
    parts = name.split(".")
    return name if len(parts) <= NUM_PARTS else "..." + ".".join(parts[-NUM_PARTS:])


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."
