"""Data as bad as it comes: what an image, a mask or a phrase can be, given to the program.

One message each, with the file and the cure. Rows of `OPEN` are refused when images are opened,
rows of `ALONE` too, but alone: before images are opened, or because their names are private.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.cli import malformed as bad
from tests.cli import telling
from typer.testing import CliRunner

from vasculora.cli.app import app

NAN = float("nan")
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
    "a field of view of one pixel": (
        bad.scored_by("fov", np.full((1, 1), 255, np.uint8)),
        "a: field of view is 1x1 but image is 64x48",
        "Re-export the field of view",
    ),
    "a black field of view": (bad.scored_by("fov", bad.MASK * 0), "a: its field of view", "Export"),
    "a picture of a second observer": (
        bad.scored_by("second_mask", bad.GREYS),
        "extra.png: ",
        "no mask but a picture",
    ),
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
    "a NaN in an archive": (
        bad.archive(bad.npz(image=np.where(bad.MASK > 0, NAN, 0.5))),
        "a.npz: its array 'image' holds float64 from nan",
        "Scale it",
    ),
    "integers in an archive": (
        bad.archive(bad.npz(image=bad.GREYS.astype(int))),
        "a.npz: its array 'image' holds int64",
        "save it as uint8",
    ),
    "classes in an archive": (
        bad.archive(bad.npz(mask=bad.GREYS % 3)),
        "a.npz: its array 'mask' holds uint8 from 0 to 2",
        "Save one mask",
    ),
}

ALONE = {
    "[SEG] in a phrase": (bad.lines(bad.line(phrase="the [SEG]")), "a: ", "[SEG]. Leave it out"),
    "<image> in a phrase": (bad.sa2va(bad.entry(text="<image> x")), "a: ", "<image>. Leave it out"),
    "a mark alone": (bad.coco(category__name="."), "a: the phrase is empty", "Say what to"),
    "an endless phrase": (bad.lines(bad.line(phrase="vein " * 9000)), "a: ", "shorten the phrase"),
    "12 of 16 bit in dcm": (
        bad.image(bad.dicom(bad.GREYS.astype(np.uint16)), "dcm"),
        "a.dcm: says 16 bits stored and has no usable window",
        "Export it with a window",
    ),
    "a dcm of no known syntax": (
        bad.image(bad.dicom(syntax="1.2.840.10008.1.2.4.999"), "dcm"),
        "a.dcm: ",
        "Export it uncompressed",
    ),
}


def batched(rows: Mapping[str, Any], size: int) -> list[list[str]]:
    names = list(rows)
    return [names[start : start + size] for start in range(0, len(names), size)]


@pytest.mark.parametrize("name", ALONE)
def test_what_cannot_be_asked_for_is_refused(tmp_path: Path, name: str) -> None:
    make, *words = ALONE[name]
    telling.check(
        telling.evaluate(make(tmp_path), tmp_path.with_name("out")), 2, ("vasculora: ", *words)
    )


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
        told = telling.call("data", "import", make(data), "--out", here / f"{number}.jsonl")
        assert told[0] == 0, told
        lists = map(json.loads, (here / f"{number}.jsonl").read_text().splitlines())
        (entry,) = (line for line in lists if line["case"][-1] == "a")
        lines[name] = json.dumps(entry | {"case": f"row{number}/a", "group": str(number)})
    told_of = {}
    for names in batched(OPEN, 10):
        path = here / "joined.jsonl"
        path.write_text("\n".join(lines[name] for name in names))
        result = CliRunner().invoke(app, telling.words_of(path, here / "out"))
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


def test_there_are_enough_of_them() -> None:
    assert len(OPEN) + len(ALONE) > 40
