"""Training or evaluation mode for a while, each part put back to its own afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def in_mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Put a model and all its parts into one mode.

    Args:
        model: The model.
        training: Training mode (dropout is on), else evaluation mode.
    """
    modes = {module: module.training for module in model.modules()}
    model.train(training)
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
