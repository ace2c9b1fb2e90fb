import json
from pathlib import Path

import pytest

from vasculora.core.types import Record, Target
from vasculora.data.splits import (
    Split,
    leaking_groups,
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
