"""What a run needs to be taken up again: one file, whole or absent, read without pickle."""

from dataclasses import dataclass, fields
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vasculora.core.io import write_bytes
from vasculora.core.runtime import is_out_of_memory

CHECKPOINT_NAME = "resume.pt"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A run after a finished epoch.

    Attributes:
        epoch: The last finished epoch, from 1; 0 before the first.
        weights: Every trainable weight by name.
        optimizer: The optimizer's state.
        schedule: The schedule's state.
        metrics: What `metrics.json` held.
    """

    epoch: int
    weights: dict[str, Tensor]
    optimizer: dict[str, Any]
    schedule: dict[str, Any]
    metrics: dict[str, Any]


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint in place of the one before."""
    buffer = BytesIO()
    torch.save(
        {field.name: getattr(checkpoint, field.name) for field in fields(checkpoint)}, buffer
    )
    write_bytes(path, buffer.getvalue(), flush=True)


def load_checkpoint(path: Path) -> Checkpoint:
    """Return a checkpoint; only tensors and plain values are read, no code is run.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If the file is damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing, so the run cannot be taken up again. Start it with another --out."
        )
    try:
        return Checkpoint(**torch.load(path, map_location="cpu", weights_only=True))
    except Exception as cause:
        if is_out_of_memory(cause):
            raise
        raise ValueError(
            f"{path}: the file is damaged ({type(cause).__name__}). Start again with another --out."
        ) from cause
