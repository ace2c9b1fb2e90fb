import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vasculora.data.dataset import load_sample
from vasculora.data.sources import read_source, write_manifest
from vasculora.data.sources.arcade import PHRASES
from vasculora.data.sources.coco import looks_like_coco, read_coco

SQUARE = [1, 1, 4, 1, 4, 4, 1, 4]
# Rows 0 to 1 of the first column of an image of 6 x 8 pixels.
CORNER = {"size": [6, 8], "counts": [0, 2, 46]}
PACKED = {"size": [6, 8], "counts": "02^1"}


def annotation(image_id: int, segmentation: Any, category_id: int = 1, **more: Any) -> Any:
    return {
        "id": more.pop("id", image_id * 100 + category_id),
        "image_id": image_id,
        "category_id": category_id,
        "segmentation": segmentation,
        "iscrowd": 0,
        **more,
    }


def coco(annotations: list[Any], *names: str, categories: tuple[str, ...] = ("vein",)) -> Any:
    # The image's id is not the number in its name.
    images = [{"id": 7 - i, "file_name": name} for i, name in enumerate(names)]
    named = [{"id": i + 1, "name": name} for i, name in enumerate(categories)]
    return {"images": images, "annotations": annotations, "categories": named}


def write(path: Path, value: Any, *images: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    for image in images:
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((6, 8), np.uint8)).save(image)
    return path.parent


def drawn(data: Path) -> dict[str, list[int]]:
    """Return the number of pixels of each case's masks."""
    records = read_source(data).records
    manifest = (data if data.is_dir() else data.parent) / ".again.jsonl"
    write_manifest(manifest, records)
    assert read_source(manifest).records == records
    return {r.case_id: load_sample(r, phrase="x").masks.sum((1, 2)).tolist() for r in records}


def test_annotations_of_one_category_are_one_mask_whatever_their_form(tmp_path: Path) -> None:
    annotations = [
        annotation(7, [SQUARE]),
        annotation(7, CORNER, id=2, iscrowd=1),
        annotation(7, PACKED, id=3),
        annotation(7, [[4, 1, 6, 1, 6, 4, 4, 4]], 2),
        annotation(6, PACKED, id=3),
    ]
    value = coco(annotations, "2.png", "7.png", categories=("vein", "artery"))
    write(tmp_path / "a.json", value, tmp_path / "2.png", tmp_path / "7.png")
    assert drawn(tmp_path) == {"2": [11, 6], "7": [2]}
    catalog = read_source(tmp_path)
    assert catalog.source == "coco"
    assert [t.phrase for t in catalog.records[0].targets] == ["vein", "artery"]
    assert catalog.notes[1:4] == (
        "2 phrases: vein (2 images), artery (1 images).",
        "1 regions of a crowd are part of their category's mask.",
        "1 annotations have the id of another; all of them are used.",
    )
    assert drawn(tmp_path / "a.json") == {"2": [11, 6], "7": [2]}


@pytest.mark.parametrize(
    ("file", "image"),
    [
        ("a.json", "x.png"),
        ("a.json", "images/x.png"),
        ("annotations.json", "images/x.png"),
        ("annotations/train.json", "images/x.png"),
        ("annotations/instances_train2017.json", "train2017/x.png"),
        ("annotations/instances_train2017.json", "images/train2017/x.png"),
        ("annotations/a.json", "annotations/x.png"),
        ("train/annotations/train.json", "train/images/x.png"),
        ("train/_annotations.coco.json", "train/x.png"),
    ],
)
def test_images_are_found_where_people_put_them(tmp_path: Path, file: str, image: str) -> None:
    write(tmp_path / file, coco([annotation(7, [SQUARE])], "x.png"), tmp_path / image)
    assert drawn(tmp_path) == {"x": [9]}


def test_parts_in_files_of_their_own_are_a_split(tmp_path: Path) -> None:
    for part in ("train", "valid", "test"):
        file = tmp_path / part / "annotations" / f"{part}.json"
        write(file, coco([annotation(7, [SQUARE])], "1.png"), tmp_path / part / "images" / "1.png")
    catalog = read_source(tmp_path)
    assert catalog.split is not None
    assert catalog.split.to_dict() == {
        "train": ["train/1"],
        "val": ["valid/1"],
        "test": ["test/1"],
    }
    assert "Split: from the data set's own parts, 1 train, 1 val, 1 test." in catalog.notes
    (tmp_path / "valid" / "annotations" / "valid.json").unlink()
    notes = read_source(tmp_path).notes
    assert any(note.startswith("The data set's own parts hold no val.") for note in notes)


def test_captions_of_the_same_images_are_not_read(tmp_path: Path) -> None:
    value = coco([annotation(7, [SQUARE])], "x.png")
    for name in ("instances_val.json", "person_keypoints_val.json"):
        write(tmp_path / "annotations" / name, value, tmp_path / "val" / "x.png")
    assert drawn(tmp_path) == {"x": [9]}


def test_what_is_not_used_is_said(tmp_path: Path) -> None:
    annotations = [annotation(7, [SQUARE]), annotation(7, [], 2), annotation(6, [SQUARE])]
    value = coco(annotations, "1.png", "2.png", "3.png", categories=("vein", "artery"))
    names = ("1.png", "3.png", "4.png", "._1.png")
    write(tmp_path / "a.json", value, *(tmp_path / "images" / name for name in names))
    listing = read_coco(tmp_path)
    assert [case.file_name for case in listing.cases] == ["1.png"]
    assert listing.unused == {
        "images where a phrase has no outline (only that phrase is left out)": ("1.png",),
        "images that are listed but not there": ("2.png",),
        "images without an annotation": ("3.png",),
        "images that are not listed": ("4.png",),
    }


def test_a_folder_of_the_older_layouts_stays_what_it_was(tmp_path: Path) -> None:
    value = coco([annotation(7, [SQUARE])], "x.png")
    write(tmp_path / "a.json", value, tmp_path / "images" / "x.png", tmp_path / "masks" / "x.png")
    assert read_source(tmp_path).source == "folder"
    (tmp_path / "annotations.json").write_text(
        json.dumps([{"image": "x.png", "mask": [SQUARE], "text": "vein"}])
    )
    assert read_source(tmp_path).source == "sa2va"


def test_a_list_or_other_json_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[{"images": [], "annotations": [], "categories": []}]')
    (tmp_path / "b.json").write_text('{"images": []}')
    assert not looks_like_coco(tmp_path)
    with pytest.raises(ValueError, match=r'b\.json: "categories" must be a list'):
        read_source(tmp_path / "b.json")
    with pytest.raises(FileNotFoundError, match=r"c\.json: no such file"):
        read_source(tmp_path / "c.json")


ONE = coco([annotation(7, [SQUARE])], "x.png")


def changed(key: str, **more: Any) -> Any:
    """Return a good file with the first entry of one list changed."""
    return {**ONE, key: [{**ONE[key][0], **more}, *ONE[key][1:]]}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (json.dumps(ONE)[:-9], r"a\.json: not valid JSON at line 1"),
        ({**ONE, "images": {}}, '"images" must be a list of objects'),
        ({**ONE, "annotations": ["x"]}, '"annotations" must be a list of objects'),
        ({**ONE, "categories": None}, '"categories" must be a list of objects'),
        ({**ONE, "images": ONE["images"] * 2}, "image 1: id 7 is listed twice"),
        ({**ONE, "images": [*ONE["images"], {"id": 1, "file_name": "x.png"}]}, "file 'x.png' is"),
        ({**ONE, "categories": ONE["categories"] * 2}, "category 1: id 1 is listed twice"),
        (changed("images", id=None), '"id" must be a number, got None'),
        (changed("images", id=True), '"id" must be a number, got True'),
        (changed("images", file_name=3), "a file's name must be a text, got 3"),
        (changed("images", file_name=""), "a file's name must be a text"),
        (changed("images", file_name="../x.png"), "must be a path inside the data folder"),
        (changed("images", file_name="a/../../x.png"), "must be a path inside the data folder"),
        (changed("images", file_name="/x.png"), "must be a path inside the data folder"),
        (changed("images", file_name="C:\\x.png"), "must be a path inside the data folder"),
        (changed("categories", name=" "), "category 0: the name of what is annotated must be a"),
        (changed("categories", name=["v"]), "the name of what is annotated must be a text"),
        (changed("categories", name="\udcff"), "is not in UTF-8"),
        (changed("annotations", image_id=1), 'annotation 0: "image_id" is 1, but no such image'),
        (changed("annotations", image_id=[7]), r'"image_id" is \[7\], but no such image'),
        (changed("annotations", category_id="1"), "no such category is listed"),
        (changed("annotations", segmentation="x"), "annotation 0: its mask is a text"),
        (changed("annotations", segmentation=SQUARE), "its mask holds 1 for a ring"),
        (changed("annotations", segmentation=[["1", 2]]), "holds a list for a ring"),
        (changed("annotations", segmentation=[[[1, 1]]]), "holds a list for a ring"),
        (changed("annotations", segmentation=[[1, float("nan"), 3, 3, 4, 4]]), "NaN or infinity"),
        (changed("annotations", segmentation=[[1, 10**400, 3, 3, 4, 4]]), "leaves any image"),
        (changed("annotations", segmentation={"counts": [48]}), "run lengths with size None"),
        (changed("annotations", segmentation={"size": [6.0, 8], "counts": [48]}), "with size"),
        (changed("annotations", segmentation={"size": [6, 8], "counts": [-1, 49]}), "0 at least"),
        (changed("annotations", segmentation={"size": [6, 8], "counts": [1.5]}), "0 at least"),
        (changed("annotations", segmentation={"size": [6, 8]}), "0 at least"),
        (changed("annotations", segmentation=[]), "no image has an outline"),
        (coco([], "x.png"), "no image has an outline"),
    ],
)
def test_what_is_no_coco_is_refused(tmp_path: Path, value: Any, message: str) -> None:
    write(tmp_path / "a.json", value, tmp_path / "x.png")
    with pytest.raises(ValueError, match=message):
        read_source(tmp_path)


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([[-30, 1, 4, 1, 4, 4]], r"x: a polygon reaches from \(-30, 1\)"),
        ([[1, 1, 4, 1]], "x: a polygon has 4 numbers"),
        ({"size": [8, 6], "counts": [0, 48]}, "x: run lengths are for 6x8 but image is 8x6"),
        ({"size": [6, 8], "counts": [0, 47]}, "x: run lengths add up to 47"),
        ({"size": [6, 8], "counts": "0!"}, "x: its run lengths are no compressed text"),
        ({"size": [40000, 40000], "counts": [0, 1600000000]}, "are for 40000x40000 but"),
    ],
)
def test_outlines_that_do_not_fit_are_found_when_the_image_is(
    tmp_path: Path, segmentation: Any, message: str
) -> None:
    write(tmp_path / "a.json", coco([annotation(7, segmentation)], "x.png"), tmp_path / "x.png")
    (record,) = read_source(tmp_path).records
    with pytest.raises(ValueError, match=message):
        load_sample(record, phrase="x")


def test_no_image_at_all_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "a.json", ONE)
    with pytest.raises(FileNotFoundError, match=r"lists 1 images \(first: x\.png\), but none"):
        read_source(tmp_path)


def test_one_image_in_two_files_is_an_error(tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        write(tmp_path / name, ONE, tmp_path / "x.png")
    with pytest.raises(ValueError, match=r"a/x\.png and b/x\.png are the same image"):
        read_source(tmp_path)


def test_segments_of_the_syntax_score_become_phrases(tmp_path: Path) -> None:
    numbers = tuple(key for key in PHRASES if key != "stenosis")
    assert len(numbers) == len(set(PHRASES.values())) - 1 == 25
    annotations = [annotation(7, [SQUARE], 1), annotation(6, [SQUARE], numbers.index("12a") + 1)]
    value = coco(annotations, "1.png", "10.png", categories=(*numbers, "stenosis"))
    images = [tmp_path / "images" / name for name in ("1.png", "10.png")]
    write(tmp_path / "annotations" / "train.json", value, *images)
    catalog = read_source(tmp_path)
    assert catalog.source == "arcade"
    assert [target.phrase for record in catalog.records for target in record.targets] == [
        "proximal right coronary artery (segment 1)",
        "first obtuse marginal branch (segment 12a)",
    ]
    value["categories"] = [{"id": i, "name": str(i)} for i in range(1, 27)]
    write(tmp_path / "annotations" / "train.json", value)
    assert read_source(tmp_path).source == "coco"


@pytest.mark.parametrize(
    ("folder", "num_images", "num_phrases", "percent"),
    # Drawing paints no outline here, so the shares lie a little below those of programs that do.
    [("syntax/train", 150, 24, 2.98), ("syntax/val", 60, 25, 3.34), ("stenosis/test", 12, 1, 0.71)],
)
def test_real_angiograms(
    shared_dir: Path, folder: str, num_images: int, num_phrases: int, percent: float
) -> None:
    catalog = read_source(shared_dir / "data" / "arcade" / folder)
    assert catalog.source == "arcade"
    assert len(catalog.records) == num_images
    many = "s" * (num_phrases > 1)
    assert catalog.notes[1].startswith(f"{num_phrases} phrase{many}: ")
    shares = [load_sample(r, phrase="x").masks.any(0).mean() for r in catalog.records]
    assert 100 * np.mean(shares) == pytest.approx(percent, abs=0.006)
    missing = [note for note in catalog.notes if "listed but not there" in note]
    assert bool(missing) == (folder == "stenosis/test")
    assert all(note.startswith("Not used: 288 images") for note in missing)
