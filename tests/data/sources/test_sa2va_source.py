import json
from pathlib import Path
from typing import Any

import pytest

from vasculora.core.types import Polygon
from vasculora.data.sources.sa2va import looks_like_sa2va, read_sa2va

A = [0, 0, 4, 0, 4, 4]
B = [1, 1, 5, 1, 5, 5]


def write(data_dir: Path, entries: Any, *images: str) -> Path:
    (data_dir / "annotations.json").write_text(json.dumps(entries))
    for name in images:
        (data_dir / name).parent.mkdir(parents=True, exist_ok=True)
        (data_dir / name).touch()
    return data_dir


def entry(mask: Any, *text: str, image: str = "x.jpg") -> dict[str, Any]:
    return {"image": image, "mask": mask, "text": list(text)}


def targets(data_dir: Path) -> dict[str | None, tuple[Polygon, ...] | None]:
    (case,) = read_sa2va(data_dir).cases
    return {target.phrase: target.polygons for target in case.targets}


@pytest.mark.parametrize("mask", [[A, B], [[A, B]], [[A], [B]]])
def test_all_nestings_of_one_phrase_are_one_union(tmp_path: Path, mask: Any) -> None:
    write(tmp_path, [entry(mask, "blood vessel")], "x.jpg")
    assert looks_like_sa2va(tmp_path)
    assert targets(tmp_path) == {"blood vessel": (tuple(map(float, A)), tuple(map(float, B)))}


@pytest.mark.parametrize("mask", [[A, B], [[A], [B]]])
def test_several_phrases_have_a_mask_each(tmp_path: Path, mask: Any) -> None:
    write(tmp_path, [entry(mask, "artery", " vein ")], "x.jpg")
    assert targets(tmp_path) == {
        "artery": (tuple(map(float, A)),),
        "vein": (tuple(map(float, B)),),
    }


def test_a_text_may_be_a_plain_string_or_missing(tmp_path: Path) -> None:
    write(tmp_path, [{"image": "x.jpg", "mask": [A], "text": "artery"}], "x.jpg")
    assert list(targets(tmp_path)) == ["artery"]
    write(tmp_path, [{"image": "x.jpg", "mask": [A]}])
    assert list(targets(tmp_path)) == [None]


def test_entries_of_one_image_are_united_by_phrase_and_it_is_said(tmp_path: Path) -> None:
    entries = [entry([A], "artery"), entry([B], "artery"), entry([B], "vein")]
    write(tmp_path, entries, "x.jpg")
    assert {phrase: len(rings or ()) for phrase, rings in targets(tmp_path).items()} == {
        "artery": 2,
        "vein": 1,
    }
    assert read_sa2va(tmp_path).notes == (
        "3 entries for 1 images: masks of one phrase on one image are united.",
    )


@pytest.mark.parametrize("place", ["x.jpg", "images/x.jpg"])
@pytest.mark.parametrize("name", ["x.jpg", "images/x.jpg", "images\\x.jpg"])
def test_images_lie_beside_it_or_under_images(tmp_path: Path, place: str, name: str) -> None:
    write(tmp_path, [entry([A], "vessel", image=name)], place)
    (case,) = read_sa2va(tmp_path).cases
    assert (case.file_name, case.image_path) == ("x.jpg", tmp_path / place)


def test_what_is_not_trained_on_is_listed(tmp_path: Path) -> None:
    entries = [
        entry([A], "vessel"),
        entry([], "vessel", image="empty1.jpg"),
        entry([[]], "vessel", image="empty2.jpg"),
        entry([[A], []], "artery", "vein", image="half.jpg"),
    ]
    names = ("x.jpg", "empty1.jpg", "empty2.jpg", "half.jpg", "sub/alone.jpg", "._x.jpg")
    write(tmp_path, entries, *(f"images/{name}" for name in names))
    (tmp_path / "masks").mkdir()
    listing = read_sa2va(tmp_path)
    assert [case.file_name for case in listing.cases] == ["x.jpg", "half.jpg"]
    assert list(listing.unused.values()) == [
        ("sub/alone.jpg",),
        ("empty1.jpg", "empty2.jpg"),
        ("half.jpg",),
    ]
    assert listing.notes == (
        "The masks in masks/ are not used, because annotations.json is there.",
    )


def test_missing_images_are_counted_and_the_first_three_named(tmp_path: Path) -> None:
    write(tmp_path, [entry([A], "vessel", image=f"{i}.jpg") for i in range(5)], "3.jpg")
    with pytest.raises(
        FileNotFoundError, match=r"names 4 images .*: 0\.jpg, 1\.jpg, 2\.jpg \.\.\."
    ):
        read_sa2va(tmp_path)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({}, "must be a list with an entry"),
        ([], "must be a list with an entry"),
        (["x.jpg"], "entry 0 is not an annotated image"),
        ([{"image": "x.jpg"}], "entry 0 is not an annotated image"),
        ([entry([A], "v"), entry("no", "v")], "entry 1: its mask holds something else"),
        ([entry([["a", "b"]], "v")], "its mask holds something else"),
        ([entry([[[A]]], "v")], "its mask holds something else"),
        ([entry([A, B, A], "artery", "vein")], "2 phrases but 3 masks"),
        ([entry([A], "")], '"text" must be a list of phrases'),
        ([entry([A], "v", image="../x.jpg")], "must be a path inside the data folder"),
        ([entry([A], "v", image="/x.jpg")], "must be a path inside the data folder"),
        ([entry([], "v")], "all 1 images have empty masks"),
    ],
)
def test_what_is_no_annotation_is_refused(tmp_path: Path, entries: Any, message: str) -> None:
    write(tmp_path, entries, "x.jpg")
    with pytest.raises(ValueError, match=message):
        read_sa2va(tmp_path)
