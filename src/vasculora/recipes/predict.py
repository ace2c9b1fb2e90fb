"""Segment images with a model: probability, mask and overlay of each, at the image's own size."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vasculora.core.io import read_image, write_image
from vasculora.core.report import Report
from vasculora.core.runtime import pick_device, pick_dtype
from vasculora.core.types import Record
from vasculora.data.sources import read_pictures
from vasculora.data.sources.dicom import looks_like_dicom
from vasculora.data.sources.files import list_files
from vasculora.model.official.config import OfficialConfig
from vasculora.model.predictor import Predictor
from vasculora.model.pretrained import open_model
from vasculora.recipes.answering import build_answerer, refuse_idle_views
from vasculora.recipes.config import PredictConfig
from vasculora.recipes.frames import tell_greys, wanted_frames
from vasculora.recipes.run_folder import refuse_loss
from vasculora.viz.overlays import overlay

_MAX_TOLD = 20
_KINDS = ("prob", "mask", "overlay")
"""The pictures of an image, in the order they are written."""


@dataclass(frozen=True, kw_only=True)
class _Picture:
    """What is segmented.

    Attributes:
        name: What its pictures are called by; names nobody where the file is DICOM.
        path: The file.
        frame: Which picture of it, or None.
    """

    name: str
    path: Path
    frame: int | None = None


def predict(
    config: PredictConfig, images: Sequence[Path], out: Path, *, report: Report
) -> list[Path]:
    """Write the three pictures of each image, and return the paths of the masks.

    What is written of DICOM files is called by pseudonyms; which is which is said, not written.

    Args:
        config: All settings.
        images: Image files, DICOM among them, or folders of them.
        out: Where the pictures go.
        report: Where progress goes.

    Raises:
        ValueError: If an image cannot be read, two would share their output's name, a file of
            another origin would be written over, or a setting would change nothing.
        FileNotFoundError: If an image or the model is not there.
    """
    pictures = _find_images(images, config, report)
    _refuse_loss(pictures, out)
    predictor = open_predictor(
        config.model,
        official=config.official,
        phrase=config.phrase,
        threshold=config.threshold,
        window=config.window,
        gpu=config.gpu,
    )
    phrase = predictor.processor.prompt.phrase
    refuse_idle_views(config.answer.tta, [phrase])
    answerer = build_answerer(
        predictor,
        tta=config.answer.tta,
        min_size=config.answer.min_size,
        hysteresis=config.answer.hysteresis,
    )
    masks = []
    with report.progress(len(pictures), "Predicting") as bar:
        for picture in pictures:
            image = read_image(picture.path, picture.frame)
            (prediction,) = answerer.predict_batch([str(picture.path)], [image], [phrase])
            if not prediction.seg_found:
                report.warn(f"{picture.path}: the answer has no [SEG], so its mask is empty.")
            stem = out / picture.name
            write_image(_named(stem, "prob"), (prediction.prob * 255).round().astype(np.uint8))
            write_image(_named(stem, "mask"), prediction.mask.astype(np.uint8) * 255)
            write_image(_named(stem, "overlay"), overlay(image, prediction.mask))
            masks.append(_named(stem, "mask"))
            bar.advance()
    report.note(f"Images segmented: {len(pictures)}, written to {out}.")
    return masks


def open_predictor(
    model: str,
    *,
    official: OfficialConfig,
    phrase: str | None,
    threshold: float | None,
    window: int | None = None,
    gpu: int | None,
) -> Predictor:
    """Return a predictor with another phrase, threshold or window where one is given.

    Args:
        model: Which model.
        official: How an official checkpoint is read.
        phrase: What to segment; None takes the model's own.
        threshold: Probability above which a pixel counts; None takes the model's own.
        window: Side in pixels of the windows of large images; 0 shows whole images, None takes the
            model's own.
        gpu: Index of the GPU, or None.
    """
    device = pick_device(gpu)
    opened = open_model(model, device=device, dtype=pick_dtype(device), official=official)
    processor, prompt = opened.memory.processor, opened.memory.prompt
    if phrase is not None:
        prompt = prompt.model_copy(update={"phrase": phrase})
    if threshold is not None:
        processor = processor.model_copy(update={"threshold": threshold})
    if window is not None:
        processor = processor.model_copy(update={"window": window or None})
    return Predictor.of(opened.with_settings(processor=processor, prompt=prompt))


def _named(stem: Path, what: str) -> Path:
    return stem.with_name(f"{stem.name}_{what}.png")


def _find_images(images: Sequence[Path], config: PredictConfig, report: Report) -> list[_Picture]:
    """Return the pictures of the files that are named, and of those in a named folder, sorted."""
    pictures: list[_Picture] = []
    records: list[Record] = []
    for image in images:
        found = list(_plain_images(image))
        dicom = read_pictures(image).records if looks_like_dicom(image) else ()
        if not found and not dicom:
            raise FileNotFoundError(f"{image}: no images in this folder. Give image files.")
        pictures += found
        records += dicom
    if records or config.frames is not None:
        chosen = wanted_frames(records, config.frames, report=report)
        tell_greys(chosen, report)
        _tell_names(chosen, report)
        pictures += [
            _Picture(name=record.case_id, path=record.image_path, frame=record.frame)
            for record in chosen
        ]
    return _without_doubles(pictures)


def _plain_images(image: Path) -> Iterator[_Picture]:
    """Yield the pictures at a path that are no DICOM files."""
    if not image.is_dir() and looks_like_dicom(image):
        return
    paths = [image]
    if image.is_dir():
        files = list_files(image, deep=False)
        paths = [image / name for name in sorted(files.plain + files.odd)]
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such image. Check the path.")
        yield _Picture(name=path.stem, path=path)


def _without_doubles(pictures: Sequence[_Picture]) -> list[_Picture]:
    seen: dict[str, _Picture] = {}
    for picture in pictures:
        other = seen.setdefault(picture.name, picture)
        if other != picture:
            raise ValueError(
                f"{other.path} and {picture.path} would both be written as "
                f"{picture.name}_mask.png. Predict them into two folders."
            )
    return list(seen.values())


def _refuse_loss(pictures: Sequence[_Picture], out: Path) -> None:
    """Make sure that no image is written over, and no mask that somebody drew."""
    images = {os.path.realpath(picture.path) for picture in pictures}
    for picture in pictures:
        files = [_named(out / picture.name, kind) for kind in _KINDS]
        for path in files:
            if os.path.realpath(path) in images:
                raise ValueError(
                    f"{path} is an image that is to be segmented, so it would be lost. Choose "
                    "another --out."
                )
        refuse_loss(files)


def _tell_names(records: Sequence[Record], report: Report) -> None:
    """Show the user, and nobody else, what his files are called in what is written."""
    names = {record.image_path: record.case_id for record in reversed(records)}
    if not names:
        return
    lines = [f"  {names[path]}: {path}" for path in list(reversed(names))[:_MAX_TOLD]]
    if len(names) > _MAX_TOLD:
        lines.append(
            f"  ... and {len(names) - _MAX_TOLD} more; `vasculora data import FOLDER --out "
            "names.jsonl --keep-names` lists all of them, for your own eyes."
        )
    report.warn("\n".join(["DICOM files are written under pseudonyms:", *lines]))
