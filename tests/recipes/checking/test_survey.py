"""What is kept of each case, and what is called a fault."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from vasculora.core.io import write_image
from vasculora.core.report import Silent
from vasculora.core.types import Record, Target
from vasculora.data.leaks import Pair
from vasculora.recipes.checking.faults import find_faults
from vasculora.recipes.checking.survey import Survey, survey


def record(path, name, mask, *, fov=None, annotated=True):
    pixels = np.random.default_rng(len(name)).integers(0, 99, mask.shape).astype(np.uint8)
    write_image(path / f"{name}.png", pixels)
    write_image(path / f"{name}_mask.png", mask.astype(np.uint8) * 255)
    targets = (Target(mask_path=path / f"{name}_mask.png"),) if annotated else ()
    return Record(
        case_id=name, group=name, image_path=path / f"{name}.png", targets=targets, fov_path=fov
    )


def look(records):
    return survey(records, phrase="vessel", allow_empty=False, report=Silent())


def bar(width, side=40):
    mask = np.zeros((side, side), dtype=bool)
    mask[10 : 10 + width] = True
    return mask


def test_widths_are_counted_over_all_centrelines(tmp_path):
    found = look([record(tmp_path, "a", bar(3)), record(tmp_path, "bb", bar(5))])
    assert found.width_percentiles(5, 95) == (3.0, 5.0)
    assert [case.masks[0].width for case in found.cases] == [3.0, 5.0]
    assert [case.foreground for case in found.cases] == [3 / 40, 5 / 40]
    assert Survey(widths=Counter({8: 3, 12: 1})).width_percentiles(50, 75, 76, 100) == (2, 2, 3, 3)
    assert Survey().width_percentiles(50) == (0.0,)


def test_an_image_without_annotation_is_counted_and_no_fault(tmp_path):
    found = look([record(tmp_path, "a", bar(3), annotated=False)])
    assert (found.cases[0].masks, found.cases[0].foreground) == ((), 0.0)
    assert find_faults(found, [], {}, leaks="error") == []


def test_a_field_of_view_must_fit(tmp_path):
    write_image(tmp_path / "fov.png", np.full((40, 39), 255, dtype=np.uint8))
    write_image(tmp_path / "dark.png", np.zeros((40, 40), dtype=np.uint8))
    found = look(
        [
            record(tmp_path, "a", bar(3), fov=tmp_path / "fov.png"),
            record(tmp_path, "bb", bar(3), fov=tmp_path / "dark.png"),
        ]
    )
    assert "field of view is 39x40 but image is 40x40" in found.unusable["a"]
    assert "its field of view is empty" in found.unusable["bb"]


def test_what_scores_use_is_measured(tmp_path):
    # Of rows 10 to 13 the second observer saw 10 and 11; only the upper half of the image counts.
    write_image(
        tmp_path / "half.png",
        np.repeat([[255], [0]], 20, axis=0).repeat(40, axis=1).astype(np.uint8),
    )
    write_image(tmp_path / "second.png", bar(2).astype(np.uint8) * 255)
    known = {"second_path": tmp_path / "second.png", "spacing": (0.2, 0.3)}
    case = replace(record(tmp_path, "a", bar(4), fov=tmp_path / "half.png"), **known)
    first, second = look([case, record(tmp_path, "bb", bar(4))]).cases
    assert (first.fov_share, first.spacing) == (0.5, (0.2, 0.3))
    assert first.agreement == pytest.approx(2 * 2 / (2 + 4))
    assert (second.fov_share, second.agreement, second.spacing) == (None, None, None)


def test_an_inverted_mask_is_an_error_and_a_large_one_a_warning(tmp_path):
    half = np.zeros((40, 40), dtype=bool)
    half[:24] = True
    found = look([record(tmp_path, "a", ~bar(3)), record(tmp_path, "bb", half)])
    faults = find_faults(found, [], {}, leaks="error")
    assert [(one.level, one.kind, one.cases) for one in faults] == [
        ("error", "inverted", ("a",)),
        ("warning", "large", ("bb",)),
    ]


@pytest.mark.parametrize("level", ["error", "warning"])
def test_alike_images_leak_across_parts_and_are_told_across_groups(tmp_path, level):
    found = look([record(tmp_path, name * k, bar(3)) for k, name in enumerate("abc", 1)])
    pairs = [
        Pair(a="a", b="bb", correlation=0.9),
        Pair(a="bb", b="ccc", correlation=0.8),
    ]
    parts = {"a": "train", "bb": "val", "ccc": "val"}
    faults = find_faults(found, pairs, parts, leaks=level)
    assert [(one.level, one.kind, one.cases) for one in faults] == [
        (level, "leak", ("a", "bb")),
        ("warning", "near_duplicate", ("bb", "ccc")),
    ]
    assert "a (train) and bb (val)" in faults[0].text


def test_a_mask_that_was_only_begun_is_told(tmp_path):
    found = look([record(tmp_path, "a" * k, bar(4)) for k in range(1, 5)])
    begun = replace(found.cases[0].masks[0], foreground=0.001)
    found.cases[0] = replace(found.cases[0], masks=(begun,))
    faults = find_faults(found, [], {}, leaks="error")
    assert [(one.kind, one.cases) for one in faults] == [("sparse", ("a",))]
