"""The course of a run: a clock of training time alone, the rate it gives, and looks on the way."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

LOOKS = 5
"""Looks at the watched images, beside one before the first step."""


@dataclass
class Course:
    """What a run has come to, and how much of its time is left.

    Attributes:
        budget: Seconds of training; looks are not counted.
        look: Scores the model on the watched images; None where there are none.
        curve: A row a look.
    """

    budget: float
    look: Callable[[], dict[str, float]] | None
    curve: list[dict[str, float | None]] = field(default_factory=list)
    images: int = 0
    steps: int = 0
    seconds: float = 0.0
    _since: float | None = None
    _losses: list[float] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Share of the time that is used up; above 1 only by the last step."""
        running = 0.0 if self._since is None else time.perf_counter() - self._since
        return (self.seconds + running) / self.budget

    def run(self, epoch: Callable[[int], Iterator[Any]]) -> Iterator[Iterator[Any]]:
        """Yield the batches of one epoch after another until the time is used up."""
        self._look()
        self._start()
        number = 0
        while self.share < 1:
            number += 1
            yield self._watched(epoch(number))
        self._pause()
        self._look()

    def note(self, images: int, loss: float) -> None:
        """Note a step."""
        self.images += images
        self.steps += 1
        self._losses.append(loss)

    def schedule(self, optimizer: Optimizer, *, warmup: float) -> LambdaLR:
        """Return a rate that rises linearly and falls as a cosine, over time instead of steps."""
        for group in optimizer.param_groups:
            group["lr"] = group.get("initial_lr", group["lr"])

        def factor(_: int) -> float:
            share = min(self.share, 1.0)
            if share < warmup:
                return max(share / warmup, 0.01)
            return 0.5 * (1 + math.cos(math.pi * (share - warmup) / (1 - warmup)))

        return LambdaLR(optimizer, factor)

    def _watched(self, batches: Iterator[Any]) -> Iterator[Any]:
        for batch in batches:
            yield batch
            if self.share >= 1:
                return
            if self.share >= len(self.curve) / LOOKS:
                self._pause()
                self._look()
                self._start()

    def _look(self) -> None:
        scores = {} if self.look is None else self.look()
        loss = sum(self._losses) / len(self._losses) if self._losses else None
        self._losses.clear()
        row: dict[str, float | None] = {"minutes": round(self.seconds / 60, 3)}
        row |= {"images": self.images, "loss": loss}
        self.curve.append(row | scores)

    def _start(self) -> None:
        self._since = time.perf_counter()

    def _pause(self) -> None:
        assert self._since is not None
        self.seconds += time.perf_counter() - self._since
        self._since = None
