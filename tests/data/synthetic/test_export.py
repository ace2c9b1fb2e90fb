"""A drawn set on disk: reproducible, two-valued, and never written over something else."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vasculora.data.synthetic.export import write_dataset


def _files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_same_seed_writes_the_same_bytes_and_longer_sets_begin_alike(tmp_path: Path) -> None:
    for name, num in [("a", 2), ("b", 2), ("longer", 3)]:
        write_dataset(tmp_path / name, style="xray", num=num, size=64, seed=5)
    write_dataset(tmp_path / "other", style="xray", num=2, size=64, seed=6)
    first = _files(tmp_path / "a")
    assert set(first) == {f"{d}/{n}.png" for d in ("images", "masks") for n in ("0000", "0001")}
    assert first == _files(tmp_path / "b")
    assert first.items() <= _files(tmp_path / "longer").items()
    assert first != _files(tmp_path / "other")


def test_masks_are_two_valued_and_as_large_as_the_images(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set", style="octa", num=1, size=80, seed=0)
    image = np.asarray(Image.open(tmp_path / "set/images/0000.png"))
    mask = np.asarray(Image.open(tmp_path / "set/masks/0000.png"))
    assert image.shape == (80, 80, 3)
    assert mask.shape == (80, 80)
    assert set(np.unique(mask)) == {0, 255}


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not an empty folder"):
        write_dataset(tmp_path, style="xray", num=1, size=64, seed=0)
    assert _files(tmp_path) == {"note.txt": b"mine"}


@pytest.mark.parametrize(
    ("style", "num", "size", "message"),
    [("mri", 1, 64, "unknown style"), ("xray", 0, 64, "num >= 1"), ("xray", 1, 8, "size >= 64")],
)
def test_senseless_wishes_are_refused(
    tmp_path: Path, style: str, num: int, size: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write_dataset(tmp_path / "set", style=style, num=num, size=size, seed=0)
    assert not (tmp_path / "set").exists()
