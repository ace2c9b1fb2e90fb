import json
from pathlib import Path

import numpy as np
import pytest

from vasculora.core.types import Record, Target
from vasculora.data.splits import (
    Split,
    fold_by_group,
    leaking_groups,
    read_fold,
    read_split,
    select,
    split_by_group,
    split_sorted,
)


def make_records(*group_sizes: int) -> list[Record]:
    return [
        Record(
            case_id=f"{group}_{i}",
            group=str(group),
            image_path=Path(f"{group}_{i}.png"),
            targets=(Target(polygons=()),),
        )
        for group, size in enumerate(group_sizes)
        for i in range(size)
    ]


def sizes(split: Split) -> tuple[int, int, int]:
    return len(split.train), len(split.val), len(split.test)


def test_1220_lone_images_give_976_and_244() -> None:
    split = split_by_group(make_records(*[1] * 1220), seed=0)
    assert sizes(split) == (976, 244, 0)
    assert len({*split.train, *split.val}) == 1220


@pytest.mark.parametrize("seed", range(20))
def test_no_group_is_ever_divided_and_every_case_is_in_one_part(seed: int) -> None:
    records = make_records(30, 7, 41, 1, 12, 12, 3, 25, 9, 60)
    split = split_by_group(records, seed=seed)
    assert leaking_groups(records, split) == ()
    assert sorted((*split.train, *split.val)) == sorted(r.case_id for r in records)
    # 160 = floor(0.8 * 200) can be made from these groups, so nothing less will do.
    assert len(split.train) == 160


def test_train_is_filled_as_far_as_whole_groups_allow_but_not_over() -> None:
    # floor(0.8 * 18) = 14: 5 + 5 = 10 and 8 + 5 = 13, never 18.
    assert {len(split_by_group(make_records(5, 8, 5), seed=s).train) for s in range(9)} == {13}
    # floor(0.8 * 20) = 16: one of the two halves is all that fits.
    assert sizes(split_by_group(make_records(10, 10), seed=3)) == (10, 10, 0)


def test_train_is_over_full_only_where_every_group_is_larger_than_it() -> None:
    assert sizes(split_by_group(make_records(10, 7, 9), seed=0, train_share=0.2)) == (7, 19, 0)


def test_the_seed_decides_and_the_names_of_groups_do_not() -> None:
    records = make_records(*[2] * 50)
    first = split_by_group(records, seed=0)
    assert split_by_group(records, seed=0) == first
    assert split_by_group(records, seed=1) != first
    renamed = [
        Record(
            case_id=r.case_id,
            group=f"x{99 - int(r.group)}",
            image_path=r.image_path,
            targets=r.targets,
        )
        for r in records
    ]
    assert split_by_group(renamed, seed=0) == first


def drawn_shares(records: list[Record], seed: int) -> dict[str, float]:
    """Foreground as a hard set has it: it depends on the patient, and a few are far off."""
    rng = np.random.default_rng(seed)
    of_group = {record.group: rng.gamma(2, 0.03) for record in records}
    return {r.case_id: of_group[r.group] + rng.uniform(0, 0.01) for r in records}


def apart(split: Split, shares: dict[str, float]) -> tuple[float, float]:
    train, val = ([shares[i] for i in ids] for ids in (split.train, split.val))
    return abs(np.mean(train) - np.mean(val)), abs(np.std(train) - np.std(val))


@pytest.mark.parametrize("sizes_", [(1,) * 60, (30, 7, 41, 1, 12, 12, 3, 25, 9, 60), (2,) * 30])
def test_a_stratified_split_is_as_large_and_more_alike(sizes_: tuple[int, ...]) -> None:
    records = make_records(*sizes_)
    plain, told = [], []
    for seed in range(10):
        shares = drawn_shares(records, seed)
        one = split_by_group(records, seed=seed)
        other = split_by_group(records, seed=seed, foreground=shares)
        assert leaking_groups(records, other) == ()
        assert sizes(other) == sizes(one)
        plain.append(sum(apart(one, shares)))
        told.append(sum(apart(other, shares)))
    assert all(b <= a for a, b in zip(plain, told, strict=True))
    assert np.mean(told) < np.mean(plain) / 2


def test_by_hand_the_one_set_that_is_alike_is_found() -> None:
    # shares 1 1 1 1 9 9 9 9 and half of them in val: alike only where two of each are
    records = make_records(*[1] * 8)
    shares = {r.case_id: 0.01 if i < 4 else 0.09 for i, r in enumerate(records)}
    for seed in range(10):
        split = split_by_group(records, seed=seed, train_share=0.5, foreground=shares)
        assert apart(split, shares) == pytest.approx((0, 0))
        assert split == split_by_group(records, seed=seed, train_share=0.5, foreground=shares)
    found = {split_by_group(records, seed=s, train_share=0.5, foreground=shares) for s in range(10)}
    assert len(found) > 1


def test_without_shares_a_split_is_the_one_it_has_always_been() -> None:
    # the README's figures of the demo rest on this one
    split = split_by_group(make_records(*[1] * 240), seed=2025)
    assert split.val[:6] == ("7_0", "16_0", "25_0", "28_0", "37_0", "42_0")
    assert sizes(split) == (192, 48, 0)


@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize("sizes_", [(1,) * 23, (30, 7, 41, 1, 12, 12, 3, 25, 9, 60), (4,) * 5])
def test_over_the_folds_every_case_is_in_val_once(sizes_: tuple[int, ...], told: bool) -> None:
    records = make_records(*sizes_)
    shares = drawn_shares(records, 0) if told else None
    splits = [
        fold_by_group(records, seed=1, fold=fold, num_folds=5, foreground=shares)
        for fold in range(1, 6)
    ]
    case_ids = [record.case_id for record in records]
    assert sorted(i for split in splits for i in split.val) == sorted(case_ids)
    for split in splits:
        assert sorted((*split.train, *split.val)) == sorted(case_ids)
        assert leaking_groups(records, split) == ()
        assert split.val
    held = [len(split.val) for split in splits]
    assert max(held) - min(held) <= max(sizes_)


def test_folds_are_of_one_size_and_alike() -> None:
    records = make_records(*[1] * 100)
    shares = drawn_shares(records, 3)

    def spread(foreground: dict[str, float] | None) -> float:
        folds = [
            fold_by_group(records, seed=7, fold=k, num_folds=5, foreground=foreground)
            for k in range(1, 6)
        ]
        assert {len(split.val) for split in folds} == {20}
        return float(np.std([np.mean([shares[i] for i in split.val]) for split in folds]))

    assert spread(shares) < spread(None) / 3


def test_the_seed_decides_the_folds() -> None:
    records = make_records(*[1] * 40)
    shares = drawn_shares(records, 0)
    for foreground in (None, shares):
        first, again, other = (
            fold_by_group(records, seed=seed, fold=2, num_folds=4, foreground=foreground)
            for seed in (0, 0, 1)
        )
        assert first == again
        assert first != other


def test_folds_that_cannot_be_are_refused() -> None:
    assert read_fold("2/5") == (2, 5)
    for text in ("2-5", "2", "/5", "2/5/6", "-1/5", "1.0/5", "two/five", "", "²/5"):
        with pytest.raises(ValueError, match=r"expected FOLD/FOLDS, as in 2/5, got '"):
            read_fold(text)
    for text in ("0/5", "6/5"):
        with pytest.raises(ValueError, match=r"no fold \d of 5\. Folds count from 1 to 5"):
            read_fold(text)
    with pytest.raises(ValueError, match="1 folds make no train and val"):
        read_fold("1/1")
    with pytest.raises(ValueError, match=r"4 folds .* 6 images belong to 3 groups.* 3 folds at m"):
        fold_by_group(make_records(2, 2, 2), seed=0, fold=1, num_folds=4)


def test_one_group_cannot_be_split() -> None:
    with pytest.raises(ValueError, match=r"the 5 images belong to 1 group, .*groups\.csv"):
        split_by_group(make_records(5), seed=0)
    with pytest.raises(ValueError, match=r"train_share is 1\.0"):
        split_by_group(make_records(5, 5), seed=0, train_share=1.0)


def test_the_sorted_split_takes_the_first_and_says_nothing_of_groups() -> None:
    records = make_records(3, 4, 3)
    split = split_sorted(records)
    assert split.train == tuple(r.case_id for r in records[:8])
    assert split.val == ("2_1", "2_2")
    assert leaking_groups(records, split) == ("2",)
    assert sizes(split_sorted(make_records(*[1] * 1220))) == (976, 244, 0)
    # 0.29 * 100 is just below 29 in floating point.
    assert sizes(split_sorted(make_records(100), 0.29)) == (29, 71, 0)
    with pytest.raises(ValueError, match="1 images cannot be split"):
        split_sorted(make_records(1))


def test_a_split_survives_its_file(tmp_path: Path) -> None:
    split = Split(train=("a", "b"), val=("c",), test=("d",))
    (tmp_path / "split.json").write_text(json.dumps(split.to_dict()))
    assert read_split(tmp_path / "split.json") == split
    (tmp_path / "split.json").write_text('{"train": ["a"], "val": ["b"]}')
    assert read_split(tmp_path / "split.json") == Split(train=("a",), val=("b",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('["a"]', 'expected {"train"'),
        ("{}", 'expected {"train"'),
        ('{"train": ["a"], "dev": []}', 'expected {"train"'),
        ('{"train": "a"}', "'train' must be a list"),
        ('{"train": [1]}', "'train' must be a list"),
        ('{"train": ["a", "b"], "val": ["b"]}', "'b' stands in it twice"),
    ],
)
def test_what_is_no_split_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "split.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_split(tmp_path / "split.json")


def test_parts_are_selected_in_the_records_order() -> None:
    records = make_records(4)
    split = Split(train=("0_3", "0_0"), val=("0_1",))
    assert [r.case_id for r in select(records, split, "train")] == ["0_0", "0_3"]
    assert select(records, split, "test") == ()
    assert len(select(records, split, "all")) == 4
    with pytest.raises(ValueError, match="1 cases of the val part are not in the data"):
        select(records[2:], split, "val")
