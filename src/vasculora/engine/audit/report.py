"""What the audit found, group by group, in numbers and in words."""

from collections.abc import Sequence
from dataclasses import dataclass

from vasculora.core.errors import CannotLearnError


@dataclass(frozen=True)
class GroupReport:
    """How far a gradient reaches one group of trainable weights.

    Attributes:
        name: The group.
        num_parameters: Its trainable weights.
        num_touched: Those in tensors with a finite gradient that is not all zero.
        num_zero: Those in tensors whose gradient is all zero.
        num_none: Those in tensors that got no gradient at all.
        num_nonfinite: Those in tensors whose gradient holds an infinity or NaN.
        grad_norm: Norm of the finite gradients.
    """

    name: str
    num_parameters: int
    num_touched: int
    num_zero: int
    num_none: int
    num_nonfinite: int
    grad_norm: float

    @property
    def state(self) -> str:
        """`learns`, `partial` or `dead`."""
        if self.num_touched == 0 or self.num_nonfinite:
            return "dead"
        return "learns" if self.num_touched == self.num_parameters else "partial"


@dataclass(frozen=True)
class AuditReport:
    """What learns in a model, seen on one batch."""

    groups: tuple[GroupReport, ...]

    @property
    def ok(self) -> bool:
        """Whether every group that should learn does."""
        return bool(self.groups) and all(group.state != "dead" for group in self.groups)

    def rows(self) -> list[tuple[str, ...]]:
        """Return the table a person reads: group, weights, touched, gradient norm, state."""
        return [
            (
                group.name,
                f"{group.num_parameters:,}",
                f"{group.num_touched:,} ({group.num_touched / group.num_parameters:.1%})",
                f"{group.grad_norm:.3g}",
                group.state,
            )
            for group in self.groups
        ]

    def raise_if_dead(self) -> None:
        """Raise if a group cannot learn.

        Raises:
            CannotLearnError: With the groups and the cure.
        """
        if not self.groups:
            raise CannotLearnError("no weight is trainable. Name one in lora.trainable.")
        if not self.ok:
            raise CannotLearnError("\n".join(_say(group) for group in _dead(self.groups)))


def _dead(groups: Sequence[GroupReport]) -> list[GroupReport]:
    return [group for group in groups if group.state == "dead"]


def _say(group: GroupReport) -> str:
    if group.num_nonfinite:
        return (
            f"{group.name}: the gradient of {group.num_nonfinite:,} of {group.num_parameters:,} "
            "weights is not finite. Run in float32, or look at the data's first images."
        )
    return (
        f"{group.name}: none of its {group.num_parameters:,} trainable weights gets a gradient "
        "from the loss on a real batch, so it cannot learn. Take it out of lora.trainable, or give "
        "a loss it has a part in (objective.dice, objective.text)."
    )


COLUMNS = ("group", "weights", "reached by the gradient", "gradient norm", "state")
