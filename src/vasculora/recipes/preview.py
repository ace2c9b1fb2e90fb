"""Show what a model would learn from: augmented samples on one page, with outlines and phrases.

It goes through the same data set and the same augmentation as a training run, so what is seen here
is what is learnt there.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from vasculora.core.config import Seed
from vasculora.core.io import write_image
from vasculora.core.report import Report
from vasculora.core.types import Record, Sample
from vasculora.data.dataset import VesselDataset
from vasculora.data.modality import Modality
from vasculora.data.sources import read_source
from vasculora.data.transforms import build_augment, knows_modality
from vasculora.model.prompts import PromptConfig
from vasculora.recipes.modality import look
from vasculora.recipes.run_folder import check_annotated, refuse_inside
from vasculora.viz.fonts import find_font
from vasculora.viz.sheet import TEXT_SIZE, draw_sheet, outlined

_COLUMNS = 4


class PreviewConfig(BaseModel):
    """Settings of `vasculora data preview`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: Path
    """Folder of images and masks; it is only read."""
    augment: Literal["none", "light", "strong"] = "light"
    """How far images are varied; `light` is what a run does unless told otherwise."""
    modality: Literal["auto", "xray", "fundus", "octa"] = "auto"
    """Kind of picture whose light `strong` varies; `auto` looks at the images."""
    phrase: str = PromptConfig().phrase
    """What to segment where the data names nothing itself."""
    num: int = Field(default=16, ge=1, le=100)
    """Samples that are drawn."""
    seed: Seed = 0
    """The same seed shows the same samples."""


def preview(config: PreviewConfig, out: Path, *, report: Report) -> None:
    """Write a page of augmented samples, each with one of its masks and what that is called.

    Args:
        config: All settings.
        out: The page, NAME.png; an older one is replaced.
        report: Where is said what was done.

    Raises:
        FileNotFoundError: If there is no data set.
        ValueError: If it cannot be read, or `out` cannot take the page.
    """
    refuse_inside(config.data, out)
    if out.suffix.lower() != ".png":
        raise ValueError(f"{out}: a preview is a PNG picture. Give --out NAME.png.")
    records = read_source(config.data).records
    check_annotated(config.data, records)
    samples = _draw(config, records, _modality(config, records, report))
    captions = _captions(samples, report)
    tiles = [outlined(sample.image, sample.masks[0]) for sample in samples]
    write_image(out, draw_sheet(tiles, captions, _COLUMNS))
    report.note(f"{len(tiles)} samples as augment '{config.augment}' shows them: {out}")


def _modality(config: PreviewConfig, records: Sequence[Record], report: Report) -> Modality | None:
    if not knows_modality(config.augment):
        if config.modality != "auto":
            raise ValueError(
                f"modality {config.modality!r} only says how augment 'strong' varies light. Leave "
                "--modality out."
            )
        return None
    if config.modality != "auto":
        return config.modality
    return look(records, phrase=config.phrase, setting="--modality ", report=report)


def _draw(
    config: PreviewConfig, records: Sequence[Record], modality: Modality | None
) -> list[Sample]:
    """Return samples with one mask each, of all cases in turn, epoch after epoch."""
    data = VesselDataset(
        records,
        phrase=config.phrase,
        transform=build_augment(config.augment, modality),
        seed=config.seed,
        allow_empty=True,
    )
    order = np.random.default_rng(config.seed).permutation(len(data)).tolist()
    samples = []
    for place in range(config.num):
        epoch, index = divmod(place, len(order))
        data.set_epoch(epoch)
        samples.append(_one_of(data[order[index]]))
    return samples


def _one_of(sample: Sample) -> Sample:
    """Return a sample with one of the things it shows, or with the first where it shows none."""
    shown = np.flatnonzero(sample.masks.any(axis=(1, 2))).tolist() or [0]
    chosen = shown[sample.lot % len(shown)]
    return Sample(
        case_id=sample.case_id,
        group=sample.group,
        image=sample.image,
        masks=sample.masks[chosen : chosen + 1],
        phrases=(sample.phrases[chosen],),
    )


def _captions(samples: Sequence[Sample], report: Report) -> list[str]:
    """Return what stands under each sample; what no font here can draw is told instead."""
    numbers: dict[str, int] = {}
    captions = []
    for sample in samples:
        text = sample.phrases[0] + ("" if sample.masks.any() else " (absent)")
        if find_font(text, TEXT_SIZE) is None:
            text = f"[{numbers.setdefault(text, len(numbers) + 1)}]"
        captions.append(text)
    if numbers:
        told = ", ".join(f"[{number}] {text}" for text, number in numbers.items())
        report.note(
            f"No font of this machine has the letters of some phrases, so they are numbered: {told}"
        )
    return captions
