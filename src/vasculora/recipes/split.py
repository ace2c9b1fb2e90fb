"""Which images a run learns from and which it is scored on, no picture being on both sides.

While every image is open to be checked it is looked at too: how much of it is vessel, so that train
and val are alike in that, and its fingerprint. Two pictures of one moment across the split are
refused, because nobody who sees a good Val Dice would look for them; a user who splits by file name
has asked for it and is only told.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from vasculora.core.report import Report
from vasculora.core.types import Record, Sample
from vasculora.data.leaks import Fingerprint, Pair, find_near_duplicates, fingerprint
from vasculora.data.sources import Catalog
from vasculora.data.splits import (
    Part,
    Split,
    fold_by_group,
    leaking_groups,
    read_fold,
    read_split,
    split_by_group,
    split_sorted,
)
from vasculora.recipes.config import DataConfig, EvaluateConfig
from vasculora.recipes.run_folder import SPLIT_NAME

_MAX_PAIRS = 10
_MAX_LINES = 30


@dataclass(frozen=True, kw_only=True)
class Looks:
    """What a look at every image gives, by case id.

    Attributes:
        foreground: Share of the image that any of its masks covers.
        sizes: Height and width in pixels.
        fingerprints: What an image is known by; about 9 KB each.
        leaks: Whether near-duplicates are going to be looked for, as `data.leaks` says.
    """

    leaks: Literal["refuse", "warn", "off"] = "refuse"
    foreground: dict[str, float] = field(default_factory=dict)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    fingerprints: dict[str, Fingerprint] = field(default_factory=dict)

    def take(self, sample: Sample) -> None:
        """Look at one image and remember what is needed of it."""
        self.foreground[sample.case_id] = float(sample.masks.any(axis=0).mean())
        self.sizes[sample.case_id] = sample.masks.shape[1], sample.masks.shape[2]
        if self.leaks != "off":
            self.fingerprints[sample.case_id] = fingerprint(sample.image)


def choose_split(
    catalog: Catalog, config: DataConfig, looks: Looks, *, seed: int, report: Report
) -> Split:
    """Return the data's own split, or the one the settings ask for.

    Of a set that brings train and test alone, val is taken out of train; test stays untouched.

    Args:
        catalog: The data.
        config: How it is split, and what is done about near-duplicates.
        looks: What was seen of each of its images.
        seed: Decides the split.
        report: Where warnings go.

    Raises:
        ValueError: If the data cannot be split so, or nearly the same image is in two parts.
    """
    own = catalog.split
    if own is not None and own.val:
        if config.fold is not None:
            raise ValueError(
                f"{config.path}: the data has its own split, so fold {config.fold} has nothing to "
                "choose. Leave --fold out, or take the split out of the data."
            )
        split = own
    else:
        learnt = None if own is None else set(own.train)
        records = [r for r in catalog.records if learnt is None or r.case_id in learnt]
        made = _make_split(records, config, looks, seed=seed, report=report)
        split = made if own is None else replace(made, test=own.test)
    if config.leaks != "off":
        _check_leaks(catalog, split, looks, config, report)
    return split


def _make_split(
    records: Sequence[Record], config: DataConfig, looks: Looks, *, seed: int, report: Report
) -> Split:
    foreground = looks.foreground if config.stratify else None
    how = f"by {config.split_by}"
    if config.split_by == "sorted":
        split = split_sorted(records, config.train_share)
    elif config.fold is not None:
        fold, num_folds = read_fold(config.fold)
        split = fold_by_group(
            records, seed=seed, fold=fold, num_folds=num_folds, foreground=foreground
        )
        how += f", fold {config.fold}"
    else:
        split = split_by_group(
            records, seed=seed, train_share=config.train_share, foreground=foreground
        )
    report.note(f"Split {how}: {len(split.train)} train, {len(split.val)} val.")
    leaking = leaking_groups(records, split)
    if leaking:
        report.warn(
            f"{len(leaking)} groups have images in train and val, so Val Dice looks better than it "
            "is. Leave out --split-by sorted."
        )
    return split


def _check_leaks(
    catalog: Catalog, split: Split, looks: Looks, config: DataConfig, report: Report
) -> None:
    """Name the pairs of nearly the same image in two parts, and refuse them unless told otherwise.

    Raises:
        ValueError: If there are some, and the settings do not say that they may be there.
    """
    part_of = {case_id: part for part, ids in split.to_dict().items() for case_id in ids}
    prints = {i: known for i, known in looks.fingerprints.items() if i in part_of}
    pairs = find_near_duplicates(prints, parts=part_of)
    if not pairs:
        return
    found = _told(pairs, part_of, catalog.private_names)
    if config.leaks == "warn" or (config.split_by == "sorted" and catalog.split is None):
        report.warn(found)
        return
    cure = _cure(catalog, pairs, config)
    raise ValueError(f"{found}\n{cure}\nOr accept it, and say so: --set data.leaks=warn")


def _told(
    pairs: Sequence[Pair], part_of: Mapping[str, str], private_names: Mapping[str, str]
) -> str:
    """Return the pairs in words, with the user's own names."""

    def name(case_id: str) -> str:
        return f"{private_names.get(case_id, case_id)} ({part_of[case_id]})"

    lines = [
        f"  {name(pair.a)} and {name(pair.b)}, correlation {pair.correlation:.2f}"
        for pair in pairs[:_MAX_PAIRS]
    ]
    if len(pairs) > _MAX_PAIRS:
        lines.append(f"  ... and {len(pairs) - _MAX_PAIRS} more.")
    return "\n".join(
        [
            "Nearly the same images are in two parts of the split, so Val Dice would look better "
            f"than it is (pairs: {len(pairs)}):",
            *lines,
        ]
    )


def _cure(catalog: Catalog, pairs: Sequence[Pair], config: DataConfig) -> str:
    if catalog.split is not None:
        return "Put the images of each pair into one part of the data's own split."
    lines = [
        f"{catalog.private_names.get(case_id, case_id)},{group}"
        for case_id, group in _joined(catalog.records, pairs)
    ]
    more = [f"... and {len(lines) - _MAX_LINES} more."] if len(lines) > _MAX_LINES else []
    instead = " It takes the place of --group-regex." if config.group_regex is not None else ""
    return "\n".join(
        [
            "Group them: these lines in groups.csv (columns image,group, a line for every image), "
            f"or the same groups in a manifest.{instead}",
            *lines[:_MAX_LINES],
            *more,
        ]
    )


def _joined(records: Sequence[Record], pairs: Sequence[Pair]) -> list[tuple[str, str]]:
    """Return the images of the groups that pairs tie together, each with their common group."""
    own = {record.case_id: record.group for record in records}
    above = {group: group for group in own.values()}

    def head(group: str) -> str:
        while above[group] != group:
            above[group] = above[above[group]]  # so that no chain stays long
            group = above[group]
        return group

    for pair in pairs:
        above[head(own[pair.b])] = head(own[pair.a])
    tied = {head(own[pair.a]) for pair in pairs}
    return [(i, head(group)) for i, group in own.items() if head(group) in tied]


def choose_part(config: EvaluateConfig, catalog: Catalog, report: Report) -> tuple[Split, Part]:
    """Return the split to go by and the part to score.

    The data's own split counts first, then the one the run was trained with.
    """
    split = catalog.split
    if split is None and config.model is not None and config.split not in (None, "all"):
        split = _run_split(Path(config.model) / SPLIT_NAME, catalog, report)
    if split is None and config.split not in (None, "all"):
        raise ValueError(
            f"{config.data}: --split {config.split}, but the data has no split.json, and no run is "
            "given that was trained on it. Write a split.json beside the images, or leave --split "
            "out to score all of them."
        )
    if split is None:
        report.note("The data has no split.json, so all of it is scored.")
        return Split(train=(), val=()), "all"
    # Sets given out as train and test alone have no val.
    return split, config.split or ("val" if split.val else "test")


def _run_split(path: Path, catalog: Catalog, report: Report) -> Split | None:
    """Return the split a run was trained with, if it is one of this very data."""
    if not path.is_file():
        return None
    split = read_split(path)
    named = {case_id for case_ids in split.to_dict().values() for case_id in case_ids}
    if not named & {record.case_id for record in catalog.records}:
        report.note("The run was trained on other images, so its split does not count here.")
        return None
    report.note(f"Split: the one the run was trained with ({path}).")
    return split
