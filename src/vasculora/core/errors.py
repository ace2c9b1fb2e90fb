"""The one exception with an exit code of its own; all other faults are Python's usual ones."""


class CannotLearnError(RuntimeError):
    """The run cannot learn; its message says which part, and what to change."""
