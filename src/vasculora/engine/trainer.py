"""The training loop: batches in, weights moved, what happened out.

A step is outputs, loss terms, backward. It may be made of several microbatches; their losses are
divided by the whole step's counts, so four batches of one image give the gradient of one batch of
four. The trainer is handed finished parts and knows no configuration.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any, Literal

import torch
from accelerate import Accelerator
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from vasculora.core.errors import CannotLearnError
from vasculora.core.types import Batch, LossTerms
from vasculora.engine.sentinel import Sentinel
from vasculora.losses.objective import TrainingLoss


class TrainerConfig(BaseModel):
    """How long training goes on and how it is cut into steps."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(default=15, ge=1)
    """Passes over the training images."""
    batch_size: int = Field(default=1, ge=1)
    """Images in one forward pass."""
    accumulation: int = Field(default=1, ge=1)
    """Forward passes in one step."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradients are scaled down to this norm."""
    num_workers: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto"
    """Processes that load and augment images; 0 does it in the main one, and `auto` takes one for
    each spare core where there is a GPU (8 at most), else 0. Nothing that is learnt depends on
    it."""


@dataclass(frozen=True)
class EpochStats:
    """What an epoch came to.

    Attributes:
        loss: Weighted loss, each part averaged over all its masks or tokens.
        dice: Mean hard Dice of the teacher-forced masks, in [0, 1].
        num_images: Images seen.
        seconds: Time taken.
    """

    loss: float
    dice: float
    num_images: int
    seconds: float


class Trainer:
    """Moves the weights of a model along an objective.

    Args:
        accelerator: Device, number format and processes.
        model: The model, already prepared by the accelerator.
        objective: Output and batch to loss terms.
        optimizer: Over the trainable weights.
        schedule: Its learning rate, by step.
        accumulation: Microbatches in a step.
        max_grad_norm: Norm that gradients are clipped to.
        sentinel: Watches that weights move; without one, what is not finite still stops the run.
    """

    def __init__(
        self,
        *,
        accelerator: Accelerator,
        model: nn.Module,
        objective: TrainingLoss,
        optimizer: Optimizer,
        schedule: LRScheduler,
        accumulation: int = 1,
        max_grad_norm: float = 1.0,
        sentinel: Sentinel | None = None,
    ) -> None:
        self.accelerator = accelerator
        self.model = model
        self.objective = objective
        self.optimizer = optimizer
        self.schedule = schedule
        self.accumulation = accumulation
        self.max_grad_norm = max_grad_norm
        self.sentinel = sentinel

    def run_epoch(
        self, batches: Iterable[Batch], on_step: Callable[[int, LossTerms], None]
    ) -> EpochStats:
        """Train on every batch once and return what it came to.

        Args:
            batches: Microbatches on the model's device, or to be moved there.
            on_step: Called after every microbatch with its number of images and its loss terms.

        Raises:
            CannotLearnError: If a loss or a gradient is not finite (a sentinel that only warns
                leaves such a step out), no step was made at all, or the sentinel sees that nothing
                moves.
        """
        self.model.train()
        start = time.perf_counter()
        tally = _Tally()
        if self.sentinel is not None:
            self.sentinel.begin_epoch()
        for window in _windows(batches, self.accumulation):
            counts = self._counts(window)
            done: list[LossTerms] = []
            for batch in window:
                done.append(self._backward(batch.to(self.accelerator.device), counts))
                on_step(batch.num_images, done[-1])
            tally.add_window(window, done, stepped=self._step(window, done))
        if tally.num_steps == 0:
            raise CannotLearnError(_NO_STEP.format(num_images=tally.num_seen))
        return tally.stats(seconds=time.perf_counter() - start)

    def state(self) -> dict[str, Any]:
        """Return everything that training has changed: weights, optimizer and schedule."""
        trained = {n: p.detach().cpu() for n, p in self._trained()}
        return {
            "weights": trained,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }

    def restore(
        self, *, weights: dict[str, Tensor], optimizer: dict[str, Any], schedule: dict[str, Any]
    ) -> None:
        """Put back what `state` returned.

        Raises:
            ValueError: If other weights are trainable now than were then.
        """
        params = dict(self._trained())
        if params.keys() != weights.keys():
            changed = sorted(params.keys() ^ weights.keys())
            raise ValueError(
                f"{len(changed)} weights learn now or then but not both (first: {changed[0]}). "
                "Resume with the settings the run was started with."
            )
        with torch.no_grad():
            for name, param in params.items():
                param.copy_(weights[name])
        self.optimizer.load_state_dict(optimizer)
        self.schedule.load_state_dict(schedule)

    def loss(self, batch: Batch) -> Tensor:
        """Return a batch's loss, with its graph."""
        batch = batch.to(self.accelerator.device)
        with self.accelerator.autocast():
            output = self.model(batch)
        return self.objective(output, batch).total()

    def _trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        model = self.accelerator.unwrap_model(self.model)
        return ((name, param) for name, param in model.named_parameters() if param.requires_grad)

    def _backward(self, batch: Batch, counts: dict[str, int]) -> LossTerms:
        with self.accelerator.autocast():
            output = self.model(batch)
        terms = self.objective(output, batch)
        # processes average their gradients, each having divided by the counts of all of them
        self.accelerator.backward(terms.total(counts) * self.accelerator.num_processes)
        return terms

    def _step(self, window: list[Batch], done: list[LossTerms]) -> bool:
        """Step, and return whether: what is not finite is told and left out, if it may be."""
        params = [p for group in self.optimizer.param_groups for p in group["params"]]
        norm = self.accelerator.clip_grad_norm_(params, self.max_grad_norm)
        if not _is_finite(done, norm):
            self._complain(_explain_nonfinite(window, done))
            self.optimizer.zero_grad(set_to_none=True)
            return False
        self.optimizer.step()
        if self.sentinel is not None:
            self.sentinel.after_step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        return True

    def _complain(self, fault: str) -> None:
        if self.sentinel is None:
            raise CannotLearnError(fault)
        self.sentinel.complain(fault)

    def _counts(self, window: list[Batch]) -> dict[str, int]:
        """Return the counts of a whole step, over its microbatches and all processes."""
        own = [self.objective.counts(batch) for batch in window]
        names = list(own[0])
        sums = torch.tensor([sum(c[n] for c in own) for n in names], device=self.accelerator.device)
        total = self.accelerator.reduce(sums, reduction="sum")
        return dict(zip(names, total.tolist(), strict=True))


class _Tally:
    """Sums and counts of an epoch's loss terms, kept on the device until asked for."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._weights: dict[str, float] = {}
        self._dice = 0.0
        self._num_masks = 0
        self._num_images = 0
        self.num_seen = 0
        self.num_steps = 0

    def add_window(self, window: list[Batch], done: list[LossTerms], *, stepped: bool) -> None:
        """Add the microbatches of a step; of one that was left out, the images alone."""
        self.num_seen += sum(batch.num_images for batch in window)
        self.num_steps += stepped
        for batch, terms in zip(window, done, strict=True):
            if stepped:
                self._add(terms, batch.num_images)

    def _add(self, terms: LossTerms, num_images: int) -> None:
        for name, value in terms.sums.items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(value)) + value.detach()
            self._counts[name] = self._counts.get(name, 0) + terms.counts[name]
        self._weights = dict(terms.weights)
        self._dice += terms.dice
        self._num_masks += terms.num_masks
        self._num_images += num_images

    def stats(self, *, seconds: float) -> EpochStats:
        parts = LossTerms(sums=self._sums, counts=self._counts, weights=self._weights)
        return EpochStats(
            loss=float(parts.total()),
            dice=self._dice / max(self._num_masks, 1),
            num_images=self._num_images,
            seconds=seconds,
        )


def _windows(batches: Iterable[Batch], size: int) -> Iterator[list[Batch]]:
    """Yield the batches in lists of `size`; the last may be shorter."""
    iterator = iter(batches)
    while window := list(islice(iterator, size)):
        yield window


def _is_finite(done: list[LossTerms], norm: Tensor | None) -> bool:
    """Return whether every loss part and the gradient's norm are; one wait for the device."""
    total = torch.stack([part.detach() for terms in done for part in terms.sums.values()]).sum()
    return bool(torch.isfinite(total if norm is None else total + norm))


def _explain_nonfinite(window: list[Batch], done: list[LossTerms]) -> str:
    """Return which loss part of which images is not finite, or that the gradient alone is not."""
    for batch, terms in zip(window, done, strict=True):
        values = {name: float(part.detach()) for name, part in terms.sums.items()}
        bad = [f"{name}: {value}" for name, value in values.items() if not math.isfinite(value)]
        if bad:
            what, cases = f"loss is not finite ({', '.join(bad)})", batch.case_ids
            break
    else:
        what = "gradient is not finite, though the loss is,"
        cases = tuple(case for batch in window for case in batch.case_ids)
    return (
        f"the {what} after a step on {', '.join(cases)}. Lower optim.lr, or look at these images "
        "with `vasculora predict`; nothing has been stepped."
    )


_NO_STEP = (
    "an epoch went by without a single optimizer step: {num_images} images came, and every step on "
    "them was left out. Expected one step at least; mend what the warnings name, or give the "
    "training part of the data some images."
)
