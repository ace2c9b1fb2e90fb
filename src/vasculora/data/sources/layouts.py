"""The closed table of data layouts, and the look at a folder that picks one.

The user never names a layout: each row knows its own by looking, the first that does is taken, and
the catalog says which.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from vasculora.core.arrays import ARCHIVE_SUFFIX
from vasculora.core.io import check_file
from vasculora.data.sources.arcade import looks_like_arcade, read_arcade
from vasculora.data.sources.catalog import Listing
from vasculora.data.sources.coco import looks_like_coco, read_coco
from vasculora.data.sources.coco_files import is_coco_file
from vasculora.data.sources.dicom import is_dicom_image, looks_like_dicom, read_dicom
from vasculora.data.sources.manifest import SUFFIX, looks_like_manifest, read_manifest
from vasculora.data.sources.npz import looks_like_npz, read_npz
from vasculora.data.sources.pairs import looks_like_pairs, read_pairs
from vasculora.data.sources.published import PUBLISHED
from vasculora.data.sources.rules import looks_like_set, read_set
from vasculora.data.sources.sa2va import ANNOTATIONS, looks_like_sa2va, read_sa2va

_MAX_FOLDERS = 50


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One way of arranging a data set.

    Attributes:
        name: What the catalog calls it.
        wanted: What was looked for, for the message when nothing is recognised; a public set is
            only named there.
        looks_like: Whether a folder is arranged so.
        read: Returns what the folder holds.
        origin: Who made the set and where to ask for it; empty where a layout is a format.
        terms: Under which terms it is given out.
        deep: Whether its files may lie in folders below, among which may be other data sets.
    """

    name: str
    wanted: str
    looks_like: Callable[[Path], bool]
    read: Callable[[Path], Listing]
    origin: str = ""
    terms: str = ""
    deep: bool = False


def find_layout(data: Path) -> Layout:
    """Return the layout of a folder, or of a file that lists a data set.

    Raises:
        FileNotFoundError: If there is nothing, or it is arranged in no known way.
    """
    if is_dicom_image(data):
        return DICOM
    if not data.is_dir() and data.suffix.lower() not in LISTS:
        what = "is a file, not a folder" if data.exists() else "no such folder"
        raise FileNotFoundError(f"{data}: {what}. Give the folder that holds the images.")
    if not data.is_dir():
        check_file(data, "file")
    layout = _recognised(data)
    below = _sets_below(data) if layout is None or layout.deep else {}
    if layout is not None and all(found is layout for found in below.values()):
        return layout
    if below:
        many = f"{len(below)} data sets" if len(below) > 1 else "a data set"
        listed = ", ".join(f"{name}/ ({layout.name})" for name, layout in below.items())
        raise FileNotFoundError(
            f"{data}: no data set itself, but holds {many}: {listed}. Choose one: "
            f"{data / next(iter(below))}"
        )
    if (data / "images").is_dir() and not (data / "masks").is_dir():
        raise FileNotFoundError(
            f"{data}: holds images/ and no masks/. Draw masks/NAME.png for each images/NAME.png, "
            "white where the vessel is."
        )
    entries = sorted(entry.name + "/" * entry.is_dir() for entry in data.iterdir())
    found = ", ".join(entries[:5]) + (" ..." if len(entries) > 5 else "") if entries else "nothing"
    wanted = "; ".join(f"'{layout.name}': {layout.wanted}" for layout in SOURCES if layout.wanted)
    public = ", ".join(layout.name for layout in SOURCES if layout.origin)
    raise FileNotFoundError(
        f"{data}: no data set recognised. Looked for {wanted}; or a public set as it was published "
        f"({public}). Found {found}. Arrange the images in one of these ways, or give the folder "
        "below or above."
    )


def _recognised(data: Path) -> Layout | None:
    return next((layout for layout in SOURCES if layout.looks_like(data)), None)


def _sets_below(data: Path) -> dict[str, Layout]:
    """Return the folders in a folder that are data sets, at most the first few."""
    found: dict[str, Layout] = {}
    inner = data.iterdir() if data.is_dir() else ()
    folders = sorted(path for path in inner if path.is_dir() and path.name[0] != ".")
    for folder in folders[:_MAX_FOLDERS]:
        layout = _recognised(folder)
        if layout is not None:
            found[folder.name] = layout
    return found


LISTS = (".json", SUFFIX, ARCHIVE_SUFFIX)
"""Suffixes of files that list or hold a data set; any other data is a folder, or a DICOM file."""

DICOM = Layout(
    name="dicom",
    wanted="DICOM files, in folders or alone",
    looks_like=looks_like_dicom,
    read=read_dicom,
    deep=True,
)

SOURCES = (
    Layout(
        name="manifest",
        wanted="a JSON Lines file with image, phrase and mask in each line",
        looks_like=looks_like_manifest,
        read=read_manifest,
    ),
    Layout(
        name="arcade",
        wanted="",
        looks_like=looks_like_arcade,
        read=read_arcade,
        origin="Popov et al. 2024, Scientific Data 11:20; doi.org/10.5281/zenodo.10390295",
        terms="a mirror says CC0 1.0; not verified",
    ),
    *(
        Layout(
            name=public.name,
            wanted="",
            looks_like=partial(looks_like_set, public),
            read=partial(read_set, public),
            origin=public.origin,
            terms=public.terms,
        )
        for public in PUBLISHED
    ),
    Layout(
        name="sa2va",
        wanted="annotations.json with polygons, and its images beside it or under images/",
        looks_like=lambda data: looks_like_sa2va(data) and not is_coco_file(data / ANNOTATIONS),
        read=read_sa2va,
    ),
    Layout(
        name="folder",
        wanted="images/ and masks/ with the same file names, or 7.png beside 7_gt.png",
        looks_like=looks_like_pairs,
        read=read_pairs,
    ),
    Layout(
        name="coco",
        wanted="a JSON of images, annotations and categories, beside them or in annotations/",
        looks_like=looks_like_coco,
        read=read_coco,
    ),
    Layout(
        name="npz",
        wanted="NumPy archives of arrays such as image and mask, or imgs and gts",
        looks_like=looks_like_npz,
        read=read_npz,
        deep=True,
    ),
    DICOM,
)
