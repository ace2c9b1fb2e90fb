import csv
import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from vasculora.core.types import Record
from vasculora.data.sources import read_source, write_manifest, write_private_names
from vasculora.data.splits import Split, leaking_groups, split_by_group

FRAMES = (
    "Li Si(22)_1_frame_3",
    "Li Si(22)_2_frame_1",
    "Zhang San(0012345)_3_frame_17",
    "Zhang San(0012345)_3_frame_2",
)


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config"


def make_folder(data_dir: Path, *names: str) -> Path:
    for name in names:
        for file in (f"images/{name}.jpg", f"masks/{name}.png"):
            (data_dir / file).parent.mkdir(parents=True, exist_ok=True)
            (data_dir / file).touch()
    return data_dir


def make_sa2va(data_dir: Path, *names: str) -> Path:
    data_dir.mkdir()
    entries = [
        {"image": f"{name}.jpg", "mask": [[0, 0, 4, 0, 4, 4]], "text": ["blood vessel"]}
        for name in names
    ]
    (data_dir / "annotations.json").write_text(json.dumps(entries))
    for name in names:
        (data_dir / f"{name}.jpg").touch()
    return data_dir


def ids(records: tuple[Record, ...]) -> list[str]:
    return [record.case_id for record in records]


def test_a_plain_folder_keeps_its_names_and_makes_no_key(tmp_path: Path, config: Path) -> None:
    catalog = read_source(make_folder(tmp_path / "data", "b", "sub/a", "a", "a_1"))
    assert catalog.source == "folder"
    # By file name as a file listing has it: `a.jpg` before `a_1.jpg`.
    assert ids(catalog.records) == ["a", "a_1", "b", "sub/a"]
    assert catalog.notes[0] == "Data: 4 annotated images in layout 'folder'."
    assert catalog.notes[-1].startswith("Warning: every image is its own group.")
    assert catalog.private_names == {}
    assert catalog.split is None
    assert not config.exists()


@pytest.mark.parametrize("make", [make_folder, make_sa2va])
def test_patients_names_leave_as_pseudonyms(tmp_path: Path, make: Callable[..., Path]) -> None:
    data_dir = make(tmp_path / "data", *FRAMES)
    (data_dir / ("images" if make is make_folder else "") / "Wang Wu(7)_1_frame_1.jpg").touch()
    catalog = read_source(data_dir)
    written = [*ids(catalog.records), *(r.group for r in catalog.records), *catalog.notes]
    assert not any(name in text for name in ("Li", "Zhang", "Wang", "0012345") for text in written)
    assert [record.image_path.stem for record in catalog.records] == list(FRAMES)
    groups = [record.group for record in catalog.records]
    assert groups[0] == groups[1] != groups[2] == groups[3]
    assert all(group.startswith("group_") for group in groups)
    own = {record.case_id: record.image_path.stem for record in catalog.records}
    (unused,) = set(catalog.private_names) - set(own)
    assert catalog.private_names[unused] == "Wang Wu(7)_1_frame_1"
    assert {case_id: catalog.private_names[case_id] for case_id in own} == own
    assert any(unused in note for note in catalog.notes)
    assert read_source(data_dir) == catalog
    write_manifest(tmp_path / "set.jsonl", catalog.records, keep_names=True)
    assert read_source(tmp_path / "set.jsonl").records == catalog.records


def test_one_patients_name_hides_all_names(tmp_path: Path) -> None:
    catalog = read_source(make_folder(tmp_path / "data", FRAMES[0], "Li Si(22)-typo", "other"))
    assert all(case_id.startswith("case_") for case_id in ids(catalog.records))
    by_name = {catalog.private_names[r.case_id]: r.group for r in catalog.records}
    assert by_name[FRAMES[0]] == by_name["Li Si(22)-typo"] != by_name["other"]


def test_groups_of_patients_from_a_table_or_a_pattern_are_hidden_too(tmp_path: Path) -> None:
    data_dir = make_folder(tmp_path / "data", *FRAMES)
    catalog = read_source(data_dir, group_regex=r"^(.*?)\(")
    assert all(record.group.startswith("group_") for record in catalog.records)
    (data_dir / "groups.csv").write_text("image,group\n" + "".join(f"{n},Li\n" for n in FRAMES))
    (group,) = {record.group for record in read_source(data_dir).records}
    assert group.startswith("group_")


def test_a_split_does_not_depend_on_the_key(tmp_path: Path, config: Path) -> None:
    names = [f"P{i % 7}({i % 7})_1_frame_{i}" for i in range(40)]
    data_dir = make_folder(tmp_path / "data", *names)
    sides = []
    for _ in range(2):
        catalog = read_source(data_dir)
        split = split_by_group(catalog.records, seed=0)
        assert leaking_groups(catalog.records, split) == ()
        sides.append({catalog.private_names[case_id] for case_id in split.train})
        (config / "vasculora" / "pseudonym.key").unlink()
    assert sides[0] == sides[1]


def test_own_groups_are_kept_as_they_are_where_names_are_no_secret(tmp_path: Path) -> None:
    data_dir = make_folder(tmp_path / "data", "01L", "01R", "02L")
    catalog = read_source(data_dir, group_regex=r"^(\d+)")
    assert [record.group for record in catalog.records] == ["01", "01", "02"]
    assert catalog.notes[-1] == r"Groups: 2, from the pattern '^(\d+)'."


def test_a_split_in_the_folder_is_taken_along_under_any_of_its_names(tmp_path: Path) -> None:
    data_dir = make_folder(tmp_path / "data", *FRAMES)
    case_ids = ids(read_source(data_dir).records)
    split = {"train": [FRAMES[0]], "val": [FRAMES[1] + ".jpg"], "test": [case_ids[2]]}
    (data_dir / "split.json").write_text(json.dumps(split))
    catalog = read_source(data_dir)
    assert catalog.split == Split(train=(case_ids[0],), val=(case_ids[1],), test=(case_ids[2],))
    group = catalog.records[0].group
    assert catalog.notes[-3:] == (
        "Split: from split.json, 1 train, 1 val, 1 test.",
        "Not used: 1 images that split.json does not name.",
        f"Warning: split.json divides 1 groups (first: {group}), "
        "so scores look better than they are.",
    )


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ({"train": ["a", "x", "y"], "val": []}, r"2 of its cases are not among .* \(first: x\)"),
        ({"train": ["a"], "val": ["a"]}, "'a' stands in it twice"),
        ({"train": ["a"], "val": ["a.jpg"]}, "twice under two names"),
    ],
)
def test_a_wrong_split_is_refused(tmp_path: Path, split: object, message: str) -> None:
    data_dir = make_folder(tmp_path / "data", "a", "b")
    (data_dir / "split.json").write_text(json.dumps(split))
    with pytest.raises(ValueError, match=message):
        read_source(data_dir)


def test_what_is_not_used_is_said_with_ten_names_at_most(tmp_path: Path) -> None:
    data_dir = make_folder(tmp_path / "data", "a")
    for i in range(12):
        (data_dir / "images" / f"b{i:02}.png").touch()
    assert read_source(data_dir).notes[1] == (
        "Not used: 12 images without a mask: " + ", ".join(f"b{i:02}" for i in range(10)) + " ..."
    )


def test_images_that_differ_in_the_suffix_only_cannot_be_told_apart(tmp_path: Path) -> None:
    data_dir = make_sa2va(tmp_path / "data", "a")
    path = data_dir / "annotations.json"
    (entry,) = json.loads(path.read_text())
    path.write_text(json.dumps([entry, {**entry, "image": "a.png"}]))
    (data_dir / "a.png").touch()
    with pytest.raises(ValueError, match=r"a\.jpg and a\.png have the same name"):
        read_source(data_dir)


def test_an_unknown_arrangement_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        read_source(tmp_path / "nowhere")
    (tmp_path / "data" / "pictures").mkdir(parents=True)
    (tmp_path / "data" / "a.png").touch()
    with pytest.raises(FileNotFoundError, match="is a file, not a folder"):
        read_source(tmp_path / "data" / "a.png")
    with pytest.raises(
        FileNotFoundError,
        match=r"'sa2va': annotations\.json .*'folder': images/ and .*Found a\.png, pictures/\.",
    ):
        read_source(tmp_path / "data")


def test_the_folder_is_never_written_to(tmp_path: Path) -> None:
    data_dir = make_folder(tmp_path / "data", *FRAMES)
    before = sorted(data_dir.rglob("*"))
    read_source(data_dir)
    assert sorted(data_dir.rglob("*")) == before


def test_the_table_of_private_names_is_its_owners(tmp_path: Path) -> None:
    path = tmp_path / "run" / "cases_private.csv"
    write_private_names(path, {"case_2": 'Li, "Si"(1)', "case_1": "张三(2)"})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with path.open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [
            ["case_id", "name"],
            ["case_1", "张三(2)"],
            ["case_2", 'Li, "Si"(1)'],
        ]


def test_real_images_beside_their_masks(shared_dir: Path) -> None:
    catalog = read_source(shared_dir / "data" / "cimat_angios")
    assert catalog.source == "folder"
    assert sorted(ids(catalog.records), key=int) == [str(i) for i in range(1, 41)]


def test_real_images_with_two_observers_and_a_pattern(shared_dir: Path) -> None:
    catalog = read_source(shared_dir / "data" / "chase_db1" / "CHASEDB1", group_regex=r"_(\d+)[LR]")
    assert len(catalog.records) == 28
    assert sorted({record.group for record in catalog.records}) == [f"{i:02}" for i in range(1, 15)]
    assert catalog.notes[1] == "For scoring: a second observer's mask (28 of 28 images)."


def test_real_images_and_masks_in_two_folders(shared_dir: Path, tmp_path: Path) -> None:
    octa = shared_dir / "data" / "octa500_3m" / "OCTA-500" / "Training"
    (tmp_path / "images").symlink_to(octa / "OCTA500_3M_train_images")
    (tmp_path / "masks").symlink_to(octa / "OCTA500_3M_train_labels")
    catalog = read_source(tmp_path)
    assert len(catalog.records) == 60
    assert catalog.records[0].case_id == "10301"
    assert not any(note.startswith("Not used") for note in catalog.notes)
