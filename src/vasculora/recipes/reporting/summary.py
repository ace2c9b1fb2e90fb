"""A data set in a few numbers, for a report and a model card: nothing of it names a case.

Sizes and shares are those of every image where all were open anyway, else of a few. The ceiling is
measured on a few masks of what is scored, as the base is shown them and by the way `data check`
measures it, so that it takes seconds however large the data is. The same data gives the same
numbers.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from vasculora.core.types import Record, Sample
from vasculora.data.dataset import load_sample
from vasculora.metrics.ceiling import Ceiling, ceiling
from vasculora.model.processor import ProcessorConfig
from vasculora.recipes.split import Looks
from vasculora.recipes.target import evenly, shown_mask

MOST_LOOKED = 12
MOST_SIZES = 4
_LEAST_MASKS, _MOST_PIXELS = 2, 1_000_000  # what ceilings are measured on: about two seconds


def summarise(
    parts: Mapping[str, Sequence[Record]],
    processor: ProcessorConfig | None,
    *,
    scored: str,
    phrase: str,
    looks: Looks | None = None,
) -> dict[str, Any]:
    """Return what a data set is, in numbers.

    Args:
        parts: The cases of each part of its split: `train`, `val`, `test` or `all`.
        processor: Grid, sizes, windows and target rule, for the ceiling; None without a model.
        scored: The part whose masks are measured.
        phrase: Name of targets for which the data set has none.
        looks: What was seen while all images were open; None looks at a few of the scored part.

    Returns:
        `num_images`, `num_groups`; `parts`, both by part; `sizes` (width x height) with how many
        images have them, the most frequent first; `vessel_share`, its least, median and greatest;
        `num_looked`, the images that both were seen on; `ceiling`: mean Dice and clDice that a
        perfect model could reach by the target rule `rule`, on `num_masks` masks (None where the
        part has none, or there is no model).
    """
    samples = [
        load_sample(record, phrase=phrase, allow_empty=True)
        for record in evenly(parts[scored], MOST_LOOKED)
    ]
    if looks is None or not looks.sizes:
        looks = Looks(leaks="off")
        for sample in samples:
            looks.take(sample)
    shares = list(looks.foreground.values())
    return {
        **_counts([record for records in parts.values() for record in records]),
        "parts": {part: _counts(records) for part, records in parts.items() if len(records)},
        "sizes": _sizes(looks.sizes.values()),
        "vessel_share": [float(np.quantile(shares, q)) for q in (0, 0.5, 1)] if shares else [],
        "num_looked": len(shares),
        "ceiling": None if processor is None else _ceiling(samples, processor),
    }


def _counts(records: Sequence[Record]) -> dict[str, int]:
    return {"num_images": len(records), "num_groups": len({record.group for record in records})}


def _sizes(sizes: Iterable[tuple[int, int]]) -> list[str]:
    counts = Counter(f"{width} x {height}" for height, width in sizes).most_common()
    told = [f"{size} ({num})" for size, num in counts[:MOST_SIZES]]
    others = sum(num for _, num in counts[MOST_SIZES:])
    return [*told, f"others ({others})"] if others else told


def _ceiling(samples: Sequence[Sample], processor: ProcessorConfig) -> dict[str, Any] | None:
    views = [shown_mask(sample, processor, turn=turn) for turn, sample in enumerate(samples)]
    masks = [view for view in views if view is not None]
    if not masks:
        return None
    num = max(_LEAST_MASKS, _MOST_PIXELS // max(mask.size for mask in masks))
    found: list[Ceiling] = [
        ceiling(
            mask,
            processor.target,
            grid=processor.mask_size,
            sam_size=processor.sam_size,
            fit=processor.fit,
        )
        for mask in evenly(masks, num)
    ]
    return {
        "dice": float(np.mean([one.dice for one in found])),
        "cldice": float(np.mean([one.cldice for one in found])),
        "rule": processor.target,
        "num_masks": len(found),
    }
