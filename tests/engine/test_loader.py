import numpy as np
import pytest
import torch

from vasculora.core.runtime import build_accelerator
from vasculora.engine.loader import EpochLoader


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
