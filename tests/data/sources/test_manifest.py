import json
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vasculora.core.types import Record, RunLengths, Target
from vasculora.data.dataset import load_sample
from vasculora.data.sources import read_source, write_manifest
from vasculora.data.splits import Split

RING = [1.0, 1.0, 4.0, 1.0, 4.0, 4.0, 1.0, 4.0]
CORNER = {"size": [6, 8], "counts": [0, 2, 46]}
PATIENT = "Zhang San(0012345)_3_frame_17"


def save(data: Path, *names: str) -> None:
    for name in names:
        path = data / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.zeros((6, 8), np.uint8)
        pixels[:, 0] = 255
        Image.fromarray(pixels).save(path)


def write(path: Path, *lines: Any) -> Path:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(texts) + "\n")
    return path


def pixels(record: Record) -> dict[str, int]:
    sample = load_sample(record, phrase="own", allow_empty=False)
    return dict(zip(sample.phrases, sample.masks.sum((1, 2)).tolist(), strict=True))


def test_a_line_is_a_target_and_lines_of_an_image_belong_together(tmp_path: Path) -> None:
    save(tmp_path, "b.png", "sub/a.png", "m.png", "f.png")
    common = {"image": "b.png", "group": "p1", "fov": "f.png", "split": "train"}
    path = write(
        tmp_path / "set.jsonl",
        common | {"phrase": "artery", "mask": [RING]},
        {"image": "sub/a.png", "mask": str(tmp_path / "m.png"), "group": "p2", "split": "val"},
        "",
        common | {"phrase": " 血管 ", "mask": CORNER},
        common | {"phrase": "both", "mask": [RING, CORNER]},
        common | {"phrase": "catheter", "mask": None},
    )
    catalog = read_source(path)
    assert catalog.source == "manifest"
    first, second = catalog.records
    assert (first.case_id, second.case_id) == ("b", "sub/a")
    assert pixels(first) == {"artery": 9, "血管": 2, "both": 11, "catheter": 0}
    assert pixels(second) == {"own": 6}
    assert (first.group, first.fov_path) == ("p1", tmp_path / "f.png")
    assert catalog.split == Split(train=("b",), val=("sub/a",))
    assert "Groups: 2, from the manifest." in catalog.notes


def test_without_groups_and_parts_it_is_like_a_folder(tmp_path: Path) -> None:
    save(tmp_path, "p1_a.png", "p1_b.png")
    lines = [{"image": name, "mask": [RING]} for name in ("p1_b.png", "p1_a.png")]
    path = write(tmp_path / "set.jsonl", *lines)
    catalog = read_source(path, group_regex="^(p.)")
    # The order of the file is meant.
    assert [(r.case_id, r.group) for r in catalog.records] == [("p1_b", "p1"), ("p1_a", "p1")]
    assert catalog.split is None
    assert read_source(path).notes[-1].startswith("Warning: every image is its own group.")


def test_absolute_paths_give_short_names(tmp_path: Path) -> None:
    save(tmp_path, "data/x/1.png", "data/y/1.png")
    lines = [{"image": str(tmp_path / f"data/{d}/1.png"), "mask": [RING]} for d in "xy"]
    catalog = read_source(write(tmp_path / "lists" / "set.jsonl", *lines))
    assert [record.case_id for record in catalog.records] == ["x/1", "y/1"]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    save(tmp_path, "data/1.png", "data/2.v2.png", "m.png", "f.png", "s.png")
    runs = (RunLengths(size=(6, 8), counts=(0, 2, 46)), RunLengths(size=(6, 8), counts="02^1"))
    targets = (
        Target(phrase="artery", polygons=(tuple(RING), tuple(np.add(RING, 0.1).tolist()))),
        Target(phrase="vein", runs=runs),
        Target(phrase="one", runs=runs[1:]),
        Target(phrase="both", polygons=(tuple(RING),), runs=runs[:1]),
        Target(phrase="catheter", absent=True),
        Target(mask_path=tmp_path / "m.png"),
    )
    records = (
        Record(
            case_id="part/z",
            group="g 1",
            image_path=tmp_path / "data" / "1.png",
            targets=targets,
            fov_path=tmp_path / "f.png",
        ),
        Record(
            case_id="a.b",
            group="g2",
            image_path=tmp_path / "data" / "2.v2.png",
            targets=targets[-1:],
            second_path=tmp_path / "s.png",
            spacing=(0.25, 0.2),
        ),
    )
    split = Split(train=("part/z",), val=("a.b",))
    for path in (tmp_path / "set.jsonl", tmp_path / "elsewhere" / "set.jsonl"):
        write_manifest(path, records, split)
        catalog = read_source(path)
        assert catalog.records == records
        assert catalog.split == split
    assert len((tmp_path / "set.jsonl").read_text().splitlines()) == 7
    assert str(tmp_path) not in (tmp_path / "set.jsonl").read_text()


def test_names_of_patients_are_written_only_when_asked_for(tmp_path: Path) -> None:
    save(tmp_path, f"data/images/{PATIENT}.png", f"data/masks/{PATIENT}.png")
    catalog = read_source(tmp_path / "data")
    path = tmp_path / "set.jsonl"
    with pytest.raises(ValueError, match="are names of patients, and a manifest lists them"):
        write_manifest(path, catalog.records)
    assert not path.exists()
    write_manifest(path, catalog.records, keep_names=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_source(path).records == catalog.records


def test_a_second_mask_can_name_a_patient(tmp_path: Path) -> None:
    record = Record(
        case_id="1",
        group="1",
        image_path=tmp_path / "1.png",
        targets=(Target(absent=True),),
        second_path=tmp_path / f"{PATIENT}.png",
    )
    with pytest.raises(ValueError, match="are names of patients"):
        write_manifest(tmp_path / "set.jsonl", [record])


def test_a_mask_or_a_field_of_view_can_name_a_patient_too(tmp_path: Path) -> None:
    for target, fov in (
        (Target(mask_path=tmp_path / f"{PATIENT}.png"), None),
        (Target(absent=True), tmp_path / PATIENT / "3_frame_1.png"),
        (Target(absent=True), tmp_path / "Li(7)" / "3_frame_1.png"),
    ):
        record = Record(
            case_id="1", group="1", image_path=tmp_path / "1.png", targets=(target,), fov_path=fov
        )
        with pytest.raises(ValueError, match="are names of patients"):
            write_manifest(tmp_path / "set.jsonl", [record])


def test_patients_in_a_manifest_of_ones_own_get_pseudonyms(tmp_path: Path) -> None:
    save(tmp_path, f"{PATIENT}.png", "other.png")
    lines = [{"image": name, "mask": [RING]} for name in (f"{PATIENT}.png", "other.png")]
    catalog = read_source(write(tmp_path / "set.jsonl", *lines))
    assert all(record.case_id.startswith("case_") for record in catalog.records)


GOOD = {"image": "x.png", "mask": [RING]}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], r"set\.jsonl: lists no image"),
        (["{"], "line 1: not valid JSON at column 2"),
        (["[" * 100_000], "line 1: no JSON that can be read"),
        ([GOOD, "[1]"], "line 2: names no image"),
        (["\ufeff3"], "line 1: names no image"),
        ([{"mask": [RING]}], "line 1: names no image"),
        ([GOOD | {"imgae": 3}], "unknown key 'imgae'. Known: case, image, frame, phrase"),
        ([GOOD | {"image": 3}], "a file's name must be a text, got 3"),
        ([GOOD | {"image": "../x.png"}], "must be a path inside the data folder"),
        ([GOOD | {"mask": "../m.png"}], "must be a path inside the data folder"),
        ([GOOD | {"fov": "a/../../m.png"}], "must be a path inside the data folder"),
        ([GOOD | {"mask": "/x\0.png"}], "a file's name must be a text"),
        ([GOOD | {"mask": 3}], "line 1: its mask is 3"),
        ([GOOD | {"mask": []}], "line 1: its mask is empty. Write null"),
        ([GOOD | {"mask": [[]]}], "line 1: its mask is empty. Write null"),
        ([GOOD | {"mask": RING}], r"line 1: its mask holds 1\.0 for a ring"),
        ([GOOD | {"mask": [[1, float("nan"), 3, 3, 4, 4]]}], "line 1: a ring holds NaN"),
        ([GOOD | {"mask": {"size": [6, 8]}}], 'line 1: the "counts" of run lengths'),
        ([GOOD | {"mask": {"counts": [48]}}], "line 1: run lengths with size None"),
        ([GOOD | {"phrase": " "}], "line 1: the name of what is annotated must be a text"),
        ([GOOD | {"phrase": ["artery"]}], "line 1: the name of what is annotated must be a text"),
        ([GOOD | {"phrase": "\udcff"}], "is not in UTF-8"),
        ([GOOD | {"group": 7}], "'group' must be a text, got 7. Put it in quotes"),
        ([GOOD | {"group": ""}], "'group' must be a text"),
        ([GOOD | {"split": "valid"}], "unknown split 'valid'. Known: train, val, test"),
        ([GOOD | {"split": ["val"]}], r"unknown split \['val'\]"),
        ([GOOD | {"case": "../x"}], "must be a path inside the data folder"),
        ([GOOD | {"second_mask": "../m.png"}], "must be a path inside the data folder"),
        ([GOOD | {"second_mask": [RING]}], "a file's name must be a text, got"),
        (
            [GOOD | {"second_mask": "y.png", "phrase": phrase} for phrase in ("a", "b")],
            r"a second_mask for image 'x\.png', which has 2 masks, and it stands beside one",
        ),
        ([{"image": "x.png", "second_mask": "y.png"}], r"image 'x\.png', which has 0 masks"),
        ([GOOD | {"spacing": 0.2}], r"'spacing' must be two numbers of millimetres .*got 0\.2\."),
        (
            [GOOD | {"spacing": [0.2, 0]}],
            r"two numbers of .* from 0\.0005 to 10, .*got \[0\.2, 0\]",
        ),
        ([GOOD | {"spacing": [0.2, float("nan")]}], "'spacing' must be two numbers"),
        ([GOOD | {"spacing": [0.2, 10**400]}], "'spacing' must be two numbers"),
        ([GOOD | {"spacing": ["0.2", "0.2"]}], "'spacing' must be two numbers"),
        ([GOOD | {"spacing": [0.2] * 3}], "'spacing' must be two numbers"),
        ([GOOD, GOOD], "line 2: a second mask with no phrase for image 'x.png'"),
        ([GOOD | {"phrase": "a"}, GOOD | {"phrase": "a "}], "line 2: a second mask with 'a'"),
        (
            [GOOD | {"group": "p", "phrase": "a"}, GOOD],
            "line 2: 'group' is None, but 'p' for the same image in .*line 1",
        ),
        ([GOOD | {"group": "p"}, GOOD | {"image": "y.png"}], r"1 of 2 images have no group .*: y"),
        ([GOOD | {"case": "y"}, GOOD | {"image": "y.png"}], "are both case 'y'"),
    ],
)
def test_a_wrong_line_is_refused_with_its_number(
    tmp_path: Path, lines: list[Any], message: str
) -> None:
    save(tmp_path, "x.png", "y.png")
    with pytest.raises(ValueError, match=message):
        read_source(write(tmp_path / "set.jsonl", *lines))


def test_another_encoding_is_refused(tmp_path: Path) -> None:
    save(tmp_path, "x.png")
    path = tmp_path / "set.jsonl"
    line = '{"image": "x.png", "phrase": "血管", "mask": null}'
    path.write_bytes(line.encode("gbk"))
    with pytest.raises(ValueError, match="line 1: the name of what is annotated is not in UTF-8"):
        read_source(path)
    path.write_bytes(line.encode("utf-16"))
    with pytest.raises(ValueError, match=r"is in UTF-16\. Save it as UTF-8"):
        read_source(path)


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    lines = [{"image": f"{i}.png", "mask": "m.png", "phrase": "a"} for i in range(3)]
    with pytest.raises(FileNotFoundError, match=r"names 6 files that are not there: .*m\.png"):
        read_source(write(tmp_path / "set.jsonl", *lines))
    with pytest.raises(FileNotFoundError, match=r"gone\.jsonl: no such file"):
        read_source(tmp_path / "gone.jsonl")


def test_a_manifest_has_its_suffix(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Call it NAME\.jsonl"):
        write_manifest(tmp_path / "set.json", [])
    assert not (tmp_path / "set.json").exists()


@pytest.mark.parametrize(
    "folder",
    ["chase_db1", "cimat_angios", "octa500_3m/OCTA-500", "arcade/syntax", "arcade/stenosis/test"],
)
def test_real_sets_survive_it(shared_dir: Path, tmp_path: Path, folder: str) -> None:
    catalog = read_source(shared_dir / "data" / folder)
    write_manifest(tmp_path / "set.jsonl", catalog.records, catalog.split)
    again = read_source(tmp_path / "set.jsonl")
    assert again.records == catalog.records
    assert again.split == catalog.split
