"""Batches in an order that depends on seed and epoch alone, made ahead by workers that stay.

Each index travels with its epoch, so a worker that was started epochs ago varies a sample as one
started now would, and the same batches come whatever the number of workers. A fault of the user's
making travels as a value: torch would wrap its message in a worker's traceback.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from vasculora.core.runtime import worker_context
from vasculora.core.types import Batch, Sample


@runtime_checkable
class EpochDataset(Protocol):
    """Samples by index, drawn or augmented anew every epoch."""

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that randomness depends on."""

    def __len__(self) -> int:
        """Return the number of samples."""

    def __getitem__(self, index: int) -> Sample:
        """Return one sample."""


class EpochLoader:
    """Batches of a dataset in an order that depends on seed and epoch alone.

    So a run that is taken up again sees what the run left alone would have seen.

    Args:
        dataset: Samples by index, with `set_epoch` for its augmentation.
        collate: List of samples to batch.
        batch_size: Images a batch.
        seed: Seed of the order.
        num_workers: Loading processes; they are started with the first epoch and stay.
        accelerator: Tells which share of the data this process sees, and where batches go.
    """

    def __init__(
        self,
        dataset: EpochDataset,
        collate: Callable[[list[Sample]], Batch],
        *,
        batch_size: int,
        seed: int,
        num_workers: int,
        accelerator: Accelerator,
    ) -> None:
        self._dataset = dataset
        data: Any = dataset  # torch asks for its own class, though it calls no more than ours has
        sampler: DistributedSampler[Any] = DistributedSampler(
            data,
            num_replicas=accelerator.num_processes,
            rank=accelerator.process_index,
            seed=seed,
        )
        self._keys = _Keys(sampler)
        self._start: Callable[[], DataLoader[Any]] = partial(
            DataLoader,
            _AtEpoch(dataset),
            batch_size=batch_size,
            sampler=self._keys,
            collate_fn=partial(_collate, collate=collate),
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            multiprocessing_context=worker_context() if num_workers else None,
            pin_memory=accelerator.device.type == "cuda",
            generator=torch.Generator(),
        )
        self._loader = self._start()

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return len(self._loader)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of one epoch.

        Raises:
            ValueError: If a sample cannot be used; the message is the data set's own.
            OSError: If one cannot be read, or a worker ended.
        """
        self._dataset.set_epoch(epoch)
        self._keys.epoch = epoch
        # One draw an epoch is older than the loader's own generator, and dropout draws behind it.
        torch.empty((), dtype=torch.int64).random_()
        try:
            for batch in self._loader:
                if isinstance(batch, _Fault):
                    # Left to the garbage collector, workers would be waited for, five seconds each.
                    self._loader = self._start()
                    raise batch.error
                yield batch
        except RuntimeError as error:
            if not str(error).startswith("DataLoader worker"):
                raise
            raise OSError(_ENDED.format(reason=error)) from error


@dataclass
class _Keys:
    """What torch calls a sampler: the epoch and the index of each sample, in order."""

    sampler: DistributedSampler[Any]
    epoch: int = 0

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        self.sampler.set_epoch(self.epoch)
        return ((self.epoch, index) for index in self.sampler)


@dataclass(frozen=True)
class _Fault:
    """What came instead of a sample or a batch."""

    error: Exception


class _AtEpoch(Dataset[Any]):
    """A data set asked by epoch and index, which answers with a fault instead of raising it."""

    def __init__(self, dataset: EpochDataset) -> None:
        self._dataset = dataset

    def __getitem__(self, key: tuple[int, int]) -> Any:
        epoch, index = key
        self._dataset.set_epoch(epoch)
        try:
            return self._dataset[index]
        except (ValueError, OSError) as error:
            return _Fault(error)


def _collate(samples: list[Any], *, collate: Callable[[list[Sample]], Batch]) -> Any:
    """Return a batch, or the first fault there is."""
    for sample in samples:
        if isinstance(sample, _Fault):
            return sample
    try:
        return collate(samples)
    except (ValueError, OSError) as error:
        return _Fault(error)


_ENDED = (
    "a process that loads images ended before its work was done ({reason}). Where memory ran out, "
    "lower trainer.num_workers or data.cache_gb; in a container, give it more shared memory "
    "(docker run --shm-size 8g). With --set trainer.num_workers=0 the main process loads."
)
