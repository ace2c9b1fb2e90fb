"""The closed table of data layouts, and the look at a folder that picks one.

The user never names a layout: each row knows its own by looking, the first that does is taken, and
the catalog says which.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vasculora.data.sources.catalog import Listing
from vasculora.data.sources.pairs import looks_like_pairs, read_pairs
from vasculora.data.sources.sa2va import looks_like_sa2va, read_sa2va


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One way of arranging a data set.

    Attributes:
        name: What the catalog calls it.
        wanted: What was looked for, for the message when nothing is recognised.
        looks_like: Whether a folder is arranged so.
        read: Returns what the folder holds.
    """

    name: str
    wanted: str
    looks_like: Callable[[Path], bool]
    read: Callable[[Path], Listing]


def find_layout(data_dir: Path) -> Layout:
    """Return the layout of a folder.

    Raises:
        FileNotFoundError: If the folder is not there or arranged in no known way.
    """
    if not data_dir.is_dir():
        what = "is a file, not a folder" if data_dir.exists() else "no such folder"
        raise FileNotFoundError(f"{data_dir}: {what}. Give the folder that holds the images.")
    for layout in SOURCES:
        if layout.looks_like(data_dir):
            return layout
    entries = sorted(entry.name + "/" * entry.is_dir() for entry in data_dir.iterdir())
    found = ", ".join(entries[:5]) + (" ..." if len(entries) > 5 else "") if entries else "nothing"
    wanted = "; ".join(f"'{layout.name}': {layout.wanted}" for layout in SOURCES)
    raise FileNotFoundError(
        f"{data_dir}: no data set recognised. Looked for {wanted}. Found {found}. Arrange the "
        "images in one of these ways, or give the folder below or above."
    )


SOURCES = (
    Layout(
        name="sa2va",
        wanted="annotations.json with polygons, and its images beside it or under images/",
        looks_like=looks_like_sa2va,
        read=read_sa2va,
    ),
    Layout(
        name="folder",
        wanted="images/ and masks/ with the same file names, or 7.png beside 7_gt.png",
        looks_like=looks_like_pairs,
        read=read_pairs,
    ),
)
