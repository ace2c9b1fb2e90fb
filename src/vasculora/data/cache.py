"""Decoded pictures, kept within a memory budget that the main process and its workers share.

Workers that each kept their own would take the budget several times, and each would find what it
wants only where it happened to be the one that decoded it: cases are dealt anew every epoch. So
there is one stretch of memory, mapped before the workers are forked, into which each of them writes
and from which all read. It is memory and no file: pixels of patients touch no disk, and the small
/dev/shm of a container does not matter. A page is taken when it is first written.

Kept is what the decoder said, before augmentation: grey images in one channel and masks as bits, so
that an angiogram with one mask takes a quarter of its decoded size. What is in stays in; what comes
when the budget is spent is decoded anew each time.
"""

import mmap
from multiprocessing import Lock

import numpy as np
from jaxtyping import Bool, UInt8

Pixels = tuple[UInt8[np.ndarray, "h w 3"], Bool[np.ndarray, "n h w"]]

_ALIGNED = 64  # bytes; so that a header can be read as numbers wherever an entry starts
_HEADER = 4  # numbers: height, width, channels, masks
_ABSENT = -1


class SampleCache:
    """Image and masks of samples, by index.

    Where processes are not forked (Windows, macOS), a worker finds it empty and keeps nothing.

    Args:
        num_samples: Indices there are.
        num_bytes: Most memory that pixels may take, all processes together. Where the machine does
            not give so much, as large a part of it as it gives.
    """

    def __init__(self, num_samples: int, num_bytes: int) -> None:
        self._num_samples = num_samples
        self._lock = Lock()
        self._memory = _pixels(num_bytes)
        numbers = np.frombuffer(mmap.mmap(-1, 8 * (num_samples + 1)), dtype=np.int64)
        self._starts, self._used = numbers[1:], numbers[:1]
        self._starts[:] = _ABSENT

    def __reduce__(self) -> tuple[type["SampleCache"], tuple[int, int]]:
        """Return what a process that is not forked makes of it: a cache without memory."""
        return SampleCache, (self._num_samples, 0)

    @property
    def num_bytes(self) -> int:
        """Memory taken by pixels."""
        return int(self._used[0])

    def get(self, index: int) -> Pixels | None:
        """Return a copy of what is kept of a sample; None where nothing is."""
        with self._lock:
            start = int(self._starts[index])
        if start == _ABSENT:
            return None
        numbers = self._memory[start : start + 8 * _HEADER].view(np.int64)
        height, width, channels, num_masks = numbers.tolist()
        start += 8 * _HEADER
        image = self._memory[start : start + height * width * channels]
        image = image.reshape(height, width, channels)
        start += image.size
        bits = self._memory[start : start + _num_bytes_of(num_masks * height * width)]
        masks = np.unpackbits(bits, count=num_masks * height * width).view(bool)
        return (
            np.repeat(image, 3, axis=2) if channels == 1 else image.copy(),
            masks.reshape(num_masks, height, width),
        )

    def put(
        self, index: int, image: UInt8[np.ndarray, "h w 3"], masks: Bool[np.ndarray, "n h w"]
    ) -> None:
        """Keep a sample, if it is not kept already and there is room."""
        image = image[..., :1] if _is_grey(image) else image
        header = np.array([*image.shape, len(masks)], dtype=np.int64).view(np.uint8)
        parts = (header, image.ravel(), np.packbits(masks))
        size = sum(part.size for part in parts)
        with self._lock:
            start = int(self._used[0])
            if self._starts[index] != _ABSENT or start + size > self._memory.size:
                return
            for part in parts:
                self._memory[start : start + part.size] = part
                start += part.size
            self._starts[index] = self._used[0]
            self._used[0] += -(-size // _ALIGNED) * _ALIGNED


def _pixels(num_bytes: int) -> UInt8[np.ndarray, " bytes"]:
    """Return memory that forked processes share: so much, or as large a part as can be had."""
    while num_bytes > 0:
        try:
            return np.frombuffer(mmap.mmap(-1, num_bytes), dtype=np.uint8)
        except (OSError, OverflowError):
            num_bytes //= 2
    return np.zeros(0, dtype=np.uint8)


def _num_bytes_of(num_bits: int) -> int:
    return -(-num_bits // 8)


def _is_grey(image: UInt8[np.ndarray, "h w 3"]) -> bool:
    red, green, blue = image[..., 0], image[..., 1], image[..., 2]
    return np.array_equal(red, green) and np.array_equal(red, blue)
