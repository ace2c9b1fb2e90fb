"""The machine: device, number format, seeds. Alone has `torch.cuda` and `os.environ`."""

import ctypes
import os
import platform
import random
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from accelerate import Accelerator

_MOST_WORKERS = 8


def config_dir() -> Path:
    """Return the folder of the user's own settings, by default `~/.config/vasculora`."""
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "vasculora"


def pick_device(gpu: int | None = None) -> torch.device:
    """Return the device to run on.

    Args:
        gpu: Index of the GPU the user asked for; None takes the first one, or the CPU where there
            is none.

    Raises:
        ValueError: If a GPU is asked for that this machine does not have.
    """
    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpu is None:
        return torch.device("cuda", 0) if num_gpus else torch.device("cpu")
    if gpu not in range(num_gpus):
        have = f"GPUs 0 to {num_gpus - 1}" if num_gpus else "no GPU that CUDA can use"
        raise ValueError(
            f"--gpu {gpu} was asked for, but PyTorch {torch.__version__} sees {have}. "
            "Leave --gpu out to run on what there is, or install a CUDA build of PyTorch."
        )
    return torch.device("cuda", gpu)


def pick_dtype(device: torch.device) -> torch.dtype:
    """Return the number format of frozen weights: bfloat16 on a GPU, float32 on the CPU."""
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def autocast(device: torch.device) -> AbstractContextManager[object]:
    """Return the number format of a forward pass: bfloat16 on a GPU, as it stands on the CPU."""
    if device.type == "cuda":
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return nullcontext()


def build_accelerator(device: torch.device) -> Accelerator:
    """Return the runner of a training: bfloat16 on a GPU, float32 on the CPU."""
    if device.type == "cpu":
        _keep_freed_memory()
        return Accelerator(cpu=True)
    torch.cuda.set_device(device)
    return Accelerator(mixed_precision="bf16")


def _keep_freed_memory() -> None:
    """Let glibc keep what a step frees for the next one, up to 2 GB, instead of giving it back.

    Every step takes and frees the same tensors. Given back, their pages come anew each time, zeroed
    by the kernel one fault after another: 4 to 25 % of a small model's step, by how busy it is.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # names of glibc's malloc.h


def pick_workers(wanted: int | Literal["auto"], device: torch.device, *, num_processes: int) -> int:
    """Return the number of processes that load images.

    A CPU that trains has no core to spare for them, and a GPU waits for a single one.

    Args:
        wanted: A number, or `auto`: none beside a CPU; beside a GPU one for each core but the main
            process's, eight at most.
        device: Where the model is.
        num_processes: Training processes that share the machine.
    """
    if wanted != "auto":
        return wanted
    if device.type == "cpu":
        return 0
    return max(0, min(_MOST_WORKERS, num_cores() // num_processes - 1))


def num_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def worker_context() -> Literal["fork"] | None:
    """Return how workers are started: forked on Linux, where they share what is loaded already."""
    return "fork" if sys.platform == "linux" else None


def set_seed(seed: int) -> None:
    """Seed Python, NumPy and PyTorch, on every device; NumPy by the last 32 bits alone."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - libraries draw from the global generator
    torch.manual_seed(seed)


def is_out_of_memory(fault: BaseException) -> bool:
    """Return whether a fault says that the memory of the GPU or of the machine is full.

    PyTorch has a type for most that happens on a GPU, and only words for the rest.
    """
    if isinstance(fault, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(fault, RuntimeError) and any(word in str(fault) for word in _NO_ROOM)


_NO_ROOM = ("DefaultCPUAllocator: ", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


@dataclass(frozen=True)
class RngState:
    """Where every generator of random numbers stands.

    Attributes:
        python: Of the module `random`.
        numpy: Of NumPy's global generator.
        torch: PyTorch's, by device.
    """

    python: Any
    numpy: Any
    torch: dict[str, torch.Tensor]


def rng_state() -> RngState:
    """Return where every generator stands."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states |= {f"cuda:{i}": s for i, s in enumerate(torch.cuda.get_rng_state_all())}
    drawn = np.random.get_state()  # noqa: NPY002 - libraries draw from the global generator
    return RngState(python=random.getstate(), numpy=drawn, torch=states)


def restore_rng_state(state: RngState) -> None:
    """Put back what `rng_state` returned."""
    random.setstate(state.python)
    np.random.set_state(state.numpy)  # noqa: NPY002
    torch.set_rng_state(state.torch["cpu"])
    for device, drawn in state.torch.items():
        if device != "cpu":
            torch.cuda.set_rng_state(drawn, device)


def versions() -> dict[str, str]:
    """Return the versions a result depends on."""
    names = ("vasculora", "torch", "transformers", "peft", "accelerate", "numpy", "pillow")
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in names}
