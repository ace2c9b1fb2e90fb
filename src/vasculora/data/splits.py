"""Which cases train and which test: splits by group, and the seed's split by file name.

Frames of one run look alike, so a split that divides a group measures memory. `split_by_group`
therefore takes whole groups, and among all sets of groups one whose images come nearest to the
wanted number. Where it is told how much of each image is vessel, it draws many such sets and keeps
the one whose two parts are most alike in that: a val of thin trees alone measures its own hardness.
`fold_by_group` does the same for folds. `split_sorted` exists to repeat the seed's numbers;
`leaking_groups` says what is wrong with it.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from vasculora.core.io import read_json
from vasculora.core.types import Record

Part = Literal["train", "val", "test", "all"]

_NUM_DRAWS = 200
_MAX_DRAWN = 400_000
"""Sets that a stratified split chooses among: fewer where there are very many images, whose parts
are alike by their number."""


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


def split_by_group(
    records: Sequence[Record],
    *,
    seed: int,
    train_share: float = 0.8,
    foreground: Mapping[str, float] | None = None,
) -> Split:
    """Return a split into train and val that divides no group.

    The groups are shuffled (in the order in which the records name them first, so pseudonyms do not
    matter) and the train part gets the groups whose images add up to as many of floor(share * n) as
    any set of groups can; it is larger only where every single group is. With `foreground` that is
    done many times, and the split whose parts differ least in mean and spread of it is returned.

    Args:
        records: All cases.
        seed: Decides the shuffles.
        train_share: Share of the images to train on, above 0 and below 1.
        foreground: Share of vessel in each image, by case id; None takes the first shuffle.

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
    rng = np.random.default_rng(seed)
    if foreground is None:
        return _draw_split(records, sizes, num_train, rng)
    num_draws = min(_NUM_DRAWS, 1 + _MAX_DRAWN // len(records))
    drawn = [_draw_split(records, sizes, num_train, rng) for _ in range(num_draws)]
    return min(drawn, key=lambda split: _unlikeness(split, foreground))


def fold_by_group(
    records: Sequence[Record],
    *,
    seed: int,
    fold: int,
    num_folds: int,
    foreground: Mapping[str, float] | None = None,
) -> Split:
    """Return the split whose val is one of several folds; over all of them each case is in one val.

    Large groups are dealt first, each to a fold with the fewest images. With `foreground`, groups
    of one size are dealt in order of it, so that every fold gets one of each few neighbours.

    Args:
        records: All cases.
        seed: Decides who is dealt where; the same for all folds of a series.
        fold: Which fold is val, from 1 on.
        num_folds: How many there are, at least 2.
        foreground: Share of vessel in each image, by case id.

    Raises:
        ValueError: If there is no such fold, or there are more folds than groups.
    """
    check_fold(fold, num_folds)
    members: dict[str, list[str]] = {}
    for record in records:
        members.setdefault(record.group, []).append(record.case_id)
    if num_folds > len(members):
        raise ValueError(
            f"{num_folds} folds were asked for, but the {len(records)} images belong to "
            f"{len(members)} groups, and none may be divided. Ask for {len(members)} folds at most."
        )
    rng = np.random.default_rng(seed)
    groups = [list(members)[i] for i in rng.permutation(len(members))]

    def rank(group: str) -> tuple[int, float]:
        ids = members[group]
        return -len(ids), 0.0 if foreground is None else -sum(foreground[i] for i in ids) / len(ids)

    groups.sort(key=rank)
    held = np.zeros(num_folds, dtype=int)
    in_val: set[str] = set()
    for i, group in enumerate(groups):
        if i % num_folds == 0:
            order = rng.permutation(num_folds)
        dealt = int(order[held[order].argmin()])
        held[dealt] += len(members[group])
        if dealt == fold - 1:
            in_val.add(group)
    return _split(records, in_val)


def read_fold(text: str) -> tuple[int, int]:
    """Return the fold and the number of folds that a text like `2/5` names.

    Raises:
        ValueError: If it is no such text, or there is no such fold.
    """
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text, re.ASCII)
    if found is None:
        raise ValueError(f"expected FOLD/FOLDS, as in 2/5, got '{text}'.")
    fold, num_folds = int(found[1]), int(found[2])
    check_fold(fold, num_folds)
    return fold, num_folds


def check_fold(fold: int, num_folds: int) -> None:
    """Make sure that there is such a fold.

    Raises:
        ValueError: If there is not.
    """
    if num_folds < 2:
        raise ValueError(f"{num_folds} folds make no train and val. Ask for 2 at least.")
    if not 1 <= fold <= num_folds:
        raise ValueError(
            f"there is no fold {fold} of {num_folds}. Folds count from 1 to {num_folds}."
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


def _split(records: Sequence[Record], in_val: set[str]) -> Split:
    return Split(
        train=tuple(r.case_id for r in records if r.group not in in_val),
        val=tuple(r.case_id for r in records if r.group in in_val),
    )


def _draw_split(
    records: Sequence[Record],
    sizes: Mapping[str, int],
    num_train: int,
    rng: np.random.Generator,
) -> Split:
    """Return the split of one shuffle of the groups."""
    groups = list(sizes)
    shuffled = [groups[i] for i in rng.permutation(len(groups))]
    chosen = _fill([sizes[group] for group in shuffled], num_train)
    if not chosen:
        chosen = {min(range(len(shuffled)), key=lambda i: sizes[shuffled[i]])}
    return _split(records, {group for i, group in enumerate(shuffled) if i not in chosen})


def _unlikeness(split: Split, foreground: Mapping[str, float]) -> float:
    """Return how far train and val are apart in mean and spread of their foreground shares."""
    train, val = ([foreground[i] for i in ids] for ids in (split.train, split.val))
    return float(abs(np.mean(train) - np.mean(val)) + abs(np.std(train) - np.std(val)))


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
