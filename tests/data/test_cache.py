import mmap
import multiprocessing
import pickle

import numpy as np
import pytest

from vasculora.data.cache import SampleCache

FORK = multiprocessing.get_context("fork")


def pixels(seed=0, *, size=(9, 7), num_masks=3, grey=False):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    if grey:
        image = np.repeat(image[..., :1], 3, axis=2)
    return image, rng.random((num_masks, *size)) < 0.5


@pytest.mark.parametrize("grey", [False, True])
def test_what_is_kept_comes_back_as_a_copy(grey):
    cache = SampleCache(2, 4096)
    image, masks = pixels(grey=grey)
    assert cache.get(1) is None
    cache.put(1, image, masks)
    for _ in range(2):
        kept_image, kept_masks = cache.get(1)
        np.testing.assert_array_equal(kept_image, image)
        np.testing.assert_array_equal(kept_masks, masks)
        kept_image[:] = 0
        kept_masks[:] = False
    assert cache.get(0) is None


def test_a_nearly_grey_image_keeps_its_colour():
    image, masks = pixels(grey=True)
    image[-1, -1, 2] ^= 1
    cache = SampleCache(1, 4096)
    cache.put(0, image, masks)
    np.testing.assert_array_equal(cache.get(0)[0], image)


def test_images_without_masks_are_kept():
    cache = SampleCache(1, 4096)
    cache.put(0, *pixels(num_masks=0))
    assert cache.get(0)[1].shape == (0, 9, 7)


def test_memory_is_bounded_and_what_is_in_stays():
    # 32 bytes of numbers, 8 * 8 pixels in one channel, 8 bytes of bits; rounded up to 128.
    cache = SampleCache(3, 2 * 128)
    for index in range(3):
        cache.put(index, *pixels(index, size=(8, 8), num_masks=1, grey=True))
        cache.put(index, *pixels(index, size=(8, 8), num_masks=1, grey=True))
    assert cache.num_bytes == 256
    for index in (0, 1):
        np.testing.assert_array_equal(
            cache.get(index)[0], pixels(index, size=(8, 8), num_masks=1, grey=True)[0]
        )
    assert cache.get(2) is None


def test_no_memory_keeps_nothing():
    cache = SampleCache(1, 0)
    cache.put(0, *pixels())
    assert cache.get(0) is None
    assert SampleCache(0, 100).num_bytes == 0


def test_a_machine_that_cannot_give_it_gives_a_part(monkeypatch):
    given = mmap.mmap

    def scarce(descriptor, size):
        if size > 1000:
            raise OSError(12, "Cannot allocate memory")
        return given(descriptor, size)

    monkeypatch.setattr(mmap, "mmap", scarce)
    cache = SampleCache(5, 3 * 2**30)
    for index in range(5):
        cache.put(index, *pixels())
    assert 512 < cache.num_bytes <= 1000


def test_more_than_a_machine_can_count_is_as_much_as_it_gives():
    cache = SampleCache(1, 2**80)
    image, masks = pixels()
    cache.put(0, image, masks)
    assert cache.get(0) is not None


def test_processes_read_what_others_wrote_and_share_one_budget():
    cache = SampleCache(40, 25 * 256)  # each sample takes 32 + 189 + 24 bytes, rounded up

    def fill(first):
        for index in range(first, 40, 2):
            cache.put(index, *pixels(index))

    workers = [FORK.Process(target=fill, args=(first,)) for first in (0, 1)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    kept = [index for index in range(40) if cache.get(index) is not None]
    assert len(kept) == 25
    assert cache.num_bytes == 25 * 256
    for index in kept:
        for found, wanted in zip(cache.get(index), pixels(index), strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_a_process_that_is_not_forked_finds_it_empty():
    cache = SampleCache(1, 4096)
    cache.put(0, *pixels())
    alone = pickle.loads(pickle.dumps(cache))
    alone.put(0, *pixels())
    assert alone.get(0) is None
