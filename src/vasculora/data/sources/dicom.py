"""The source `dicom`: files and folders of DICOM images, not annotated; and DICOM in other sources.

Every picture of a file is a case; which of a cine's are wanted is chosen later. Names of files and
folders count as names of patients, as they often are: a case is known by the unique id of its file
(SOPInstanceUID; its path where there is none) and the frame, a group by its patient, and both leave
this room as pseudonyms. The same file found twice is one.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from filecmp import cmp
from pathlib import Path

from vasculora.core.dicom_file import DICOM_SUFFIXES, Header, is_dicom, read_header
from vasculora.core.io import IMAGE_SUFFIXES
from vasculora.core.types import Target
from vasculora.data.sources.catalog import Case, Listing
from vasculora.data.sources.files import list_files

NO_IMAGES = "DICOM files that are no images"
COPIES = "copies of a file that is used"


@dataclass(frozen=True, kw_only=True)
class DicomFile:
    """A DICOM file under its own name.

    Attributes:
        path: The file.
        name: Path below the data folder, without `.dcm`.
        header: What it says of itself.
    """

    path: Path
    name: str
    header: Header


def looks_like_dicom(data: Path) -> bool:
    """Return whether the path is a DICOM file, or a folder with one in it or below."""
    return next(_files(data), None) is not None


def read_dicom(data: Path) -> Listing:
    """Return every picture of every DICOM file, none of them annotated.

    Raises:
        ValueError: If a file cannot be read, or none holds an image.
    """
    root = data if data.is_dir() else data.parent
    files = [dicom_file(path, path.relative_to(root).as_posix()) for path in _files(data)]
    images = [file for file in files if file.header.num_frames]
    if not images:
        raise ValueError(
            f"{data}: {len(files)} DICOM files, but none holds an image. Give the folder of the "
            "images."
        )
    used, copies = _without_copies(images)
    cases = tuple(dicom_case(file, frame) for file in used for frame in frames_in(file))
    unused = {
        NO_IMAGES: tuple(file.name for file in files if not file.header.num_frames),
        COPIES: tuple(file.name for file in copies),
    }
    return Listing(
        cases=cases,
        unused=unused,
        notes=_notes(data, used, num_files=len(files)),
        group_rule=group_rule(used),
        private=True,
    )


def is_dicom_image(path: Path) -> bool:
    """Return whether a file is DICOM; one with an image's suffix is taken for that image."""
    return path.suffix.lower() not in IMAGE_SUFFIXES and is_dicom(path)


def dicom_file(path: Path, file_name: str) -> DicomFile:
    """Return a DICOM file with what it says of itself.

    Args:
        path: The file.
        file_name: Its path below the data folder.

    Raises:
        ValueError: If it cannot be read.
    """
    return DicomFile(path=path, name=dicom_stem(file_name), header=read_header(path))


def dicom_stem(file_name: str) -> str:
    """Return the name of a DICOM file without `.dcm`; what follows another dot belongs to it."""
    suffix = Path(file_name).suffix
    return file_name.removesuffix(suffix) if suffix.lower() in DICOM_SUFFIXES else file_name


def frames_in(file: DicomFile) -> Sequence[int | None]:
    """Return the frames of a file as records number them: None where there is a single one."""
    return range(file.header.num_frames) if file.header.num_frames > 1 else (None,)


def check_frame(file: DicomFile, frame: int | None, where: str, cure: str) -> int | None:
    """Return the frame as records number it.

    Args:
        file: The file.
        frame: The frame that is asked for, or None.
        where: Who asks, for the message.
        cure: What to do where several frames are there and none is named.

    Raises:
        ValueError: If there is no such frame, or it is not said which.
    """
    count = file.header.num_frames
    if not count:
        raise ValueError(f"{where}: {file.path} is DICOM but no image. Take it out.")
    if frame is None and count > 1:
        raise ValueError(f"{where}: {file.path} holds {count} frames. {cure}")
    if frame is not None and frame >= count:
        raise ValueError(
            f"{where}: {file.path} has no frame {frame}; it holds {count}, which count from 0 to "
            f"{count - 1}."
        )
    return frame if count > 1 else None


def dicom_case(
    file: DicomFile,
    frame: int | None,
    *,
    targets: tuple[Target, ...] = (),
) -> Case:
    """Return a picture of a DICOM file as a case.

    Args:
        file: The file.
        frame: Which of its pictures, or None.
        targets: What is annotated in it.
    """
    instance = file.header.instance
    return Case(
        # The suffix is taken off again when the case is named.
        file_name=file.name + frame_tag(frame) + DICOM_SUFFIXES[0],
        image_path=file.path,
        targets=targets,
        group=file.header.patient or f"file {file.name}",
        spacing=file.header.spacing,
        frame=frame,
        identity=f"instance {instance}" if instance else f"file {file.name}",
    )


def frame_tag(frame: int | None) -> str:
    """Return what tells a frame in the name of a case: `_f031`; nothing for a single picture."""
    return "" if frame is None else f"_f{frame:03d}"


def group_rule(files: Sequence[DicomFile]) -> str:
    """Return where the groups of DICOM files come from, and what nobody can be found for."""
    counts = Counter(file.header.patient_by for file in files)
    told = " and ".join(
        f"{what} in {count} DICOM files" if count > 1 else f"{what} in a DICOM file"
        for what, count in counts.most_common()
        if what != "nothing"
    )
    alone = counts["nothing"]
    rest = f"{alone} DICOM files that name no patient are a group each" if alone else ""
    return "; ".join(part for part in (f"from {told}" if told else "", rest) if part)


def _without_copies(images: Sequence[DicomFile]) -> tuple[list[DicomFile], list[DicomFile]]:
    """Return the files, and those whose id and bytes are another's too."""
    used: list[DicomFile] = []
    copies: list[DicomFile] = []
    by_instance: dict[str, list[DicomFile]] = {}
    for file in images:
        others = by_instance.setdefault(file.header.instance, [])
        if file.header.instance and any(cmp(file.path, o.path, shallow=False) for o in others):
            copies.append(file)
            continue
        others.append(file)
        used.append(file)
    return used, copies


def _notes(data: Path, files: Sequence[DicomFile], *, num_files: int) -> tuple[str, ...]:
    cines = [file.header.num_frames for file in files if file.header.num_frames > 1]
    notes = [f"DICOM: {len(files)} files of images, {len(cines)} of several frames."]
    others = len(list_files(data, suffixes=("",)).plain) - num_files if data.is_dir() else 0
    if others:
        notes.append(f"Not used: what is not DICOM, {others} in number.")
    burned_in = sum(file.header.burned_in for file in files)
    if burned_in:
        notes.append(
            f"Warning: {burned_in} files say that text is burned into their pictures "
            "(BurnedInAnnotation). It may name the patient; look before you pass them on."
        )
    return tuple(notes)


def _files(data: Path) -> Iterator[Path]:
    """Yield the DICOM files at a path, in order."""
    found = [data]
    if data.is_dir():
        found = [data / name for name in list_files(data, suffixes=("",)).plain]
    yield from (path for path in found if is_dicom_image(path))
