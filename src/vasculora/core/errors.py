"""The exceptions with an exit code of their own; all other faults are Python's usual ones."""


class CannotLearnError(RuntimeError):
    """The run cannot learn; its message says which part, and what to change."""


class NoTargetError(CannotLearnError):
    """A pattern of LoRA's targets matches no module.

    Attributes:
        group: The trainable group that would be empty.
        what: What was looked for, and what there is.
        cure: What to change.
    """

    def __init__(self, *, group: str, what: str, cure: str) -> None:
        super().__init__(f"{group}: {what} {cure}")
        self.group, self.what, self.cure = group, what, cure


class DeadGradientError(CannotLearnError):
    """The gradient audit found what cannot learn; its message holds the table and the cuts."""
