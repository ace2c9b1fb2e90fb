"""Which cases train and which test: splits by group, and the seed's split by file name.

Frames of one run look alike, so a split that divides a group measures memory. `split_by_group`
therefore takes whole groups, and among all sets of groups one whose images come nearest to the
wanted number. `split_sorted` exists to repeat the seed's numbers; `leaking_groups` says what is
wrong with it.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from vasculora.core.io import read_json
from vasculora.core.types import Record

Part = Literal["train", "val", "test", "all"]


@dataclass(frozen=True, kw_only=True)
class Split:
    """The case ids of each part.

    Attributes:
        train: Learnt from.
        val: Chooses the best epoch.
        test: Looked at once, at the end; empty unless the user gives a split of his own.
    """

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, list[str]]:
        """Return the parts as plain lists, as `split.json` holds them."""
        return {part: list(case_ids) for part, case_ids in asdict(self).items()}


def split_by_group(records: Sequence[Record], *, seed: int, train_share: float = 0.8) -> Split:
    """Return a split into train and val that divides no group.

    The groups are shuffled (in the order in which the records name them first, so pseudonyms do not
    matter) and the train part gets the groups whose images add up to as many of floor(share * n) as
    any set of groups can; it is larger only where every single group is.

    Args:
        records: All cases.
        seed: Decides the shuffle.
        train_share: Share of the images to train on, above 0 and below 1.

    Raises:
        ValueError: If there are fewer than two groups, or the share is out of range.
    """
    num_train = _num_train(len(records), train_share)
    sizes = Counter(record.group for record in records)
    if len(sizes) < 2:
        raise ValueError(
            f"the {len(records)} images belong to {len(sizes)} group, but train and val need one "
            "each at least. Add images of another patient, or group them more finely (groups.csv "
            "or --group-regex)."
        )
    groups = list(sizes)
    shuffled = [groups[i] for i in np.random.default_rng(seed).permutation(len(groups))]
    chosen = _fill([sizes[group] for group in shuffled], num_train)
    if not chosen:
        chosen = {min(range(len(shuffled)), key=lambda i: sizes[shuffled[i]])}
    in_train = {shuffled[i] for i in chosen}
    return Split(
        train=tuple(r.case_id for r in records if r.group in in_train),
        val=tuple(r.case_id for r in records if r.group not in in_train),
    )


def split_sorted(records: Sequence[Record], train_share: float = 0.8) -> Split:
    """Return the seed's split: the first floor(share * n) records train, the others are val.

    A source lists its records by file name, which is the order meant. Groups may be divided.

    Raises:
        ValueError: If there are fewer than two records, or the share is out of range.
    """
    if len(records) < 2:
        raise ValueError(f"{len(records)} images cannot be split into train and val. Add some.")
    num_train = max(1, _num_train(len(records), train_share))
    case_ids = tuple(record.case_id for record in records)
    return Split(train=case_ids[:num_train], val=case_ids[num_train:])


def leaking_groups(records: Sequence[Record], split: Split) -> tuple[str, ...]:
    """Return the groups that have cases in more than one part, sorted."""
    parts = {case_id: part for part, ids in split.to_dict().items() for case_id in ids}
    seen: dict[str, set[str]] = {}
    for record in records:
        if record.case_id in parts:
            seen.setdefault(record.group, set()).add(parts[record.case_id])
    return tuple(sorted(group for group, found in seen.items() if len(found) > 1))


def read_split(path: Path) -> Split:
    """Return the split a `split.json` holds.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no split, or names a case twice.
    """
    value = read_json(path)
    parts = ("train", "val", "test")
    if not isinstance(value, dict) or not value or not set(value) <= set(parts):
        raise ValueError(f'{path}: expected {{"train": [...], "val": [...], "test": [...]}}.')
    for part, case_ids in value.items():
        if not isinstance(case_ids, list) or not all(isinstance(i, str) for i in case_ids):
            raise ValueError(f"{path}: '{part}' must be a list of case names in quotes.")
    twice = [
        i for i, count in Counter(i for ids in value.values() for i in ids).items() if count > 1
    ]
    if twice:
        raise ValueError(f"{path}: '{twice[0]}' stands in it twice. A case belongs to one part.")
    return Split(**{part: tuple(value.get(part, ())) for part in parts})


def select(records: Iterable[Record], split: Split, part: Part) -> tuple[Record, ...]:
    """Return the records of one part, in the order given.

    `all` is every record, whether the split names it or not.

    Raises:
        ValueError: If there is no such part, or the split names cases that are not among the
            records.
    """
    records = tuple(records)
    if part == "all":
        return records
    parts = split.to_dict()
    if part not in parts:
        raise ValueError(f"unknown part '{part}'. Known: train, val, test, all.")
    wanted = set(parts[part])
    chosen = tuple(record for record in records if record.case_id in wanted)
    missing = wanted - {record.case_id for record in chosen}
    if missing:
        raise ValueError(
            f"{len(missing)} cases of the {part} part are not in the data (first: {min(missing)}). "
            "Use the data the split was made for."
        )
    return chosen


def _num_train(num_records: int, train_share: float) -> int:
    if not 0 < train_share < 1:
        raise ValueError(f"train_share is {train_share}, but must be above 0 and below 1.")
    # 0.29 * 100 is 28.999999999999996 in floating point and means 29.
    return int(train_share * num_records + 1e-9)


def _fill(sizes: Sequence[int], wanted: int) -> set[int]:
    """Return indices of sizes that add up to the largest reachable sum of at most `wanted`.

    `first[s]` is the earliest size that made sum `s` reachable; the sum without it was reachable
    before, so walking back never takes a size twice.
    """
    unreached = -1
    first = np.full(wanted + 1, unreached)
    first[0] = len(sizes)
    top = 0
    for i, size in enumerate(sizes):
        top = min(top + size, wanted)
        new = (first[size : top + 1] == unreached) & (first[: max(top + 1 - size, 0)] != unreached)
        first[size : top + 1][new] = i
        if first[wanted] != unreached:
            break
    total = int(np.flatnonzero(first != unreached)[-1])
    chosen: set[int] = set()
    while total:
        chosen.add(int(first[total]))
        total -= sizes[int(first[total])]
    return chosen
