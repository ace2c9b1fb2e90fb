"""What JSON says about a mask, checked: rings, run lengths and names of files.

Shared by the sources that are lists of annotations. Only the form is checked here, with the place
in the file; whether an outline fits its image is found when the image is opened.
"""

import math
import os
from pathlib import PurePosixPath
from typing import Any

from vasculora.core.types import Polygon, RunLengths

_MAX_NAME = 255  # bytes between two `/`, on every usual file system
_MAX_SHOWN = 40

Outline = tuple[tuple[Polygon, ...], tuple[RunLengths, ...]]
"""The rings and the run lengths of one mask."""

_FORMAT = (
    "Expected rings [[x1, y1, x2, y2, ...], ...] or run lengths "
    '{"size": [height, width], "counts": ...}.'
)


def parse_outline(value: Any, where: str) -> Outline:
    """Return the rings and run lengths of one mask; none where the annotation is empty.

    Args:
        value: One ring list, one object of run lengths, or a list of both kinds.
        where: File and place, for the message.

    Raises:
        ValueError: If it is something else.
    """
    items = [value] if isinstance(value, dict) else value
    if not isinstance(items, list):
        raise ValueError(f"{where}: its mask is {_kind(value)}. {_FORMAT}")
    rings = tuple(_ring(item, where) for item in items if not isinstance(item, dict) and item != [])
    runs = tuple(_run_lengths(item, where) for item in items if isinstance(item, dict))
    return rings, runs


def parse_phrase(value: Any, where: str) -> str:
    """Return a phrase without blanks around it.

    Raises:
        ValueError: If it is no text, empty, or not in UTF-8.
    """
    if not isinstance(value, str) or not value.strip():
        raise ValueError(
            f"{where}: the name of what is annotated must be a text, got {value!r}. Write what is "
            'shown, as "blood vessel".'
        )
    check_letters(value, f"{where}: the name of what is annotated")
    return value.strip()


def check_letters(text: str, where: str) -> None:
    """Make sure that a text holds whole letters only, so that it can be written again.

    Raises:
        ValueError: If it holds half a letter, or a byte of another encoding.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{where} is not in UTF-8. Save the file as UTF-8.") from error


def plain_name(value: Any, where: str) -> str:
    """Return a name that a file can have.

    Raises:
        ValueError: If no file can be called so.
    """
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError(
            f"{where}: a file's name must be a text, got {value!r}. Write the path of the file."
        )
    try:
        length = max(map(len, os.fsencode(value).split(b"/")))
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{where}: no file can be called {value!r}. Save the annotation as UTF-8."
        ) from error
    if length > _MAX_NAME:
        raise ValueError(
            f"{where}: a file's name of {length} letters, '{value[:_MAX_SHOWN]}...'. Write the "
            "path of the file."
        )
    return value


def inner_name(value: Any, where: str) -> str:
    """Return a file's name below a folder, with `/` between folders.

    Raises:
        ValueError: If it is no name, or leads out of the folder.
    """
    value = plain_name(value, where)
    name = PurePosixPath(value.replace("\\", "/"))
    drive = len(name.parts[0]) == 2 and name.parts[0].endswith(":") if name.parts else False
    if name.is_absolute() or drive or ".." in name.parts or not name.parts:
        raise ValueError(
            f"{where}: file '{value}' must be a path inside the data folder. Write it relative to "
            "the folder of the images."
        )
    return str(name)


def _ring(value: Any, where: str) -> Polygon:
    numbers = value if isinstance(value, list) else None
    if numbers is None or not all(is_number(x) for x in numbers):
        raise ValueError(f"{where}: its mask holds {_kind(value)} for a ring. {_FORMAT}")
    return parse_ring(numbers, where)


def parse_ring(numbers: list[Any], where: str) -> Polygon:
    """Return a ring of numbers that an image may have.

    Raises:
        ValueError: If one of them is not finite, or beyond any image.
    """
    # A comparison, because a whole number in JSON may be too long for `float`.
    if not all(abs(x) < math.inf for x in numbers):
        raise ValueError(f"{where}: a ring holds NaN or infinity. Export the annotation again.")
    if any(abs(x) > 1e9 for x in numbers):
        raise ValueError(f"{where}: a ring leaves any image. Export the annotation again.")
    return tuple(float(x) for x in numbers)


def _run_lengths(value: dict[str, Any], where: str) -> RunLengths:
    size, counts = value.get("size"), value.get("counts")
    if not isinstance(size, list) or len(size) != 2 or not all(_is_count(x) for x in size):
        raise ValueError(f"{where}: run lengths with size {size!r}. {_FORMAT}")
    if isinstance(counts, str):
        return RunLengths(size=(size[0], size[1]), counts=counts)
    if not isinstance(counts, list) or not all(_is_count(x) for x in counts):
        raise ValueError(
            f'{where}: the "counts" of run lengths must be whole numbers of 0 at least, or COCO\'s '
            "compressed text. Export the annotation again."
        )
    return RunLengths(size=(size[0], size[1]), counts=tuple(counts))


def is_number(value: Any) -> bool:
    """Return whether a value of JSON is a number, which `true` is not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", type(None): "null"}
    return names.get(type(value), f"{value!r}")
