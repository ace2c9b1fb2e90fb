import os

import pytest
import torch

from vasculora.core.runtime import pick_workers


@pytest.mark.parametrize(
    ("wanted", "device", "num_cores", "num_processes", "expected"),
    [
        ("auto", "cpu", 16, 1, 0),
        ("auto", "cuda", 16, 1, 8),
        ("auto", "cuda", 6, 1, 5),
        ("auto", "cuda", 16, 4, 3),
        ("auto", "cuda", 1, 1, 0),
        ("auto", "cuda", 2, 4, 0),
        (3, "cpu", 2, 1, 3),
        (0, "cuda", 16, 1, 0),
    ],
)
def test_workers_are_taken_where_a_gpu_waits_for_them(
    monkeypatch, wanted, device, num_cores, num_processes, expected
):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(num_cores)))
    picked = pick_workers(wanted, torch.device(device), num_processes=num_processes)
    assert picked == expected
