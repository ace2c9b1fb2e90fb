"""What training on a CPU does with the memory of a step."""

import platform
import subprocess
import sys

import pytest

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
