"""Record -> Sample: open, draw and check each case, and say which case is wrong and what mends it.

Polygons follow COCO's convention, which the official training uses too: coordinates are continuous,
pixel i spans i to i + 1, and a pixel belongs to a ring when its centre lies inside (by winding
number, so a ring that runs over itself stays filled). Pillow's and OpenCV's polygon drawing paint
the outline as well, which widens a 3 pixel vessel to 4; here the area is kept, and rings that share
an edge leave no gap between them. The price: a ring thinner than a pixel may lose pixels.

Augmentation draws from a generator made of (seed, epoch, index), so a case looks the same in an
epoch whichever worker makes it and however often the run was resumed. Whether a case was decoded
anew or kept changes how long it takes and nothing else.

What a case is scored by, its field of view and a second observer's mask, is read where nothing
augments: training asks for neither, and no mask can lie askew on a picture that was moved.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float, UInt8
from torch.utils.data import Dataset

from vasculora.core.io import read_image, read_mask_image
from vasculora.core.types import Polygon, Record, Sample, Target
from vasculora.data.cache import SampleCache
from vasculora.data.packed import PackedRecords
from vasculora.data.runs import draw_runs

_MAX_LISTED = 10

Augment = Callable[[Sample, np.random.Generator], Sample]


class VesselDataset(Dataset[Sample]):
    """The samples of some records, augmented where a transform is given.

    Forked workers share what it holds: the records, and the decoded pictures that it keeps.
    """

    def __init__(
        self,
        records: Sequence[Record],
        *,
        phrase: str,
        transform: Augment | None = None,
        seed: int = 0,
        allow_empty: bool = False,
        cache_bytes: int = 0,
        draws: int = 1,
    ) -> None:
        """Take the records; nothing is opened yet.

        Args:
            records: The cases, in the order of their indices.
            phrase: Name of targets for which the data set has none.
            transform: Applied to a sample each time it is taken; with one, samples have no field of
                view, second mask or spacing.
            seed: Seed of the transform's random numbers.
            allow_empty: Accept masks without a single pixel.
            cache_bytes: Memory for decoded samples, all workers together; 0 decodes each anew.
            draws: How often an epoch takes each case, every time with random numbers of its own.
        """
        self.records = PackedRecords(records)
        self.phrase = phrase
        self.transform = transform
        self.seed = seed
        self.allow_empty = allow_empty
        self.draws = draws
        self.epoch = 0
        self._cache = SampleCache(len(records), cache_bytes)

    def __len__(self) -> int:
        """Return the number of samples in an epoch."""
        return len(self.records) * self.draws

    def __getitem__(self, index: int) -> Sample:
        """Return a sample, augmented as the current epoch wants it."""
        index = range(len(self))[index]
        sample = self._decoded(index % len(self.records))
        sample = replace(sample, lot=draw_lot(self.seed, self.epoch, index))
        if self.transform is None:
            return sample
        return self.transform(sample, np.random.default_rng((self.seed, self.epoch, index)))

    def set_epoch(self, epoch: int) -> None:
        """Choose the random numbers of this epoch."""
        self.epoch = epoch

    def _decoded(self, index: int) -> Sample:
        record = self.records[index]
        kept = self._cache.get(index)
        if kept is None:
            sample = load_sample(
                record,
                phrase=self.phrase,
                allow_empty=self.allow_empty,
                to_score=self.transform is None,
            )
            self._cache.put(index, sample.image, _layers(sample))
            return sample
        image, layers = kept
        return _from_layers(record, self.phrase, image, layers, to_score=self.transform is None)


def draw_lot(seed: int, epoch: int, index: int) -> int:
    """Return a sample's random number, apart from those of its augmentation."""
    return int(np.random.default_rng((seed, epoch, index, 1)).integers(2**32))


def load_sample(
    record: Record, *, phrase: str, allow_empty: bool = False, to_score: bool = True
) -> Sample:
    """Return a case decoded and checked.

    Args:
        record: The case.
        phrase: Name of targets for which the data set has none.
        allow_empty: Accept masks without a single pixel.
        to_score: Read the field of view, second mask and spacing too, which training does not need.

    Raises:
        FileNotFoundError: If a file is gone.
        ValueError: If a file cannot be read, a mask or field of view does not fit its image, or is
            empty.
    """
    image = read_image(record.image_path, record.frame)
    masks = [_mask(record, target, image) for target in record.targets]
    phrases = _phrases(record, phrase)
    for mask, name, target in zip(masks, phrases, record.targets, strict=True):
        if not allow_empty and not target.absent and not mask.any():
            raise ValueError(
                f"{record.case_id}: the mask of '{name}' is empty. Annotate it, or take the case "
                "out of the data."
            )
    return Sample(
        case_id=record.case_id,
        group=record.group,
        image=image,
        masks=np.stack(masks) if masks else np.zeros((0, *image.shape[:2]), dtype=bool),
        phrases=phrases,
        fov=_fov(record, image) if to_score else None,
        second=_second(record, image) if to_score else None,
        spacing=record.spacing if to_score else None,
    )


def check_records(
    records: Sequence[Record],
    phrase: str,
    *,
    allow_empty: bool = False,
    on_sample: Callable[[Sample], None] | None = None,
) -> None:
    """Open every case, so that a bad one is found before hours are spent.

    Args:
        records: The cases.
        phrase: Name of targets for which the data set has none.
        allow_empty: Accept masks without a single pixel.
        on_sample: Called with each good case, while it is open anyway.

    Raises:
        ValueError: If cases are bad: a line for each of the first ten, and how many there are.
    """
    problems = []
    for record in records:
        try:
            sample = load_sample(record, phrase=phrase, allow_empty=allow_empty)
        except (ValueError, OSError) as error:
            message = str(error)
            known = message.startswith(record.case_id)
            problems.append(message if known else f"{record.case_id}: {message}")
            continue
        if on_sample is not None:
            on_sample(sample)
    if problems:
        more = len(problems) - _MAX_LISTED
        raise ValueError(
            "\n".join(
                [
                    f"{len(problems)} of {len(records)} cases cannot be used:",
                    *problems[:_MAX_LISTED],
                    *([f"... and {more} more."] if more > 0 else []),
                ]
            )
        )


def draw_polygons(
    polygons: Sequence[Polygon], *, height: int, width: int
) -> Bool[np.ndarray, "{height} {width}"]:
    """Return the union of closed rings: True where a pixel's centre lies inside one.

    Args:
        polygons: Rings, x and y in turn; parts outside the image are cut off.
        height: Of the mask, in pixels.
        width: Of the mask, in pixels.
    """
    mask = np.zeros((height, width), dtype=bool)
    for ring in polygons:
        points = np.asarray(ring, dtype=np.float64).reshape(-1, 2)
        # Only the rows and columns the ring can touch are worked on.
        left, top = np.clip(np.floor(points.min(axis=0)), 0, (width, height)).astype(int).tolist()
        right, bottom = (
            np.clip(np.ceil(points.max(axis=0)), 0, (width, height)).astype(int).tolist()
        )
        inside = _inside(points - (left, top), bottom - top, right - left)
        mask[top:bottom, left:right] |= inside
    return mask


def check_size(mask: Bool[np.ndarray, "_ _"], image: UInt8[np.ndarray, "h w 3"], what: str) -> None:
    """Make sure that a mask lies on its image.

    Args:
        mask: Any kind of mask.
        image: The image it belongs to.
        what: The case and what the mask is to it, as `DRIVE/21_training: mask`.

    Raises:
        ValueError: If their sizes differ.
    """
    height, width = image.shape[:2]
    if mask.shape != (height, width):
        cure = "Rotate or re-export" if mask.shape == (width, height) else "Re-export"
        raise ValueError(
            f"{what} is {mask.shape[1]}x{mask.shape[0]} but image is {width}x{height}. {cure} the "
            f"{what.rpartition(': ')[2]} at the image's own size."
        )


def _inside(points: Float[np.ndarray, "p 2"], height: int, width: int) -> Bool[np.ndarray, "h w"]:
    """Return where the winding number is not zero: the turns of all edges left of a centre."""
    x0, y0 = points.T
    x1, y1 = np.roll(points, -1, axis=0).T
    # Rows whose centre line an edge crosses; half open, so a corner counts for one of its two
    # edges.
    first = np.clip(np.ceil(np.minimum(y0, y1) - 0.5), 0, height).astype(int)
    after = np.clip(np.ceil(np.maximum(y0, y1) - 0.5), 0, height).astype(int)
    edge = np.repeat(np.arange(len(points)), after - first)
    start = np.cumsum(after - first) - (after - first)
    rows = np.arange(len(edge)) - start[edge] + first[edge]
    slope = (x1 - x0)[edge] / (y1 - y0)[edge]
    crossing = x0[edge] + (rows + 0.5 - y0[edge]) * slope
    columns = np.clip(np.ceil(crossing - 0.5), 0, width).astype(int)
    turns = np.zeros((height, width + 1), dtype=np.int32)
    np.add.at(turns, (rows, columns), np.where(y1 > y0, 1, -1)[edge])
    winding: Bool[np.ndarray, "h w"] = np.cumsum(turns, axis=1)[:, :width] != 0
    return winding


def _layers(sample: Sample) -> Bool[np.ndarray, "n h w"]:
    """Return all masks of a sample in one, as the cache keeps them."""
    more = [mask[None] for mask in (sample.fov, sample.second) if mask is not None]
    return np.concatenate([sample.masks, *more])


def _from_layers(
    record: Record,
    phrase: str,
    image: UInt8[np.ndarray, "h w 3"],
    layers: Bool[np.ndarray, "n h w"],
    *,
    to_score: bool,
) -> Sample:
    """Return the sample of a record from what the cache kept."""
    phrases = _phrases(record, phrase)
    more = iter(layers[len(phrases) :])
    return Sample(
        case_id=record.case_id,
        group=record.group,
        image=image,
        masks=layers[: len(phrases)],
        phrases=phrases,
        fov=next(more) if to_score and record.fov_path else None,
        second=next(more) if to_score and record.second_path else None,
        spacing=record.spacing if to_score else None,
    )


def _phrases(record: Record, phrase: str) -> tuple[str, ...]:
    return tuple(target.phrase or phrase for target in record.targets)


def _mask(
    record: Record, target: Target, image: UInt8[np.ndarray, "h w 3"]
) -> Bool[np.ndarray, "_ _"]:
    height, width = image.shape[:2]
    if target.mask_path is None:
        return _drawn(record.case_id, target, height=height, width=width)
    mask = read_mask_image(target.mask_path, record.frame)
    check_size(mask, image, f"{record.case_id}: mask")
    return mask


def _fov(record: Record, image: UInt8[np.ndarray, "h w 3"]) -> Bool[np.ndarray, "h w"] | None:
    if record.fov_path is None:
        return None
    fov = read_mask_image(record.fov_path, record.frame)
    check_size(fov, image, f"{record.case_id}: field of view")
    if not fov.any():
        raise ValueError(
            f"{record.case_id}: its field of view is empty, so nothing of it would be scored. "
            "Export it anew, or take it out of the data."
        )
    return fov


def _second(record: Record, image: UInt8[np.ndarray, "h w 3"]) -> Bool[np.ndarray, "h w"] | None:
    if record.second_path is None:
        return None
    second = read_mask_image(record.second_path, record.frame)
    check_size(second, image, f"{record.case_id}: second observer's mask")
    return second


def _drawn(case_id: str, target: Target, *, height: int, width: int) -> Bool[np.ndarray, "_ _"]:
    polygons = target.polygons or ()
    for ring in polygons:
        _check_ring(case_id, ring, height=height, width=width)
    mask = draw_polygons(polygons, height=height, width=width)
    try:
        mask |= draw_runs(target.runs or (), height=height, width=width)
    except ValueError as error:
        raise ValueError(f"{case_id}: {error}") from error
    return mask


def _check_ring(case_id: str, ring: Polygon, *, height: int, width: int) -> None:
    if len(ring) < 6 or len(ring) % 2:
        raise ValueError(
            f"{case_id}: a polygon has {len(ring)} numbers, but needs x and y of 3 points at "
            "least. Remove it, or draw it again."
        )
    points = np.asarray(ring, dtype=np.float64).reshape(-1, 2)
    if not np.isfinite(points).all():
        raise ValueError(
            f"{case_id}: a polygon holds NaN or infinity. Export the annotation again."
        )
    # A hand may slip over the border; more than that belongs to an image of another size.
    slack = max(2.0, 0.02 * max(height, width))
    low, high = points.min(axis=0), points.max(axis=0)
    if (low < -slack).any() or (high > np.array((width, height)) + slack).any():
        raise ValueError(
            f"{case_id}: a polygon reaches from ({low[0]:.0f}, {low[1]:.0f}) to ({high[0]:.0f}, "
            f"{high[1]:.0f}) but image is {width}x{height}. Give polygons in pixels of this very "
            "image."
        )
