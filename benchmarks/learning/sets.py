"""The image sets of the benchmark: read by the product, cut into folds, n images drawn to learn.

The folds are the same whatever the seed; the seed draws. Groups are drawn whole, in one order a
fold, so that fewer images are a part of more.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vasculora.core.types import Record, Target
from vasculora.data.sources import read_source
from vasculora.data.splits import fold_by_group, select

MOST_WATCHED = 12
"""Images that a curve against minutes is measured on."""
_FOLDS_SEED = 0


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """Where a set lies, how it is cut, and what a U-Net sees of it."""

    title: str
    folder: str
    num_folds: int  # 1: the set's own train and val
    same: tuple[tuple[str, ...], ...] = ()  # images of one run, which must not be divided
    unet_side: int | None = None  # the long side a U-Net is shown; None for the image's own


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """The images of one run: learnt from, watched for the curve, and tested once."""

    train: tuple[Record, ...]
    watched: tuple[Record, ...]
    test: tuple[Record, ...]


def read_set(name: str, shared: Path) -> tuple[Record, ...]:
    """Return a set's images, each with all that is annotated as one thing without a name."""
    chosen = SETS[name]
    first = {case: names[0] for names in chosen.same for case in names}
    return tuple(
        replace(
            record, group=first.get(record.case_id, record.group), targets=(_union(record.targets),)
        )
        for record in read_source(shared / "data" / chosen.folder).records
    )


def draw(name: str, records: Sequence[Record], *, fold: int, num: int, seed: int) -> Drawn:
    """Return the images of a run.

    Args:
        name: Of the set.
        records: All of it.
        fold: Which fold is tested, from 0 on.
        num: Images to learn from.
        seed: Decides which.

    Raises:
        ValueError: If there is no such fold, or whole groups do not add up to `num`.
    """
    pool, test = _parts(name, records, fold)
    rng = np.random.default_rng((seed, fold))
    groups = list(dict.fromkeys(record.group for record in pool))
    order = [groups[i] for i in rng.permutation(len(groups))]
    chosen: set[str] = set()
    held = 0
    for group in order:
        size = sum(record.group == group for record in pool)
        if held + size <= num:
            chosen.add(group)
            held += size
    if held != num:
        raise ValueError(
            f"{name}, fold {fold}: whole groups of the {len(pool)} images to learn from add up to "
            f"{held}, but {num} were asked for. Ask for {held}."
        )
    left = [record for record in pool if record.group not in chosen]
    places = rng.permutation(len(left))[:MOST_WATCHED]
    return Drawn(
        train=tuple(record for record in pool if record.group in chosen),
        watched=tuple(left[i] for i in sorted(places.tolist())),
        test=test,
    )


def _parts(
    name: str, records: Sequence[Record], fold: int
) -> tuple[tuple[Record, ...], tuple[Record, ...]]:
    """Return the images that may be learnt from, and those that are tested."""
    num_folds = SETS[name].num_folds
    if not 0 <= fold < num_folds:
        raise ValueError(f"{name} has folds 0 to {num_folds - 1}, got {fold}.")
    if num_folds == 1:
        pool = tuple(record for record in records if record.case_id.startswith("train/"))
        return pool, tuple(record for record in records if record.case_id.startswith("val/"))
    split = fold_by_group(records, seed=_FOLDS_SEED, fold=fold + 1, num_folds=num_folds)
    return select(records, split, "train"), select(records, split, "val")


def _union(targets: Sequence[Target]) -> Target:
    """Return the union of an image's targets: all rings of them, or the only mask."""
    if len(targets) == 1:
        return replace(targets[0], phrase=None)
    rings = tuple(ring for target in targets for ring in target.polygons or ())
    runs = tuple(run for target in targets for run in target.runs or ())
    return Target(polygons=rings, runs=runs or None)


SETS: dict[str, ImageSet] = {
    "cimat": ImageSet(
        title="Coronary angiograms (cimat_angios)",
        folder="cimat_angios",
        num_folds=5,
        same=(("2", "3"), ("14", "15"), ("9", "12"), ("5", "6")),
    ),
    "octa": ImageSet(title="OCTA (octa500_3m)", folder="octa500_3m/OCTA-500", num_folds=5),
    "chase": ImageSet(title="Retinas (chase_db1)", folder="chase_db1", num_folds=5, unet_side=512),
    "arcade": ImageSet(
        title="Coronary angiograms, SYNTAX segments (arcade)", folder="arcade/syntax", num_folds=1
    ),
}
