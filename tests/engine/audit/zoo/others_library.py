"""Somebody else's helpers that switch the graph off, imported by those who do not read them."""

import contextlib
import functools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor


@contextlib.contextmanager
def evaluating() -> Iterator[None]:
    with torch.no_grad():  # cut
        yield


class Quiet:
    """A context of its own that holds another one."""

    def __enter__(self) -> "Quiet":
        self.mode = torch.no_grad()
        self.mode.__enter__()  # cut
        return self

    def __exit__(self, *raised: object) -> None:
        self.mode.__exit__(*raised)


class Stacked:
    """The same by an ExitStack."""

    def __enter__(self) -> "Stacked":
        self.stack = contextlib.ExitStack()
        self.stack.enter_context(torch.inference_mode(False))
        self.stack.enter_context(torch.no_grad())  # cut
        return self

    def __exit__(self, *raised: object) -> None:
        self.stack.close()


def grad_mode(on: bool) -> None:
    torch.set_grad_enabled(on)  # cut


def retried(times: int) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    def decorate(work: Callable[..., Tensor]) -> Callable[..., Tensor]:
        @functools.wraps(work)
        def again(*given: object, **named: object) -> Tensor:
            for _ in range(times - 1):
                work(*given, **named)
            return work(*given, **named)

        return again

    return decorate


def leaky_warmup(x: Tensor) -> Tensor:
    """Forget to leave the mode that was entered."""
    torch.no_grad().__enter__()  # cut
    return x * 2
