"""The exceptions with an exit code of their own; all other faults are Python's usual ones."""


class CannotLearnError(RuntimeError):
    """The run cannot learn; its message says which part, and what to change."""


class DeadGradientError(CannotLearnError):
    """The gradient audit found what cannot learn; its message holds the table and the cuts."""
