"""The machine: memory that training keeps, memory that ran out, seeds."""

import platform
import subprocess
import sys

import numpy as np
import pytest
import torch

from vasculora.core.runtime import is_out_of_memory, set_seed

PROGRAM = """
import resource
import torch
from vasculora.core.runtime import build_accelerator

def faults():
    for _ in range(10):
        torch.ones(10_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(10_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(faults())
build_accelerator(torch.device("cpu"))
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is asked to keep memory")
def test_training_keeps_what_a_step_frees():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    given_back, kept = map(int, done.stdout.split())
    assert given_back > 50  # five tensors of 40 MB, in pages of 4 KB or of 2 MB
    assert kept < given_back / 10


@pytest.mark.parametrize("ask", [torch.empty, np.empty], ids=["torch", "numpy"])
def test_more_than_any_machine_has_is_out_of_memory(ask):
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        ask(2**55)
    assert is_out_of_memory(caught.value)


def test_a_full_gpu_is_out_of_memory_and_a_wrong_shape_is_not():
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    assert is_out_of_memory(RuntimeError("CUDA error: out of memory"))
    with pytest.raises(RuntimeError) as caught:
        torch.ones(2) @ torch.ones(3)
    assert not is_out_of_memory(caught.value)


def test_a_seed_beyond_numpys_own_is_taken():
    def drawn(seed):
        set_seed(seed)
        return torch.rand(1).item(), np.random.random()  # noqa: NPY002 - the global one is seeded

    assert drawn(2**40 + 7) == drawn(2**40 + 7)
    assert drawn(2**40 + 7)[1] != drawn(2**40 + 8)[1]
