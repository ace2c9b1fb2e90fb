"""What the audit found, group by group, and the exception that stops a run which cannot learn."""


class CannotLearnError(RuntimeError):
    """The run cannot learn; its message says which part, and what to change."""
