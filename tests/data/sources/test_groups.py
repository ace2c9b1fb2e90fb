from pathlib import Path

import pytest

from vasculora.data.sources.groups import find_groups, names_a_patient

FRAMES = [
    "Li Si(22)_1_frame_3.jpg",
    "Zhang San(0012345)_3_frame_17.jpg",
    "li  si (22)_2_frame_1.jpg",
]


@pytest.mark.parametrize(
    "name",
    [
        "Zhang San(0012345)_3_frame_17.jpg",
        "张三(0012345)_3_frame_17.jpg",
        "张三\uff080012345\uff09_12_frame_0.png",
        "ZHANG SAN (A-12)_LAO 30_frame_17_mask.png",
        "2024/Zhang San(0012345)/3_frame_17.jpg",
    ],
)
def test_names_of_patients_are_recognised(name: str) -> None:
    assert names_a_patient(name)


@pytest.mark.parametrize(
    "name",
    ["1.png", "Image_01L.jpg", "scan (3).png", "run3_frame_17.jpg", "OCTA(ILM_OPL)/10301.bmp"],
)
def test_other_names_are_not(name: str) -> None:
    assert not names_a_patient(name)


def test_frames_are_grouped_by_patient_however_he_was_typed(tmp_path: Path) -> None:
    groups, note = find_groups(tmp_path, FRAMES)
    assert groups[0] == groups[2] != groups[1]
    assert note == "Groups: 2 patients, from the file names."


def test_without_any_hint_each_image_stands_alone_and_the_user_is_warned(tmp_path: Path) -> None:
    groups, note = find_groups(tmp_path, ["sub/1.png", "2.png"])
    assert groups == ("sub/1", "2")
    assert note.startswith("Warning: every image is its own group.")


def test_a_pattern_is_searched_in_the_name_without_suffix(tmp_path: Path) -> None:
    groups, note = find_groups(tmp_path, ["Image_01L.jpg", "Image_01R.jpg"], regex=r"_(\d+)[LR]$")
    assert groups == ("01", "01")
    assert note == r"Groups: 1, from the pattern '_(\d+)[LR]$'."


@pytest.mark.parametrize(
    ("regex", "message"),
    [
        ("(", "is no regular expression"),
        (r"\d+", "captures nothing"),
        (r"(\d+)L$", "finds no group in '2R'"),
        (r"^(x?)", "finds no group in '1L'"),
        (r"1(L)|2R", "finds no group in '2R'"),
    ],
)
def test_a_pattern_that_misses_is_refused(tmp_path: Path, regex: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_groups(tmp_path, ["1L.png", "2R.png", "3R.png"], regex=regex)


def test_a_table_names_images_with_or_without_suffix(tmp_path: Path) -> None:
    (tmp_path / "groups.csv").write_bytes(
        "\ufeffgroup,image\np1,a.png\n p2 ,sub/b\np2,c\np9,unused\n".encode()
    )
    names = ["a.png", "c.png", "sub/b.png"]
    groups, note = find_groups(tmp_path, names, unused=["unused.png"])
    assert groups == ("p1", "p2", "p2")
    assert note == "Groups: 2, from groups.csv."
    with pytest.raises(ValueError, match="are both given, but only one can count"):
        find_groups(tmp_path, names, regex="(.)")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "its first line must name the columns: image,group"),
        ("a,p1\n", "its first line must name the columns: image,group"),
        ("image,group\na,p1\n", r"leaves out 1 images \(first: b\.png\)"),
        ("image,group\na,p1\nb,\n", "line 3: image or group is empty"),
        ("image,group\na,p1\nb\n", "line 3: image or group is empty"),
        ("image,group\na,p1\nx,p1\n", "line 3: there is no image 'x'"),
        ("image,group\na,p1\na.png,p2\n", r"line 3: 'a\.png' is in two groups"),
    ],
)
def test_a_wrong_table_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "groups.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        find_groups(tmp_path, ["a.png", "b.png"])
