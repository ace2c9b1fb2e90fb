"""What a source says about a folder: first with the user's own names, then safe to write.

Readers return a `Listing`, whose names may be patients' names. `read_source` turns it into a
`Catalog`, in which every name is a case id that may be written anywhere. Nothing else leaves this
room.
"""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from vasculora.core.io import write_private_text
from vasculora.core.spacing import Spacing
from vasculora.core.types import Record, Target
from vasculora.data.splits import Part, Split


@dataclass(frozen=True, kw_only=True)
class Case:
    """One image under its own name.

    Attributes:
        file_name: Path of the image below the images folder, with `/` between folders.
        image_path: The image file.
        targets: What is annotated in it; none where it is not annotated.
        group: Patient, eye or run by the layout's own rule; None where it has none.
        part: Part the data set itself puts it in; None where it says nothing.
        fov_path: A file that is white where the case is scored; None for all of it.
        second_path: A second observer's mask file, where there is one target; or None.
        spacing: Millimetres a pixel, down the rows and across the columns; None where not known.
        frame: Which picture of a DICOM file, or None.
        identity: What its pseudonym is made of, the frame apart; empty for its name.
    """

    file_name: str
    image_path: Path
    targets: tuple[Target, ...]
    group: str | None = None
    part: Part | None = None
    fov_path: Path | None = None
    second_path: Path | None = None
    spacing: Spacing | None = None
    frame: int | None = None
    identity: str = ""

    @property
    def name(self) -> str:
        """Path below the images folder without the suffix."""
        return without_suffix(self.file_name)


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What a reader found in a folder, under the user's own names.

    Attributes:
        cases: The images, in any order.
        unused: What was found but is not used: a reason (as `images without a mask`) and the file
            names.
        notes: Remarks that hold no file name.
        group_rule: Where the cases' own groups come from, as `from the child in the name`.
        in_order: Whether the order of the cases is meant; else they are sorted by name.
        private: Whether names of files and folders are private whatever they look like.
    """

    cases: tuple[Case, ...]
    unused: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...] = ()
    group_rule: str = ""
    in_order: bool = False
    private: bool = False


@dataclass(frozen=True, kw_only=True)
class Catalog:
    """A data folder as the rest of the program sees it.

    Attributes:
        source: Name of the layout that was recognised, as `folder`.
        records: The images, by file name (the user's own one, also where it is hidden).
        notes: Lines to show the user: what was found, what is not used, how cases were grouped.
        private_names: Own name of each pseudonymous case; empty where names are no secret. It may
            be written by `write_private_names` only.
        split: The split the data brings along (`split.json`, or parts of its own), or None.
        secret: Whether neither `private_names` nor the path of the data may be written, not even
            for its owner: they are those of DICOM files.
    """

    source: str
    records: tuple[Record, ...]
    notes: tuple[str, ...]
    private_names: Mapping[str, str] = field(default_factory=dict)
    split: Split | None = None
    secret: bool = False


def without_suffix(file_name: str) -> str:
    """Return a file name, with its folders, without the suffix."""
    return str(PurePosixPath(file_name).with_suffix(""))


def write_private_names(path: Path, private_names: Mapping[str, str]) -> None:
    """Write the table from case ids to the user's own names, readable by him only.

    Raises:
        OSError: If the file cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("case_id", "name"))
    writer.writerows(sorted(private_names.items()))
    write_private_text(path, text.getvalue())
