"""Segment images with a model: probability, mask and overlay of each, at the image's own size."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vasculora.core.io import IMAGE_SUFFIXES, read_image, write_image
from vasculora.core.report import Report
from vasculora.core.runtime import pick_device, pick_dtype
from vasculora.model.official.config import OfficialConfig
from vasculora.model.predictor import Predictor
from vasculora.model.pretrained import open_model
from vasculora.recipes.config import PredictConfig
from vasculora.viz.overlays import overlay


def predict(
    config: PredictConfig, images: Sequence[Path], out: Path, *, report: Report
) -> list[Path]:
    """Write the three pictures of each image, and return the paths of the masks.

    Args:
        config: All settings.
        images: Image files, or folders of them.
        out: Where the pictures go.
        report: Where progress goes.

    Raises:
        ValueError: If an image cannot be read or two would share their output's name.
        FileNotFoundError: If an image or the model is not there.
    """
    paths = _find_images(images)
    predictor = open_predictor(
        config.model,
        official=config.official,
        phrase=config.phrase,
        threshold=config.threshold,
        window=config.window,
        gpu=config.gpu,
    )
    masks = []
    with report.progress(len(paths), "Predicting") as bar:
        for path in paths:
            image = read_image(path)
            prediction = predictor(image)
            if not prediction.seg_found:
                report.warn(f"{path}: the answer has no [SEG], so its mask is empty.")
            stem = out / path.stem
            write_image(_named(stem, "prob"), (prediction.prob * 255).round().astype(np.uint8))
            write_image(_named(stem, "mask"), prediction.mask.astype(np.uint8) * 255)
            write_image(_named(stem, "overlay"), overlay(image, prediction.mask))
            masks.append(_named(stem, "mask"))
            bar.advance()
    report.note(f"{len(paths)} images segmented, written to {out}.")
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


def _find_images(images: Sequence[Path]) -> list[Path]:
    """Return the image files that are named, those in a named folder sorted."""
    paths: list[Path] = []
    for image in images:
        found = sorted(p for p in image.iterdir() if _is_image(p)) if image.is_dir() else [image]
        if not found:
            raise FileNotFoundError(f"{image}: no images in this folder. Give image files.")
        paths += found
    seen: dict[str, Path] = {}
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such image.")
        other = seen.setdefault(path.stem, path)
        if other != path:
            raise ValueError(
                f"{other} and {path} would both be written as {path.stem}_mask.png. "
                "Predict them into two folders."
            )
    return list(seen.values())


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES
