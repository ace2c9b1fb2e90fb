import math
from pathlib import Path

import pytest

from vasculora.core.types import Record, RunLengths, Target
from vasculora.data.packed import PackedRecords

TARGETS = (
    Target(phrase="artery", polygons=((0.1, 1 / 3, 5.0, math.pi, 9.0, 2e-9),)),
    Target(runs=(RunLengths(size=(3, 4), counts=(5, 7)), RunLengths(size=(3, 4), counts="PPYo0"))),
    Target(phrase="静脉", absent=True),
)


def record(name, targets=TARGETS):
    return Record(case_id=name, group="g", image_path=Path("images", name), targets=targets)


def test_records_come_back_as_they_were():
    # a name in no UTF-8 reaches Python with lone surrogates
    records = [record("a"), record("b\udce9", TARGETS[:1]), record("c", (Target(),))]
    packed = PackedRecords(records)
    assert list(packed) == records
    assert (packed[1], packed[-1], len(packed)) == (records[1], records[2], 3)
    with pytest.raises(IndexError):
        packed[3]
    assert list(PackedRecords([])) == []


def test_a_record_takes_a_third_of_a_kilobyte():
    mask = (Target(mask_path=Path("/data/set/masks/000000.png")),)
    packed = PackedRecords(record(f"{i:06}", mask) for i in range(100))
    assert packed.num_bytes < 100 * 350
