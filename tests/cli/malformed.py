"""Makes damaged, wrong and hostile data: every function leaves one fault in an otherwise good set.

A set has two images, a and b. Each maker takes an empty folder, and returns what `--data` would be.
"""

import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Make = Callable[[Path], Path]

HUGE = 40_000
RING = [1, 1, 6, 1, 6, 6, 1, 6]
GREYS = np.random.default_rng(0).integers(0, 200, (48, 64)).astype(np.uint8)
MASK = np.zeros((48, 64), np.uint8)
MASK[10:30, 8:14] = 255


def file_of(pixels: np.ndarray | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """Return an image file's bytes."""
    image = Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def cut(kind: str) -> bytes:
    """Return the first half of an image file."""
    whole = file_of(GREYS, kind)
    return whole[: len(whole) // 2]


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def huge_tif() -> bytes:
    """Return a TIFF whose one strip is said to hold 40,000 rows."""
    tags = {256: HUGE, 257: HUGE, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: HUGE, 279: HUGE**2}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)


BOMBS = {
    "png": b"\x89PNG\r\n\x1a\n"
    + chunk(b"IHDR", struct.pack(">IIBBBBB", HUGE, HUGE, 8, 0, 0, 0, 0))
    + chunk(b"IDAT", zlib.compress(bytes(1000)))
    + chunk(b"IEND", b""),
    "bmp": b"BM"
    + struct.pack("<IHHI", 1078, 0, 0, 1078)
    + struct.pack("<IiiHHIIiiII", 40, HUGE, HUGE, 1, 8, 0, 0, 0, 0, 256, 0)
    + bytes(1024),
    "gif": b"GIF89a" + struct.pack("<HHBBB", HUGE, HUGE, 0, 0, 0) + b"\x21\xf9\4\0\0\0\0\0"
    b"\x2c" + struct.pack("<HHHHB", 0, 0, HUGE, HUGE, 0) + b"\2\2\x4c\1\0;",
    "jpg": b"\xff\xd8\xff\xc0" + struct.pack(">HBHHB", 11, 8, HUGE, HUGE, 1) + b"\1\x11\0\xff\xd9",
    "pgm": f"P5 {HUGE} {HUGE} 255\n".encode(),
    "tif": huge_tif(),
}


def put(path: Path, content: Any) -> Path:
    """Write bytes, a text, pixels or JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, np.ndarray):
        content = file_of(content)
    elif isinstance(content, str):
        content = content.encode("utf-8", "surrogateescape")
    elif not isinstance(content, bytes):
        content = json.dumps(content).encode()
    path.write_bytes(content)
    return path


def good(here: Path) -> Path:
    """Make two images with a mask each, in two folders."""
    for name in "ab":
        put(here / "images" / f"{name}.png", GREYS if name == "a" else GREYS[::-1])
        put(here / "masks" / f"{name}.png", MASK)
    return here


def image(content: Any, suffix: str = "png") -> Make:
    """Put something in the place of image a."""

    def make(here: Path) -> Path:
        (good(here) / "images" / "a.png").unlink()
        put(here / "images" / f"a.{suffix}", content)
        return here

    return make


def mask(content: Any, suffix: str = "png") -> Make:
    """Put something in the place of a's mask."""

    def make(here: Path) -> Path:
        (good(here) / "masks" / "a.png").unlink()
        put(here / "masks" / f"a.{suffix}", content)
        return here

    return make


def more(**files: Any) -> Make:
    """Add files to the set; `__` in a name stands for `/`, and the last `_` for the dot."""

    def make(here: Path) -> Path:
        good(here)
        for name, content in files.items():
            stem, _, suffix = name.replace("__", "/").rpartition("_")
            put(here / f"{stem}.{suffix}", content)
        return here

    return make


def without(name: str) -> Make:
    """Take a file out of the set."""

    def make(here: Path) -> Path:
        (good(here) / name).unlink()
        return here

    return make


def instead(name: str, how: Callable[[Path], object]) -> Make:
    """Put a pipe, a folder, a link in the place of a file."""

    def make(here: Path) -> Path:
        place = good(here) / name
        place.unlink(missing_ok=True)
        how(place)
        return here

    return make


def pipe(place: Path) -> None:
    os.mkfifo(place)


def folder(place: Path) -> None:
    place.mkdir()


def loop(place: Path) -> None:
    place.symlink_to(place.name)


def link(to: str) -> Callable[[Path], None]:
    return lambda place: place.symlink_to(to)


def latin_name(place: Path) -> None:
    for kind, pixels in (("images", GREYS), ("masks", MASK)):
        put(Path(os.fsdecode(os.fsencode(place.parent.parent / kind) + b"/caf\xe9.png")), pixels)


def sparse(place: Path) -> None:
    with place.open("wb") as file:
        file.truncate(2**40)


def no_rights(place: Path) -> None:
    put(place, GREYS)
    place.chmod(0)


def no_entry(place: Path) -> None:
    put(place / "c.png", GREYS)
    place.chmod(0)


def nothing(here: Path) -> Path:
    return here


def only(*names: str) -> Make:
    """Make a folder of files that are no data set."""

    def make(here: Path) -> Path:
        for name in names:
            put(here / name, GREYS if name.endswith("png") else "x")
        return here

    return make


def given(name: str, how: Callable[[Path], object]) -> Make:
    """Give this place itself as the data."""

    def make(here: Path) -> Path:
        how(here / name)
        return here / name

    return make


def two_sets(here: Path) -> Path:
    good(here / "one")
    good(here / "two")
    return here


def coco(**changes: Any) -> Make:
    """Change the first image, annotation or category, or put something in a list's place.

    `image__file_name=3` changes an entry, `images=3` a list.
    """

    def make(here: Path) -> Path:
        value: dict[str, Any] = {
            "images": [{"id": 7, "file_name": "a.png"}, {"id": 3, "file_name": "b.png"}],
            "annotations": [
                {"id": i, "image_id": i, "category_id": 1, "segmentation": [RING]} for i in (7, 3)
            ],
            "categories": [{"id": 1, "name": "artery"}],
        }
        plural = {"image": "images", "annotation": "annotations", "category": "categories"}
        for key, change in changes.items():
            entry, _, name = key.partition("__")
            if name:
                value[plural[entry]][0][name] = change
            else:
                value[entry] = change
        return coco_text(value)(here)

    return make


def coco_text(content: Any, *images: str) -> Make:
    """Write the annotation file as it is."""

    def make(here: Path) -> Path:
        for name in images or ("a", "b"):
            put(here / f"{name}.png", GREYS)
        put(here / "list.json", content)
        return here / "list.json" if isinstance(content, bytes | str) else here

    return make


def sa2va(*entries: Any, whole: Any = None) -> Make:
    """Write `annotations.json` of good entry b and these."""

    def make(here: Path) -> Path:
        for name in "ab":
            put(here / f"{name}.png", GREYS)
        b = {"image": "b.png", "mask": [RING], "text": ["artery"]}
        put(here / "annotations.json", [b, *entries] if whole is None else whole)
        return here

    return make


def entry(*mask: Any, text: Any = ("artery",), image: Any = "a.png") -> dict[str, Any]:
    return {"image": image, "mask": list(mask) or [RING], "text": text}


def lines(*entries: Any) -> Make:
    """Write a manifest: objects as JSON, texts and bytes as they are; image b is a good one."""

    def make(here: Path) -> Path:
        good(here)
        first = {"image": "images/b.png", "phrase": "artery", "mask": "masks/b.png"}
        written = [e if isinstance(e, str | bytes) else json.dumps(e) for e in (first, *entries)]
        texts = [e if isinstance(e, bytes) else e.encode() for e in written]
        return put(here / "set.jsonl", b"\n".join(texts) + b"\n")

    return make


def line(**changes: Any) -> dict[str, Any]:
    return {"image": "images/a.png", "phrase": "artery", "mask": "masks/a.png", **changes}


def whole(content: bytes) -> Make:
    """Write a manifest as it is."""

    def make(here: Path) -> Path:
        return put(good(here) / "set.jsonl", content)

    return make


def scored_by(key: str, content: Any) -> Make:
    """Write a manifest that names this file as what image a is scored by."""

    def make(here: Path) -> Path:
        put(good(here) / "extra.png", content)
        return lines(line(**{key: "extra.png"}))(here)

    return make


def beside(name: str, how: Callable[[Path], object]) -> Make:
    """Write a manifest that names this place as image a."""

    def make(here: Path) -> Path:
        how(good(here) / name)
        return lines(line(image=name))(here)

    return make


def moving(kind: str) -> bytes:
    """Return a file of two frames."""
    frames = [Image.fromarray(GREYS), Image.fromarray(GREYS[::-1].copy())]
    return file_of(frames[0], kind, save_all=True, append_images=frames[1:])


def see_through() -> bytes:
    layers = np.dstack([GREYS, GREYS, GREYS, GREYS])
    return file_of(layers)


def bad_exif() -> bytes:
    """Return a JPEG whose EXIF says that it holds more than it does."""
    exif = b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\1\3\0\xff\xff\xff\xff\6\0\0\0"
    return file_of(GREYS, "JPEG", exif=exif)


def coloured() -> np.ndarray:
    return np.dstack([MASK, MASK * 0, MASK * 0])


def dicom(pixels: np.ndarray = GREYS, *, syntax: str = "1.2.840.10008.1.2.1", **said: Any) -> bytes:
    """Return a DICOM file of one grey picture; `said` changes its elements."""
    bits = pixels.dtype.itemsize * 8
    said = {"kind": "MONOCHROME2", "frames": 1, "rows": 48, "columns": 64, "bits": bits} | said
    numbers = (said["rows"], said["columns"], said["bits"], said["bits"], said["bits"] - 1, 0)
    places = (0x10, 0x11, 0x100, 0x101, 0x102, 0x103)
    meta = element(0x2, 0x10, "UI", syntax)
    return b"".join(
        (
            bytes(128) + b"DICM" + element(0x2, 0x0, "UL", struct.pack("<I", len(meta))) + meta,
            element(0x8, 0x16, "UI", "1.2.840.10008.5.1.4.1.1.12.1"),
            element(0x8, 0x18, "UI", "1.2.3"),
            element(0x28, 0x2, "US", 1),
            element(0x28, 0x4, "CS", said["kind"]),
            element(0x28, 0x8, "IS", str(said["frames"])),
            *(element(0x28, place, "US", n) for place, n in zip(places, numbers, strict=True)),
            element(0x7FE0, 0x10, "OW", pixels.tobytes()),
        )
    )


def element(group: int, number: int, kind: str, value: str | int | bytes) -> bytes:
    """Return one element of an explicit little-endian DICOM file."""
    if isinstance(value, int):
        value = struct.pack("<H", value)
    elif isinstance(value, str):
        value = value.encode()
    value += b"\0" * (len(value) % 2) if kind == "UI" else b" " * (len(value) % 2)
    length = struct.pack("<HI", 0, len(value)) if kind == "OW" else struct.pack("<H", len(value))
    return struct.pack("<HH", group, number) + kind.encode() + length + value


def npz(**arrays: Any) -> bytes:
    """Return a NumPy archive; image and mask are good where nothing else is said."""
    buffer = BytesIO()
    np.savez_compressed(buffer, **{"image": GREYS, "mask": MASK} | arrays)
    return buffer.getvalue()


def huge_npz() -> bytes:
    """Return a small archive that unpacks to 2 GB."""
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("image", "mask"):
            head = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({HUGE}, {HUGE})}}\n"
            data = b"\x93NUMPY\1\0" + struct.pack("<H", len(head)) + head.encode()
            archive.writestr(f"{name}.npy", data)
    return buffer.getvalue()


def archive(content: bytes) -> Make:
    """Put something in the place of archive a."""

    def make(here: Path) -> Path:
        put(here / "a.npz", content)
        put(here / "b.npz", npz(image=GREYS[::-1]))
        return here

    return make
