"""Near-duplicates: pictures of one moment under two names, which a split must not tear apart.

A picture is reduced to a small grey square without its brightness, contrast and slow shading, each
place divided by the spread of grey around it, and without what surrounds the field of view:
dark rims and black corners look alike in all pictures of a device. Of that square the signs of the
lowest frequencies are the hash. Hashes are compared all with all, as 256 bits in four machine
words, which takes seconds for 20,000 images and misses no pair as bands of bits would; only pairs
whose hashes are near are correlated, under all small shifts at once, by Fourier transforms.

What is kept of an image is as large whatever its size (about 9 KB). The limits were set by
`benchmarks/leaks`: neighbouring frames of angiograms, shifted, brightened and encoded anew, lie
above them, different patients of four real and six drawn data sets below.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from jaxtyping import Bool, Float, Int8, UInt8, UInt64
from PIL import Image
from scipy.fft import dctn, irfft2, rfft2
from scipy.ndimage import binary_dilation, gaussian_filter, label, maximum_filter, minimum_filter

SIDE = 96
"""Side of the square in pixels."""
SHIFT = 6
"""Largest shift that is tried, in pixels of the square."""
LEAST_CORRELATION = 0.4
"""Bar at which two images are called near-duplicates."""

_SCALE = 4.0  # of the neighbourhood whose mean and spread are taken off, in pixels of the square
_NOISE = 4.0  # greys: a spread below this is no structure
_RIM = 4  # pixels left out beside what surrounds the field of view
_DARK = 0.5  # of the way from the darkest to the median grey
_FLAT = 3  # greys between brightest and darkest of a pixel's neighbours
_MOST_RIM = 0.75  # with less left than this leaves, the rim is taken for picture
_STEP = 32.0  # one step of the square's eight bits is 1/32 of a spread
_NUM_FREQUENCIES = 16
_MAX_DISTANCE = 104  # of 255 bits; neighbouring frames differ in 73 at most, others in 125 or so
_PAIRS = 64  # that are correlated together: larger blocks leave the processor's cache
_MOST_COMPARED = 2**22  # hashes compared together, so that memory does not grow with the images


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """What is kept of an image.

    Attributes:
        bits: Signs of its low frequencies.
        square: Its structure, evened out, in steps.
    """

    bits: UInt64[np.ndarray, "4"]
    square: Int8[np.ndarray, "s s"]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two images that are nearly the same.

    Attributes:
        a: Name of the one.
        b: Name of the other.
        correlation: Of their evened out squares at the best shift, at most 1.
    """

    a: str
    b: str
    correlation: float


def fingerprint(image: UInt8[np.ndarray, "h w 3"]) -> Fingerprint:
    """Return what is needed of an image to know it again.

    Args:
        image: The image, of any size; it is squashed to a square.
    """
    small = Image.fromarray(image).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    even = _evened(np.asarray(small, dtype=np.float32))
    low = dctn(even, norm="ortho")[:_NUM_FREQUENCIES, :_NUM_FREQUENCIES].ravel()[1:]
    return Fingerprint(
        bits=np.packbits(low > 0).view(np.uint64),
        square=np.clip(np.round(even * _STEP), -127, 127).astype(np.int8),
    )


def find_near_duplicates(
    fingerprints: Mapping[str, Fingerprint],
    *,
    parts: Mapping[str, str] | None = None,
    least: float = LEAST_CORRELATION,
) -> list[Pair]:
    """Return the pairs of images that are nearly the same, the most alike first.

    Args:
        fingerprints: Of each image, by its name.
        parts: Part of the split by name; only pairs across two parts are looked for. None looks
            for all.
        least: Correlation above which a pair counts, in (0, 1).
    """
    names = list(fingerprints)
    bits = [fingerprints[name].bits for name in names]
    labels = None if parts is None else np.unique([parts[n] for n in names], return_inverse=True)[1]
    found = []
    near = _near(bits, labels)
    while pairs := list(islice(near, _PAIRS)):
        a, b = (np.stack([fingerprints[names[p[k]]].square for p in pairs]) for k in (0, 1))
        for (i, j), correlation in zip(pairs, _correlations(a, b), strict=True):
            if correlation >= least:
                found.append(Pair(a=names[i], b=names[j], correlation=float(correlation)))
    return sorted(found, key=lambda pair: (-pair.correlation, pair.a, pair.b))


def _evened(grey: Float[np.ndarray, "s s"]) -> Float[np.ndarray, "s s"]:
    """Return the structure of a picture: each place less its surroundings, by their spread."""
    inside = (~_surround(grey)).astype(np.float32)

    def mean(values: Float[np.ndarray, "s s"]) -> Float[np.ndarray, "s s"]:
        smooth: Float[np.ndarray, "s s"] = gaussian_filter(values * inside, _SCALE, mode="nearest")
        smooth /= weight
        return smooth

    weight = gaussian_filter(inside, _SCALE, mode="nearest") + 1e-6
    off = grey - mean(grey)
    even: Float[np.ndarray, "s s"] = off / (np.sqrt(mean(off**2)) + _NOISE) * inside
    return even


def _surround(grey: Float[np.ndarray, "s s"]) -> Bool[np.ndarray, "s s"]:
    """Return what surrounds the field of view: dark or without structure, and open to the edge."""
    darkest, median = np.percentile(grey, [1, 50])
    flat = maximum_filter(grey, 3) - minimum_filter(grey, 3) <= _FLAT
    regions, _ = label((grey <= darkest + _DARK * (median - darkest)) | flat)
    edge = np.unique(np.concatenate([regions[[0, -1]].ravel(), regions[:, [0, -1]].ravel()]))
    outside: Bool[np.ndarray, "s s"] = binary_dilation(
        np.isin(regions, edge[edge > 0]), iterations=_RIM
    )
    return outside if outside.mean() <= _MOST_RIM else np.zeros_like(outside)


def _near(
    bits: Sequence[UInt64[np.ndarray, "4"]], labels: np.ndarray | None
) -> Iterator[tuple[int, int]]:
    """Yield the pairs, in order, whose hashes are near and whose labels differ."""
    if not bits:
        return
    words = np.stack(bits)
    num_rows = max(1, _MOST_COMPARED // len(words))
    for start in range(0, len(words), num_rows):
        rows = words[start : start + num_rows]
        apart = np.zeros((len(rows), len(words) - start), dtype=np.uint16)
        for word in range(words.shape[1]):
            apart += np.bitwise_count(rows[:, None, word] ^ words[None, start:, word])
        near = np.triu(apart <= _MAX_DISTANCE, k=1)
        if labels is not None:
            near &= labels[start : start + num_rows, None] != labels[None, start:]
        for i, j in np.argwhere(near):
            yield start + int(i), start + int(j)


def _correlations(
    a: Int8[np.ndarray, "p s s"], b: Int8[np.ndarray, "p s s"]
) -> Float[np.ndarray, " p"]:
    """Return the correlation of each pair where the two overlap, at their best shift."""
    first, second = a.astype(np.float32), b.astype(np.float32)
    around = irfft2(rfft2(first) * np.conj(rfft2(second)), s=first.shape[1:])
    offsets = np.arange(-SHIFT, SHIFT + 1)
    window = around[:, offsets[:, None], offsets[None, :]].reshape(len(a), -1)
    best = window.argmax(axis=1)
    return np.array(
        [
            _overlap(x, y, int(offsets[k // len(offsets)]), int(offsets[k % len(offsets)]))
            for x, y, k in zip(first, second, best, strict=True)
        ]
    )


def _overlap(
    a: Float[np.ndarray, "s s"], b: Float[np.ndarray, "s s"], down: int, right: int
) -> float:
    """Return the correlation of `a` with `b` moved down and right, where both are."""
    size = len(a)
    x = a[max(down, 0) : size + min(down, 0), max(right, 0) : size + min(right, 0)]
    y = b[max(-down, 0) : size + min(-down, 0), max(-right, 0) : size + min(-right, 0)]
    norm = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float((x * y).sum()) / norm if norm else 0.0
