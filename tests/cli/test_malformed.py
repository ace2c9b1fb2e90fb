"""Data as bad as it comes: what the lists, tables and places of a set can be, given to the program.

One message each, with the file and the cure. Rows of `IMPORT` are refused; rows of `TOLD` are no
fault, but nothing is left out in silence.
"""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from tests.cli import malformed as bad
from tests.cli import telling

DEEP = "[" * 100_000 + "]" * 100_000
LONG = "9" * 5000
NAN = float("nan")
RING = bad.RING
AGAIN = "Export the annotation again"
NO_DICOM = "cannot be read as DICOM (no element of DICOM in it). Open it in a DICOM viewer"

IMPORT = {
    "nothing there": (bad.given("gone", lambda _: None), "gone: no such folder", "Give"),
    "a picture": (bad.given("x.png", lambda p: bad.put(p, bad.GREYS)), "x.png: is a file", "Give"),
    "a loop": (bad.given("loop", bad.loop), "loop: ", "Give"),
    "a pipe": (bad.given("x.jsonl", bad.pipe), "x.jsonl: is a pipe", "Put the file there"),
    "a broken list": (bad.given("x.json", bad.link("y")), "is a link to a file that is", "Fetch"),
    "an empty folder": (bad.nothing, "no data set recognised", "Found nothing. Arrange"),
    "other files": (bad.only("a.txt", "b.png"), "Found a.txt, b.png. Arrange the images"),
    "images without masks": (bad.only("images/a.png"), "images/ and no masks/", "Draw masks/NAME"),
    "two sets": (bad.two_sets, "holds 2 data sets: one/ (folder), two/ (folder). Choose one"),
    "two images of a name": (bad.more(images__a_jpg=b""), "a.jpg and a.png have the same name"),
    "two masks": (bad.more(masks__a_gt_png=b""), "image a has 2 masks: a.png, a_gt.png. Keep one"),
    "other names": (bad.only("images/a.png", "masks/b.png"), "no image has a mask", "Give every"),
    # groups.csv and split.json
    "groups without header": (bad.more(groups_csv="a,1\nb,2\n"), "groups.csv: its first line", "S"),
    "half the groups": (bad.more(groups_csv="image,group\na,1\n"), "leaves out 1 images", "Add a"),
    "groups twice": (
        bad.more(groups_csv="image,group\na,1\na,2\nb,1"),
        "line 3: 'a' is in",
        "Keep",
    ),
    "groups of others": (bad.more(groups_csv="image,group\nc,1"), "no image 'c'", "Correct or"),
    "an empty group": (bad.more(groups_csv="image,group\na,\n"), "line 2: image or group", "Fill"),
    "one wild cell": (
        bad.more(groups_csv="image,group\na," + "1" * 200_000),
        "groups.csv, line 2: cannot be read as a table",
        "Save it anew",
    ),
    "groups in UTF-16": (
        bad.more(groups_csv="image,group".encode("utf-16")),
        "groups.csv",
        "UTF-8",
    ),
    "a folder of groups": (bad.instead("groups.csv", bad.folder), "groups.csv: is a folder", "Put"),
    "a list as split": (bad.more(split_json=[]), 'split.json: expected {"train": [...]'),
    "an unknown part": (bad.more(split_json={"dev": ["a"]}), 'split.json: expected {"train"'),
    "numbers in a split": (bad.more(split_json={"val": [1]}), "'val' must be a list of case names"),
    "unknown cases": (bad.more(split_json={"val": ["c"]}), "not among the annotated", "Use names"),
    "a case twice": (bad.more(split_json={"val": ["a", "a"]}), "'a' stands in it twice", "belongs"),
    "a torn split": (bad.more(split_json=b'{"val": ["a"'), "split.json: not valid JSON", "Mend"),
    "a folder as split": (bad.instead("split.json", bad.folder), "split.json: is a folder", "Put"),
    # COCO
    "an empty json": (bad.coco_text(b""), "list.json: not valid JSON at line 1", "Mend"),
    "torn json": (bad.coco_text(b'{"images": ['), "list.json: not valid JSON", "Mend"),
    "a number": (bad.coco_text(b"3"), "list.json: is no object", "Expected"),
    "deep json": (bad.coco_text(DEEP), "list.json: no JSON that can be read", "Rewrite"),
    "an endless number": (bad.coco_text(LONG), "list.json: no JSON that can be read", "Rewrite"),
    "json in UTF-16": (bad.coco_text("{}".encode("utf-16")), "list.json: not valid JSON", "Mend"),
    "images: object": (bad.coco(images={}), '"images" must be a list of objects', "Expected"),
    "annotations: null": (bad.coco(annotations=None), '"annotations" must be a list', "Expected"),
    "categories: texts": (bad.coco(categories=["x"]), '"categories" must be a list', "Expected"),
    "no annotation": (bad.coco(annotations=[]), "no image has an outline", "Expected"),
    "an image without id": (bad.coco(image__id=None), 'image 0: "id" must be a number', "Expect"),
    "a true id": (bad.coco(category__id=True), 'category 0: "id" must be a number', "Expected"),
    "one id for two": (bad.coco(image__id=3), "image 1: id 3 is listed twice", "Export"),
    "one file for two": (bad.coco(image__file_name="b.png"), "file 'b.png' is listed twice", "Exp"),
    "a number as name": (bad.coco(image__file_name=3), "must be a text, got 3. Write the path"),
    "out of the folder": (
        bad.coco(image__file_name="../../etc/passwd"),
        "passwd' must be",
        "Write",
    ),
    "an absolute name": (bad.coco(image__file_name="/etc/passwd"), "passwd' must be", "Write it"),
    "a drive": (bad.coco(image__file_name="C:\\a.png"), "must be a path inside the data", "Write"),
    "a long name": (
        bad.coco(image__file_name="a" * 5000),
        "name of 5000 letters",
        "Write the path",
    ),
    "half a letter": (bad.coco(image__file_name="\ud800.png"), "no file can be called", "Save"),
    "an unknown image": (bad.coco(annotation__image_id=99), '"image_id" is 99', "Export"),
    "a list as image": (bad.coco(annotation__image_id=[7]), '"image_id" is [7]', "Export"),
    "an unknown class": (bad.coco(annotation__category_id="1"), "\"category_id\" is '1'", "Export"),
    "an empty name": (bad.coco(category__name=" "), "must be a text, got ' '", "Write what is"),
    "half a name": (bad.coco(category__name="\ud800"), "is not in UTF-8. Save the file"),
    "a text as outline": (bad.coco(annotation__segmentation="x"), "mask is a text", "Expected"),
    "a flat ring": (bad.coco(annotation__segmentation=RING), "mask holds 1 for a ring", "Expected"),
    "texts in a ring": (bad.coco(annotation__segmentation=[["1"] * 6]), "for a ring", "Expected"),
    "NaN": (bad.coco(annotation__segmentation=[[NAN, *RING]]), "annotation 0: a ring holds", AGAIN),
    "infinity": (bad.coco(annotation__segmentation=[[1e999, 1]]), "NaN or infinity", AGAIN),
    "10 to the 400": (bad.coco(annotation__segmentation=[[10**400, 1]]), "leaves any image", AGAIN),
    "runs without size": (bad.coco(annotation__segmentation={"counts": "x"}), "size None", "Expec"),
    "negative runs": (
        bad.coco(annotation__segmentation={"size": [48, 64], "counts": [-1, 3073]}),
        'annotation 0: the "counts" of run lengths must be whole numbers of 0 at least',
        AGAIN,
    ),
    "all images elsewhere": (
        bad.coco(images=[{"id": i, "file_name": f"{i}.png"} for i in (7, 3)]),
        "list.json lists 2 images (first: 7.png), but none of them is there",
        "Put them into",
    ),
    # Sa2VA
    "an object as list": (bad.sa2va(whole={}), "annotations.json: must be a list", "Expected"),
    "an empty list": (bad.sa2va(whole=[]), "annotations.json: must be a list", "Expected"),
    "an entry of text": (bad.sa2va("a.png"), "entry 1 is not an annotated image", "Expected"),
    "an image of number": (
        bad.sa2va(bad.entry(image=1)),
        "entry 1 is not an annotated",
        "Expected",
    ),
    "an image above": (bad.sa2va(bad.entry(image="../a.png")), "entry 1: file '../a.png'", "Write"),
    "an image gone": (
        bad.sa2va(bad.entry(image="c.png")),
        "names 1 images that are not",
        "Put them",
    ),
    "a mask of text": (bad.sa2va(bad.entry("x")), "entry 1: its mask holds something", "Expected"),
    "NaN in a ring": (bad.sa2va(bad.entry([NAN, *RING])), "entry 1: a ring holds NaN", AGAIN),
    "a huge ring": (bad.sa2va(bad.entry([10**400, *RING])), "entry 1: a ring leaves any", AGAIN),
    "text: number": (bad.sa2va(bad.entry(text=3)), '"text" must be a list of phrases', "Expected"),
    "an empty text": (bad.sa2va(bad.entry(text=[""])), '"text" must be a list of', "Expected"),
    "half a text": (bad.sa2va(bad.entry(text="\ud800")), "entry 1: the name of", "Save the file"),
    "more masks": (
        bad.sa2va(bad.entry([RING] * 3, text=["a", "b"])),
        "2 phrases but 1",
        "Give one",
    ),
    "empty masks": (bad.sa2va(whole=[bad.entry([])]), "all 1 images have empty masks", "Expected"),
    # manifests
    "no line": (bad.whole(b"\n\n"), "set.jsonl: lists no image", "Expected"),
    "a manifest in UTF-16": (bad.whole('{"image": 1}'.encode("utf-16")), "is in UTF-16", "UTF-8"),
    "a torn line": (bad.lines('{"image": "a'), "line 2: not valid JSON at column", "Expected"),
    "a deep line": (bad.lines(DEEP), "line 2: no JSON that can be read", "Rewrite it"),
    "a list in a line": (bad.lines("[1]"), "line 2: names no image", "Expected"),
    "an unknown key": (bad.lines(bad.line(imgae=1)), "line 2: unknown key 'imgae'", "Known: case"),
    "a line again": (bad.lines(*[bad.line()] * 2), "line 3: a second mask with 'artery'", "Put"),
    "two groups": (
        bad.lines(bad.line(group="1"), bad.line(group="2", phrase="vein")),
        "line 3: 'group' is '2', but '1' for the same image",
        "Say the same",
    ),
    "two splits": (
        bad.lines(bad.line(split="val"), bad.line(split="test", phrase="vein")),
        "line 3: 'split' is 'test', but 'val'",
        "Say the same",
    ),
    "half the images grouped": (
        bad.lines(bad.line(group="1")),
        "1 of 2 images have no",
        "Give one",
    ),
    "a group of number": (bad.lines(bad.line(group=7)), "line 2: 'group' must be a text", "Put it"),
    "half a group": (bad.lines(bad.line(group="\ud800")), "line 2: 'group' is not", "UTF-8"),
    "a split of its own": (bad.lines(bad.line(split="dev")), "unknown split 'dev'", "Known: train"),
    "a mask of number": (bad.lines(bad.line(mask=3)), "line 2: its mask is 3", "Expected"),
    "a mask of nothing": (bad.lines(bad.line(mask=[])), "its mask is empty. Write null"),
    "a mask above": (bad.lines(bad.line(mask="../m.png")), "'../m.png' must be a path", "Write it"),
    "a mask gone": (bad.lines(bad.line(mask="/gone/m.png")), "not there: /gone/m.png", "Paths are"),
    "a spacing of text": (bad.lines(bad.line(spacing="0.2")), "'spacing' must be two", "Correct"),
    "a negative spacing": (bad.lines(bad.line(spacing=[-1, 1])), "got [-1, 1]. Correct it"),
    "a second mask gone": (bad.lines(bad.line(second_mask="g.png")), "not there: ", "Paths are"),
    "a phrase of list": (bad.lines(bad.line(phrase=["x"])), "must be a text, got ['x']. Write"),
    "a pipe as image": (bad.beside("p.png", bad.pipe), "p.png: is a pipe or device", "Put the"),
    "a device as image": (bad.beside("d.png", bad.link("/dev/zero")), "d.png: is a pipe or", "Put"),
    "a folder as image": (bad.beside("f.png", bad.folder), "f.png: is a folder", "Put the"),
    "a loop as image": (bad.beside("l.png", bad.loop), "l.png: is a link", "Fetch"),
    # archives and DICOM
    "objects": (
        bad.archive(bad.npz(image=np.array([1, None]))),
        "a.npz: its array 'image' is of kind 'object'",
        "Save an array of numbers",
    ),
    "other keys": (bad.given("a.npz", lambda p: np.savez(p, x=1)), "no archive holds", "Name the"),
    "two images in one": (
        bad.archive(bad.npz(imgs=bad.GREYS)),
        "a.npz: holds image and",
        "Take one",
    ),
    "another shape": (
        bad.archive(bad.npz(mask=bad.MASK[:9])),
        "do not belong together",
        "Save (h, w",
    ),
    "a cut archive": (
        bad.archive(bad.npz()[:99]),
        "a.npz: cannot be read as a NumPy",
        "Save it anew",
    ),
    "a scratched archive": (
        bad.archive(bad.npz().replace(b"\xff", b"\0")),
        "a.npz: cannot be read as a NumPy archive",
        "Save it anew",
    ),
    "a text as archive": (bad.archive(b"x"), "a.npz: cannot be read as a NumPy archive", "Save it"),
    "a bomb of an archive": (bad.archive(bad.huge_npz()), "takes 1.5 GiB unpacked", "Divide it"),
    "one group of two": (
        bad.archive(bad.npz(groups=np.array(["p", "q"]))),
        "a.npz: its array 'groups' has shape (2,)",
        "take it out",
    ),
    "an empty dcm": (bad.image(b"", "dcm"), "a.dcm: ", NO_DICOM),
    "a text as dcm": (bad.image("Dear colleague" * 99, "dcm"), "a.dcm: ", NO_DICOM),
    "a cut dcm": (
        bad.image(bad.dicom()[:-99], "dcm"),
        "a.dcm: ",
        "export it anew",
    ),
    "a bomb as dcm": (
        bad.image(bad.dicom(rows=bad.HUGE, columns=bad.HUGE), "dcm"),
        "a.dcm: 40000x40000 is larger than 175 million pixels",
        "Cut it",
    ),
    "a dcm without pixels": (bad.image(bad.dicom(rows=0), "dcm"), "a.dcm: ", "export it anew"),
    "a dcm of 32 bit": (bad.image(bad.dicom(bits=32), "dcm"), "a.dcm: 32 bits", "export it anew"),
    "a dcm to print": (bad.image(bad.dicom(kind="CMYK"), "dcm"), "a.dcm: its pixels are 'CMYK'"),
    "a million frames": (bad.image(bad.dicom(frames=10**6), "dcm"), "a.dcm: ", "Copy or export it"),
}

TOLD = {
    "a dcm cut in its head": (
        bad.image(bad.dicom()[:250], "dcm"),
        "1 DICOM files that are no images: case_",
    ),
    "a mask alone": (bad.without("images/a.png"), "1 masks without an image: a"),
    "an image alone": (bad.without("masks/a.png"), "1 images without a mask: a"),
    "a pipe": (bad.instead("images/a.png", bad.pipe), "no plain file", ": a"),
    "a folder": (bad.instead("masks/a.png", bad.folder), "no plain file", "masks/a"),
    "a loop": (bad.instead("images/a.png", bad.loop), "no plain file", ": a"),
    "a name in latin-1": (bad.instead("images/c.png", bad.latin_name), "3 images with 3 targets"),
    "a manifest from windows": (
        bad.whole(b"\xef\xbb\xbf" + json.dumps(bad.line()).encode() + b"\r\n"),
        "1 images with 1 targets",
    ),
    "no mask said": (bad.lines({"image": "images/a.png"}), "2 images, 1 of them annotated"),
    "one image elsewhere": (
        bad.coco(image__file_name="c.png"),
        "1 images that are listed but not there: c",
    ),
}


@pytest.mark.parametrize("name", IMPORT)
def test_what_the_lists_say_is_refused(tmp_path: Path, name: str) -> None:
    make, *words = IMPORT[name]
    (tmp_path / "set").mkdir()
    telling.check(telling.import_(make(tmp_path / "set")), 2, ("vasculora: ", *words))


@pytest.mark.parametrize("name", TOLD)
def test_what_is_left_out_is_told(tmp_path: Path, name: str) -> None:
    make, *words = TOLD[name]
    (tmp_path / "set").mkdir()
    telling.check(telling.import_(make(tmp_path / "set")), 0, tuple(words))


@contextmanager
def a_plain_user() -> Iterator[Path]:
    """Be somebody who may not read everything, in a folder that he may enter."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o777)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)
        try:
            yield Path(place)
        finally:
            if root:
                os.seteuid(0)


@pytest.mark.parametrize(
    ("place", "how", "words"),
    [
        ("images/a.png", bad.no_rights, ("a.png: you may not read this file", "chmod u+r")),
        ("images/more", bad.no_entry, ("images/more: Permission denied", "Check that")),
        ("groups.csv", bad.no_rights, ("groups.csv: Permission denied", "Check that")),
    ],
)
def test_what_may_not_be_read_is_refused(place: str, how: bad.Make, words: tuple[str]) -> None:
    with a_plain_user() as here:
        (here / "set").mkdir()
        data = bad.instead(place, how)(here / "set")
        told = telling.evaluate(data, here / "out")
        (data / place).chmod(0o755)
    telling.check(told, 2, ("vasculora: ", *words))


def test_there_are_enough_of_them() -> None:
    assert len(IMPORT) > 100
