"""The source `arcade`: coronary angiograms whose categories are segments of the SYNTAX score.

A category is a number such as `12a`, which no sentence would say; here it becomes the segment's
name. Names and numbers are those of the SYNTAX score (Sianos et al., EuroIntervention 2005;1:
219-227; the score's tutorial repeats them), with vessels written out. A letter there counts the
branches by their origins, so it stays in the phrase with the number.
"""

from dataclasses import replace
from pathlib import Path

from vasculora.data.sources.catalog import Listing
from vasculora.data.sources.coco import category_names, read_coco

_SEGMENTS = {
    "1": "proximal right coronary artery",
    "2": "mid right coronary artery",
    "3": "distal right coronary artery",
    "4": "posterior descending artery from the right coronary artery",
    "5": "left main coronary artery",
    "6": "proximal left anterior descending artery",
    "7": "mid left anterior descending artery",
    "8": "apical left anterior descending artery",
    "9": "first diagonal branch",
    "9a": "additional first diagonal branch",
    "10": "second diagonal branch",
    "10a": "additional second diagonal branch",
    "11": "proximal left circumflex artery",
    "12": "intermediate artery",
    "12a": "first obtuse marginal branch",
    "12b": "second obtuse marginal branch",
    "13": "distal left circumflex artery",
    "14": "left posterolateral branch",
    "14a": "first additional left posterolateral branch",
    "14b": "second additional left posterolateral branch",
    "15": "posterior descending artery from the left circumflex artery",
    "16": "posterolateral branch from the right coronary artery",
    "16a": "first posterolateral branch from the right coronary artery",
    "16b": "second posterolateral branch from the right coronary artery",
    "16c": "third posterolateral branch from the right coronary artery",
}

PHRASES = {number: f"{name} (segment {number})" for number, name in _SEGMENTS.items()} | {
    "stenosis": "coronary artery stenosis"
}
"""What each of ARCADE's categories is called."""


def looks_like_arcade(data: Path) -> bool:
    """Return whether there are COCO files whose categories are just the SYNTAX segments."""
    names = category_names(data)
    return set(_SEGMENTS) <= names <= set(PHRASES)


def read_arcade(data: Path) -> Listing:
    """Return the annotated angiograms, one target for each segment an image shows.

    Raises:
        FileNotFoundError: If none of the listed images is there.
        ValueError: If a file is not in COCO's form.
    """
    listing = read_coco(data, PHRASES)
    note = (
        "Only SYNTAX segments are annotated: other visible branches and the catheter are "
        "background, so a mask of the whole tree scores too low."
    )
    return replace(listing, notes=(*listing.notes, note))
