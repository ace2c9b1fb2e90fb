from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vasculora.core.types import Record
from vasculora.data.dataset import load_sample
from vasculora.data.sources import read_source, write_manifest

GREYS = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
MASKS = np.stack([GREYS > 100, GREYS > 200, GREYS < 30])
STACK = np.stack([GREYS, GREYS[::-1], GREYS // 2])


def save(path: Path, **arrays: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)
    return path


def read(data: Path) -> dict[str, tuple[str, int, int]]:
    """Return group, brightest grey and size of the mask of each case, also by way of a manifest."""
    catalog = read_source(data)
    assert catalog.source == "npz"
    manifest = (data if data.is_dir() else data.parent) / "again.jsonl"
    write_manifest(manifest, catalog.records, catalog.split)
    assert read_source(manifest).records == catalog.records
    manifest.unlink()
    return {record.case_id: facts(record) for record in catalog.records}


def facts(record: Record) -> tuple[str, int, int]:
    sample = load_sample(record, phrase="blood vessel")
    return record.group, int(sample.image.max()), int(sample.masks.sum())


def test_a_folder_of_one_archive_a_case(tmp_path: Path) -> None:
    save(tmp_path / "CT_a.npz", imgs=GREYS, gts=MASKS[0], spacing=[1.0, 1.0])
    save(tmp_path / "sub" / "b.npz", imgs=GREYS // 2, gts=MASKS[1].astype(np.uint8))
    save(tmp_path / "c.npz", imgs=GREYS)
    assert read(tmp_path) == {"CT_a": ("CT_a", 235, 27), "sub/b": ("sub/b", 117, 7)}
    notes = read_source(tmp_path).notes
    assert "Not used: 1 archives without an image and a mask: c" in notes


def test_frames_of_an_archive_among_others_are_one_patients(tmp_path: Path) -> None:
    save(tmp_path / "p1.npz", imgs=STACK, gts=MASKS)
    save(tmp_path / "p2.npz", imgs=GREYS, gts=MASKS[2])
    assert read(tmp_path) == {
        "p1_f000": ("p1", 235, 27),
        "p1_f001": ("p1", 235, 7),
        "p1_f002": ("p1", 117, 6),
        "p2": ("p2", 235, 6),
    }


def test_one_archive_of_everything(tmp_path: Path) -> None:
    path = save(tmp_path / "all.npz", images=STACK, masks=MASKS)
    assert [case[0] for case in read(path).values()] == ["all_f000", "all_f001", "all_f002"]
    assert read_source(path).notes[-1].startswith("Warning: every image is its own group.")
    assert read(tmp_path) == read(path)
    save(path, images=STACK, masks=MASKS, groups=np.array(["x", "y", "x"]))
    assert [case[0] for case in read(path).values()] == ["x", "y", "x"]
    assert read_source(path).notes[-1] == "Groups: 2, one an archive, or as its groups say."


def test_two_arrays_with_a_phrase_of_ones_own(tmp_path: Path) -> None:
    save(tmp_path / "a.npz", image=STACK, mask=MASKS)
    line = '{"image": "a.npz", "frame": %d, "phrase": "vein", "mask": "a.npz"}\n'
    manifest = tmp_path / "set.jsonl"
    manifest.write_text(line % 0 + line % 2)
    records = read_source(manifest).records
    assert [facts(record)[2] for record in records] == [27, 6]
    assert [record.targets[0].phrase for record in records] == ["vein", "vein"]


def test_no_archive_with_both_is_an_error(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", image=GREYS)
    for data in (tmp_path, path):
        with pytest.raises(ValueError, match=r"no archive holds an image with a mask\. Name"):
            read_source(data)
