import os
from pathlib import Path

import pytest

from vasculora.core.io import IMAGE_SUFFIXES
from vasculora.data.sources.catalog import Listing
from vasculora.data.sources.dicom import NO_IMAGES
from vasculora.data.sources.files import ODD
from vasculora.data.sources.pairs import MASK_SUFFIXES, looks_like_pairs, read_pairs


def touch(data_dir: Path, *names: str) -> Path:
    for name in names:
        (data_dir / name).parent.mkdir(parents=True, exist_ok=True)
        (data_dir / name).touch()
    return data_dir


def pairs(listing: Listing, data_dir: Path) -> dict[str, str]:
    found = {}
    for case in listing.cases:
        (target,) = case.targets
        assert target.mask_path is not None
        found[case.file_name] = target.mask_path.relative_to(data_dir).as_posix()
    return found


@pytest.mark.parametrize("suffix", ["", *MASK_SUFFIXES, "_GT"])
def test_two_folders_match_by_stem_and_suffix(tmp_path: Path, suffix: str) -> None:
    touch(tmp_path, "images/a.JPG", "images/b.tif", f"masks/a{suffix}.png", f"masks/b{suffix}.gif")
    assert looks_like_pairs(tmp_path)
    assert pairs(read_pairs(tmp_path), tmp_path) == {
        "a.JPG": f"masks/a{suffix}.png",
        "b.tif": f"masks/b{suffix}.gif",
    }


@pytest.mark.parametrize("suffix", MASK_SUFFIXES)
def test_side_by_side(tmp_path: Path, suffix: str) -> None:
    touch(tmp_path, "1.png", f"1{suffix}.png", "2.jpg", f"2{suffix}.png", "notes.txt")
    assert looks_like_pairs(tmp_path)
    listing = read_pairs(tmp_path)
    assert pairs(listing, tmp_path) == {"1.png": f"1{suffix}.png", "2.jpg": f"2{suffix}.png"}
    assert not any(listing.unused.values())


def test_subfolders_are_mirrored_and_belong_to_the_name(tmp_path: Path) -> None:
    touch(tmp_path, "images/p1/a.png", "images/p2/a.png", "masks/p1/a_gt.png", "masks/p2/a.png")
    listing = read_pairs(tmp_path)
    assert pairs(listing, tmp_path) == {
        "p1/a.png": "masks/p1/a_gt.png",
        "p2/a.png": "masks/p2/a.png",
    }
    assert [case.name for case in listing.cases] == ["p1/a", "p2/a"]


@pytest.mark.parametrize(
    ("names", "second", "fov"),
    [
        (("p/7.png", "p/7_gt.png", "p/7_2ndHO.png", "p/7_fov.gif"), "p/7_2ndHO.png", "p/7_fov.gif"),
        (
            ("p/images/7.png", "p/masks/7.png", "p/second_masks/7.png", "p/fov/7_mask.png"),
            "p/second_masks/7.png",
            "p/fov/7_mask.png",
        ),
        (("p/images/7.png", "p/masks/7.png"), None, None),
    ],
)
def test_what_scores_use_lies_beside_the_mask(
    tmp_path: Path, names: tuple[str, ...], second: str | None, fov: str | None
) -> None:
    touch(tmp_path, *names)
    (case,) = (listing := read_pairs(tmp_path / "p")).cases
    assert case.second_path == (second and tmp_path / second)
    assert case.fov_path == (fov and tmp_path / fov)
    assert not any(listing.unused.values())


def test_a_dot_in_a_name_is_part_of_it(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.1.png", "images/a.2.png", "masks/a.1.png", "masks/a.2_gt.png")
    assert [case.name for case in read_pairs(tmp_path).cases] == ["a.1", "a.2"]


def test_every_image_suffix_is_read(tmp_path: Path) -> None:
    touch(tmp_path, *(f"images/x{i}{s}" for i, s in enumerate(IMAGE_SUFFIXES)))
    touch(tmp_path, *(f"masks/x{i}{s}" for i, s in enumerate(IMAGE_SUFFIXES)))
    assert len(read_pairs(tmp_path).cases) == 9


def test_what_is_left_over_is_listed_and_hidden_files_are_not(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "images/a.png",
        "images/b.png",
        "images/._a.png",
        "images/.cache/c.png",
        "masks/a_1stHO.png",
        "masks/a_2ndHO.png",
        "masks/z.png",
        "fov/z.png",
        "masks/Thumbs.db",
    )
    listing = read_pairs(tmp_path)
    assert pairs(listing, tmp_path) == {"a.png": "masks/a_1stHO.png"}
    assert listing.cases[0].second_path == tmp_path / "masks" / "a_2ndHO.png"
    assert listing.unused == {
        "images without a mask": ("b.png",),
        "masks without an image": ("z.png",),
        "masks of a second observer without a first": (),
        "fields of view without an image and its mask": ("fov/z.png",),
        NO_IMAGES: (),
        ODD: (),
    }


def test_what_is_called_like_an_image_and_is_none_is_listed(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png", "masks/a.png", "masks/b.png")
    (tmp_path / "images" / "b.png").symlink_to("nowhere.png")
    (tmp_path / "images" / "c.png").mkdir()
    (tmp_path / "images" / "loop.png").symlink_to("loop.png")
    os.mkfifo(tmp_path / "masks" / "pipe.png")
    listing = read_pairs(tmp_path)
    assert listing.unused[ODD] == ("b.png", "c.png", "loop.png", "masks/pipe.png")
    assert listing.unused["masks without an image"] == ("b.png",)


def test_folders_elsewhere_are_followed_and_loops_end(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png", "masks/a.png", "masks/p1/b.png", "elsewhere/b.png")
    (tmp_path / "images" / "p1").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "again").symlink_to(tmp_path / "images")
    assert [case.name for case in read_pairs(tmp_path).cases] == ["a", "p1/b"]


def test_two_images_of_one_name_are_an_error(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png", "images/a.jpg", "masks/a.png")
    with pytest.raises(ValueError, match=r"a\.jpg and a\.png have the same name"):
        read_pairs(tmp_path)


def test_two_masks_for_one_image_are_an_error(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png", "masks/a.png", "masks/a_gt.png")
    with pytest.raises(ValueError, match=r"image a has 2 masks: a\.png, a_gt\.png. Keep one"):
        read_pairs(tmp_path)
    (tmp_path / "masks" / "a_gt.png").unlink()
    touch(tmp_path, "masks/a_2ndHO.png", "second_masks/a.png")
    with pytest.raises(
        ValueError, match=r"image a has 2 masks of a second observer: a_2ndHO\.png,"
    ):
        read_pairs(tmp_path)


def test_no_pairs_at_all_are_an_error_that_shows_both_sides(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png", "masks/b.png")
    with pytest.raises(ValueError, match=r"images holds 1 files \(as a\.png\).*_1stHO"):
        read_pairs(tmp_path)


def test_a_folder_of_images_alone_is_no_such_source(tmp_path: Path) -> None:
    assert not looks_like_pairs(touch(tmp_path, "a.png", "b_gt.png"))
