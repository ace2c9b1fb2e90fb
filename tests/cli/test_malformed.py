"""Data as bad as it comes, given to the program: one message each, with the file and the cure.

Rows of `IMPORT` are told by reading the lists alone, rows of `OPEN` when images are opened, rows of
`ASKED` where a phrase is to be asked for. Rows of `TOLD` are no fault, but nothing is left out in
silence.
"""

import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.cli import malformed as bad
from typer.testing import CliRunner

from vasculora.cli.app import app

DEEP = "[" * 100_000 + "]" * 100_000
LONG = "9" * 5000
NAN = float("nan")
RING = bad.RING
BOMB = "larger than 175 million pixels. Cut it"
REDRAW = "Remove it, or draw it again"
AGAIN = "Export the annotation again"

OPEN = {
    **{
        f"a cut {kind}": (bad.image(bad.cut(kind), suffix), f"a.{suffix}: cannot be read", "export")
        for kind, suffix in (
            ("PNG", "png"),
            ("JPEG", "jpg"),
            ("TIFF", "tif"),
            ("BMP", "bmp"),
            ("GIF", "gif"),
            ("PPM", "pgm"),
        )
    },
    **{
        f"a bomb as {suffix}": (bad.image(content, suffix), f"a.{suffix}: {BOMB}")
        for suffix, content in bad.BOMBS.items()
    },
    "no byte": (bad.image(b""), "a.png: cannot be read as an image", "export it anew"),
    "a text": (bad.image("<html>Not found</html>"), "a.png: cannot be read", "export it anew"),
    "a terabyte": (bad.instead("images/a.png", bad.sparse), "a.png: larger than 2 GiB", "Export"),
    "no pixel": (bad.image(b"P5 0 0 255\n", "pgm"), "a.pgm: ", "export it anew"),
    "floats": (bad.image(bad.file_of(bad.GREYS / 255.0, "TIFF"), "tif"), "kind 'F'", "Export it"),
    "print colours": (
        bad.image(bad.file_of(Image.new("CMYK", (64, 48)), "JPEG"), "jpg"),
        "a.jpg: its pixels are of kind 'CMYK'",
        "Export it as 8 bit",
    ),
    "32 bit": (
        bad.image(bad.file_of(bad.GREYS.astype(np.int32), "TIFF"), "tif"),
        "a.tif: its pixels are of kind 'I'",
        "Export it as 8 bit",
    ),
    "a moving gif": (bad.image(bad.moving("GIF"), "gif"), "a.gif: holds 2 frames", "Export each"),
    "a tif of pages": (bad.image(bad.moving("TIFF"), "tif"), "a.tif: holds 2 frames", "Export"),
    "transparency": (bad.image(bad.see_through()), "a.png: has transparent pixels", "Export it"),
    "10 of 16 bit": (
        bad.image(bad.file_of(bad.GREYS.astype(np.uint16) * 5)),
        "a.png: 16 bit file whose brightest value is 995",
        "Export it as 8 bit",
    ),
    "a smaller mask": (bad.mask(bad.MASK[:9, :7]), "a: mask is 7x9 but image is 64x48", "Re-exp"),
    "a lying mask": (bad.mask(bad.MASK.T.copy()), "a: mask is 48x64", "Rotate or re-export"),
    "a coloured mask": (bad.mask(bad.coloured()), "a.png: is in colour", "Export one grey"),
    "class numbers": (bad.mask(np.arange(3072).reshape(48, 64).astype(np.uint8) % 9), "Export one"),
    "an empty mask": (bad.mask(bad.MASK * 0), "a: the mask of 'blood vessel' is empty", "Annotate"),
    "a picture as mask": (bad.mask(bad.GREYS), "masks/a.png: ", "no mask but a picture", "Export"),
    "a cut mask": (bad.mask(bad.cut("GIF"), "gif"), "masks/a.gif: cannot be read", "export it"),
    "a mask of one pixel": (bad.image(np.zeros((1, 1), np.uint8)), "but image is 1x1", "Re-export"),
    "an odd ring": (bad.coco(annotation__segmentation=[[1, 1, 5, 1, 5]]), "a: ", REDRAW),
    "a line for a ring": (bad.coco(annotation__segmentation=[[1, 1, 5, 1]]), "a: ", REDRAW),
    "a ring without area": (bad.coco(annotation__segmentation=[[1, 1, 5, 1, 9, 1]]), "a: ", "Anno"),
    "negative": (bad.coco(annotation__segmentation=[[-90, 1, 5, 1, 5, 5]]), "a: ", "Give polygons"),
    "a larger image's ring": (bad.sa2va(bad.entry([1, 1, 900, 1, 900, 9])), "a: ", "Give polygons"),
    "a ring of 5": (bad.sa2va(bad.entry([1, 1, 5, 1, 5])), "a: ", REDRAW),
    "runs too short": (
        bad.coco(annotation__segmentation={"size": [48, 64], "counts": [9, 9]}),
        "a: run lengths add up to 18",
        AGAIN,
    ),
    "runs of rubbish": (
        bad.coco(annotation__segmentation={"size": [48, 64], "counts": "\x01 rubbish é"}),
        "a: its run lengths are no compressed text",
        AGAIN,
    ),
    "a bomb of runs": (
        bad.coco(annotation__segmentation={"size": [48, 64], "counts": [0, 10**15]}),
        "a: run lengths add up to 1000000000000000",
        AGAIN,
    ),
    "runs for another size": (
        bad.lines(bad.line(mask={"size": [bad.HUGE, bad.HUGE], "counts": [0, bad.HUGE**2]})),
        "a: run lengths are for 40000x40000",
        'Give "size"',
    ),
}

ASKED = {
    "[SEG] in a phrase": (bad.lines(bad.line(phrase="the [SEG]")), "a: ", "[SEG]. Leave it out"),
    "<image> in a phrase": (bad.sa2va(bad.entry(text="<image> x")), "a: ", "<image>. Leave it out"),
    "a mark alone": (bad.coco(category__name="."), "a: the phrase is empty", "Say what to"),
    "an endless phrase": (bad.lines(bad.line(phrase="vein " * 9000)), "a: ", "shorten the phrase"),
}

IMPORT = {
    "nothing there": (bad.given("gone", lambda _: None), "gone: no such folder", "Give"),
    "a picture": (bad.given("x.png", lambda p: bad.put(p, bad.GREYS)), "x.png: is a file", "Give"),
    "a loop": (bad.given("loop", bad.loop), "loop: ", "Give"),
    "a pipe": (bad.given("x.jsonl", bad.pipe), "x.jsonl: is a pipe", "Put the file there"),
    "a broken list": (bad.given("x.json", bad.link("y")), "is a link to a file that is", "Fetch"),
    "an empty folder": (bad.nothing, "no data set recognised", "Found nothing. Arrange"),
    "other files": (bad.only("a.txt", "b.png"), "Found a.txt, b.png. Arrange the images"),
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
    "a phrase of list": (bad.lines(bad.line(phrase=["x"])), "must be a text, got ['x']. Write"),
    "a pipe as image": (bad.beside("p.png", bad.pipe), "p.png: is a pipe or device", "Put the"),
    "a device as image": (bad.beside("d.png", bad.link("/dev/zero")), "d.png: is a pipe or", "Put"),
    "a folder as image": (bad.beside("f.png", bad.folder), "f.png: is a folder", "Put the"),
    "a loop as image": (bad.beside("l.png", bad.loop), "l.png: is a link", "Fetch"),
}

TOLD = {
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


def call(*words: object) -> tuple[int, str]:
    """Run the program; return its exit code and all it says, in one line."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return result.exit_code, re.sub(r"\s+", " ", result.output)


def import_(data: Path) -> tuple[int, str]:
    return call("data", "import", data, "--out", data.parent / f"{data.name}-out.jsonl")


def words_of(data: Path, out: Path) -> list[str]:
    return ["evaluate", "nano", "--data", str(data), "--split", "all", "--out", str(out)]


def evaluate(data: Path, out: Path) -> tuple[int, str]:
    return call(*words_of(data, out))


def batched(rows: Mapping[str, Any], size: int) -> list[list[str]]:
    names = list(rows)
    return [names[start : start + size] for start in range(0, len(names), size)]


def check(told: tuple[int, str], code: int, words: tuple[str, ...]) -> None:
    assert told[0] == code, told
    for word in words:
        assert word in told[1], (word, told[1])


@pytest.mark.parametrize("name", IMPORT)
def test_what_the_lists_say_is_refused(tmp_path: Path, name: str) -> None:
    make, *words = IMPORT[name]
    (tmp_path / "set").mkdir()
    check(import_(make(tmp_path / "set")), 2, ("vasculora: ", *words))


@pytest.mark.parametrize("name", ASKED)
def test_what_cannot_be_asked_for_is_refused(tmp_path: Path, name: str) -> None:
    make, *words = ASKED[name]
    check(evaluate(make(tmp_path), tmp_path.with_name("out")), 2, ("vasculora: ", *words))


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Import every row of `OPEN`, join the manifests, ten rows a run, and return each row's line.

    A run tells all that is wrong at once, so there need not be one for every row.
    """
    here = tmp_path_factory.mktemp("opened")
    lines: dict[str, str] = {}
    for number, (name, (make, *_)) in enumerate(OPEN.items()):
        data = here / str(number)
        data.mkdir()
        told = call("data", "import", make(data), "--out", here / f"{number}.jsonl")
        assert told[0] == 0, told
        lists = map(json.loads, (here / f"{number}.jsonl").read_text().splitlines())
        (entry,) = (line for line in lists if line["case"][-1] == "a")
        lines[name] = json.dumps(entry | {"case": f"row{number}/a", "group": str(number)})
    told_of = {}
    for names in batched(OPEN, 10):
        path = here / "joined.jsonl"
        path.write_text("\n".join(lines[name] for name in names))
        result = CliRunner().invoke(app, words_of(path, here / "out"))
        assert result.exit_code == 2, result.output
        assert not (here / "out").exists()
        listed = result.stderr.splitlines()
        assert listed[0] == f"vasculora: {len(names)} of {len(names)} cases cannot be used:"
        told_of |= dict(zip(names, listed[1:], strict=True))
    return told_of


@pytest.mark.parametrize("name", OPEN)
def test_what_the_images_hold_is_refused(opened: dict[str, str], name: str) -> None:
    for word in OPEN[name][1:]:
        assert word in opened[name]


@pytest.mark.parametrize("name", TOLD)
def test_what_is_left_out_is_told(tmp_path: Path, name: str) -> None:
    make, *words = TOLD[name]
    (tmp_path / "set").mkdir()
    check(import_(make(tmp_path / "set")), 0, tuple(words))


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
        told = evaluate(data, here / "out")
        (data / place).chmod(0o755)
    check(told, 2, ("vasculora: ", *words))


def test_there_are_enough_of_them() -> None:
    assert len(OPEN) + len(ASKED) + len(IMPORT) > 130
