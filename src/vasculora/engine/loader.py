"""Batches in an order that depends on seed and epoch alone."""

from collections.abc import Callable, Iterable
from typing import Any, Protocol, runtime_checkable

from accelerate import Accelerator
from torch.utils.data import DataLoader, DistributedSampler

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
        num_workers: Loading processes.
        accelerator: Tells which share of the data this process sees.
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
        self._sampler: DistributedSampler[object] = DistributedSampler(
            data,
            num_replicas=accelerator.num_processes,
            rank=accelerator.process_index,
            seed=seed,
        )
        self._loader: DataLoader[Any] = DataLoader(
            data,
            batch_size=batch_size,
            sampler=self._sampler,
            collate_fn=collate,
            num_workers=num_workers,
        )

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return len(self._loader)

    def epoch(self, epoch: int) -> Iterable[Batch]:
        """Return the batches of one epoch."""
        self._dataset.set_epoch(epoch)
        self._sampler.set_epoch(epoch)
        return self._loader
