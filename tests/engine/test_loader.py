import os
import signal
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch

from vasculora.core.io import write_image
from vasculora.core.runtime import build_accelerator
from vasculora.core.types import Record, Sample, Target
from vasculora.data.dataset import VesselDataset
from vasculora.data.transforms import build_augment
from vasculora.engine.loader import EpochLoader

WORKERS = (0, 1, 3)
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker")


class Numbers:
    """A data set of numbers that remembers its epoch."""

    def __init__(self, size):
        self.size = size
        self.epoch = 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        return (index, self.epoch)


@pytest.fixture(scope="module")
def accelerator():
    return build_accelerator(torch.device("cpu"))


def orders(accelerator, epochs, *, seed=0, size=10, batch_size=3):
    loader = EpochLoader(
        Numbers(size),
        list,
        batch_size=batch_size,
        seed=seed,
        num_workers=0,
        accelerator=accelerator,
    )
    return [list(loader.epoch(epoch)) for epoch in epochs]


def test_every_sample_comes_once_an_epoch(accelerator):
    (batches,) = orders(accelerator, [1])
    assert [len(batch) for batch in batches] == [3, 3, 3, 1]
    assert sorted(index for batch in batches for index, _ in batch) == list(range(10))


def test_its_length_is_the_number_of_batches(accelerator):
    loader = EpochLoader(
        Numbers(10), list, batch_size=4, seed=0, num_workers=0, accelerator=accelerator
    )
    assert len(loader) == 3 == len(list(loader.epoch(1)))


def test_the_order_depends_on_seed_and_epoch_alone(accelerator):
    straight = orders(accelerator, [1, 2, 3])
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002 - the generator that libraries share
    (resumed,) = orders(accelerator, [3])
    assert resumed == straight[2]
    assert straight[0] != straight[1]
    (other,) = orders(accelerator, [3], seed=1)
    assert [i for batch in other for i, _ in batch] != [i for batch in resumed for i, _ in batch]


def test_the_data_set_hears_of_the_epoch(accelerator):
    for epoch, batches in zip((4, 7), orders(accelerator, [4, 7]), strict=True):
        assert {heard for batch in batches for _, heard in batch} == {epoch}


def test_taking_batches_does_not_touch_the_models_randomness(accelerator):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    orders(accelerator, [])
    loader = EpochLoader(
        Numbers(10), list, batch_size=4, seed=0, num_workers=0, accelerator=accelerator
    )
    before = torch.get_rng_state()
    list(loader.epoch(1))
    first = torch.get_rng_state()
    torch.set_rng_state(before)
    list(loader.epoch(2))
    assert torch.equal(first, torch.get_rng_state())  # the same amount whichever epoch it is
    assert expected.shape == (3,)


class Faulty(Numbers):
    """Numbers of which one is bad."""

    def __init__(self, size, error):
        super().__init__(size)
        self.error = error

    def __getitem__(self, index):
        if index == 5:
            raise self.error
        return (index, self.epoch)


class Workers(Numbers):
    """Numbers with the process that made them."""

    def __getitem__(self, index):
        return (index, self.epoch, os.getpid())


def loader_of(accelerator, data, *, num_workers=0, collate=list):
    return EpochLoader(
        data, collate, batch_size=2, seed=0, num_workers=num_workers, accelerator=accelerator
    )


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("set")
    rng = np.random.default_rng(0)
    for i in range(7):
        write_image(folder / f"{i}.png", rng.integers(0, 256, (40, 30, 3), dtype=np.uint8))
        write_image(folder / f"{i}_gt.png", np.uint8(255) * (rng.random((40, 30)) < 0.5))
    return [
        Record(
            case_id=str(i),
            group=str(i),
            image_path=folder / f"{i}.png",
            targets=(Target(mask_path=folder / f"{i}_gt.png"),),
        )
        for i in range(7)
    ]


def pixels(samples: list[Sample]) -> list[tuple]:
    return [(s.case_id, s.image.tobytes(), s.masks.tobytes()) for s in samples]


def test_the_same_pixels_come_in_the_same_order_whatever_the_workers(accelerator, records):
    strong = build_augment("strong")
    seen, after = {}, set()
    for num_workers in WORKERS:
        data = VesselDataset(records, phrase="v", transform=strong, cache_bytes=20_000)
        loader = loader_of(accelerator, data, num_workers=num_workers, collate=pixels)
        torch.manual_seed(1)
        next(iter(loader.epoch(0)))  # as the audit does, which leaves the rest of the epoch
        seen[num_workers] = [list(loader.epoch(epoch)) for epoch in (1, 2)]
        after.add(float(torch.rand(1)))
    assert seen[0] == seen[1] == seen[3]
    assert len(after) == 1  # the model's own random numbers are the same ones, too
    assert [len(batch) for batch in seen[0][0]] == [2, 2, 2, 1]
    first, second = ({i: p for batch in epoch for i, *p in batch} for epoch in seen[0])
    assert all(first[i] != second[i] for i in first)
    resumed = VesselDataset(records, phrase="v", transform=strong)
    assert (
        list(loader_of(accelerator, resumed, num_workers=1, collate=pixels).epoch(2))
        == (seen[0][1])
    )


def test_workers_fill_the_one_cache(accelerator, records):
    data = VesselDataset(records, phrase="v", cache_bytes=2**20)
    before = list(loader_of(accelerator, data, num_workers=2, collate=pixels).epoch(1))
    moved = [record.image_path.rename(record.image_path.with_suffix(".away")) for record in records]
    try:
        again = loader_of(accelerator, data, num_workers=3, collate=pixels)
        assert list(again.epoch(1)) == before
        assert len(list(data)) == 7
    finally:
        for path in moved:
            path.rename(path.with_suffix(".png"))


def test_workers_stay(accelerator):
    loader = loader_of(accelerator, Workers(12), num_workers=2)
    made_by = [
        {(epoch, pid) for batch in loader.epoch(k) for _, epoch, pid in batch} for k in (4, 9)
    ]
    assert {epoch for epoch, _ in made_by[0]} == {4}
    assert {epoch for epoch, _ in made_by[1]} == {9}
    pids = [{pid for _, pid in found} for found in made_by]
    assert pids[0] == pids[1]
    assert len(pids[0]) == 2
    assert os.getpid() not in pids[0]


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("kind", [ValueError, FileNotFoundError])
def test_a_fault_is_told_in_its_own_words_after_what_came_before(accelerator, num_workers, kind):
    loader = loader_of(accelerator, Faulty(12, kind("case 5: is bad")), num_workers=num_workers)
    order = [i for batch in orders(accelerator, [1], size=12, batch_size=2)[0] for i, _ in batch]
    batches = []
    with pytest.raises(kind) as caught:
        batches.extend(loader.epoch(1))
    assert str(caught.value) == "case 5: is bad"
    assert len(batches) == order.index(5) // 2


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_batch_that_cannot_be_made_is_told_likewise(accelerator, num_workers):
    def too_long(samples):
        raise ValueError("a: its text has 9 tokens.")

    loader = loader_of(accelerator, Numbers(4), num_workers=num_workers, collate=too_long)
    with pytest.raises(ValueError, match=r"^a: its text has 9 tokens\.$"):
        next(iter(loader.epoch(1)))


def test_a_fault_of_ours_is_not_taken_for_the_users(accelerator):
    loader = loader_of(accelerator, Faulty(12, KeyError("ours")))
    with pytest.raises(KeyError):
        list(loader.epoch(1))


def test_a_worker_that_is_killed_is_told_with_a_cure(accelerator):
    loader = loader_of(accelerator, Workers(400), num_workers=1)
    batches = loader.epoch(1)
    ((_, _, pid), _) = next(batches)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(OSError, match=r"ended before .*lower trainer\.num_workers"):
        list(batches)


def test_an_interrupt_leaves_no_worker_behind(accelerator):
    reading, writing = os.pipe()

    def run():
        os.setsid()  # as a terminal does: Ctrl-C reaches the whole group
        loader = loader_of(accelerator, Workers(4000), num_workers=2)
        try:
            for epoch in range(10_000):
                for batch in loader.epoch(epoch):
                    os.write(writing, f"{batch[0][2]} ".encode())
                    time.sleep(0.01)
        except KeyboardInterrupt:
            os._exit(130)

    child = get_context("fork").Process(target=run)
    child.start()
    pids: set[int] = set()
    while len(pids) < 2:
        pids |= {int(pid) for pid in os.read(reading, 1000).split(b" ")[:-1]}
    os.killpg(child.pid, signal.SIGINT)
    child.join(timeout=20)
    assert child.exitcode == 130
    deadline = time.monotonic() + 5
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
