"""What the loss compares with, chosen by what it allows: the ceilings of the training masks.

Comparing at the image's own size allows most, always. Shares on the decoder's grid cost less, but
thin vessels are lost in them. So they are taken only where they lose next to nothing and images are
so large that the other way costs much: on every public set looked at, `full` was chosen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from jaxtyping import Bool

from vasculora.core.geometry import TargetRule
from vasculora.core.report import Report
from vasculora.core.types import Record, Sample
from vasculora.data.dataset import load_sample
from vasculora.metrics.ceiling import perfect_prediction
from vasculora.metrics.mask import count, dice
from vasculora.model.pretrained import OpenedModel
from vasculora.model.processor import ProcessorConfig
from vasculora.model.tiles import cut_windows
from vasculora.recipes.config import FinetuneConfig

Item = TypeVar("Item")

RULES: tuple[TargetRule, ...] = ("full", "area", "nearest")
LOW = 0.9
"""Dice below which a ceiling is worth a warning."""

_CLOSE = 0.01  # Dice that `area` may lose
_LARGE = 512 * 512  # pixels up to which a loss at full size costs little beside the model
_PER_CELL = 4
_MOST_PIXELS, _MOST_MASKS = 3_000_000, 6  # what is measured, so that it takes seconds
_NUM_STEPS = 20


@dataclass(frozen=True, kw_only=True)
class TargetChoice:
    """A target rule, and why.

    Attributes:
        rule: The one chosen.
        ceilings: Mean Dice a perfect model could reach, by rule.
        num_masks: Masks they were measured on.
    """

    rule: TargetRule
    ceilings: Mapping[TargetRule, float]
    num_masks: int

    def told(self) -> str:
        """Return the choice in a sentence."""
        known = ", ".join(f"{rule} {value:.2f}" for rule, value in self.ceilings.items())
        masks = "mask" if self.num_masks == 1 else "masks"
        return (
            f"Target: {self.rule} (best Dice that this base's mask grid allows: {known}; on "
            f"{self.num_masks} {masks})."
        )


def settle_target(
    config: FinetuneConfig, opened: OpenedModel, records: Sequence[Record], report: Report
) -> tuple[FinetuneConfig, OpenedModel]:
    """Return settings and model with a target rule in place of `auto`, and say which.

    Nothing random is drawn, so the same data gives the same rule.

    Args:
        config: The run's settings.
        opened: The base.
        records: What is learnt from, every case found usable.
        report: Where the choice is told.
    """
    if config.target != "auto":
        return config, opened
    processor, prompt = opened.memory.processor, opened.memory.prompt
    if config.objective == "official":
        rule: TargetRule = "full"  # it makes its own coarse truth
    else:
        choice = choose_target(records, processor, phrase=prompt.phrase)
        rule = choice.rule
        report.note(choice.told())
        _warn_if_low(choice, processor, report)
    processor = processor.model_copy(update={"target": rule})
    settled = opened.with_settings(processor=processor, prompt=prompt)
    return config.model_copy(update={"target": rule}), settled


def choose_target(
    records: Sequence[Record], processor: ProcessorConfig, *, phrase: str
) -> TargetChoice:
    """Return the target rule for some cases, by the ceilings of a few of them.

    Args:
        records: The cases; a few are opened, evenly spread.
        processor: Grid, sizes and windows.
        phrase: Name of targets for which the data set has none.
    """
    masks = _some_masks(records, processor, phrase)
    if not masks:
        return TargetChoice(rule="full", ceilings={}, num_masks=0)
    ceilings = {rule: _mean_dice(masks, rule, processor) for rule in RULES}
    pixels = float(np.mean([mask.size for mask in masks]))
    costly = pixels > max(_LARGE, _PER_CELL * processor.mask_size**2)
    close = ceilings["area"] >= ceilings["full"] - _CLOSE
    rule: TargetRule = "area" if costly and close else "full"
    return TargetChoice(rule=rule, ceilings=ceilings, num_masks=len(masks))


def fullest_view(
    mask: Bool[np.ndarray, "h w"], processor: ProcessorConfig
) -> Bool[np.ndarray, "_ _"]:
    """Return a mask as the model is shown it: whole, or in the window that shows most of it."""
    windows = cut_windows(
        (mask.shape[0], mask.shape[1]),
        window=processor.window,
        overlap=processor.window_overlap,
    )
    return max((mask[window] for window in windows), key=np.count_nonzero)


def shown_mask(
    sample: Sample, processor: ProcessorConfig, *, turn: int
) -> Bool[np.ndarray, "_ _"] | None:
    """Return one of a case's masks that are not empty, as the model is shown it; None without any.

    Args:
        sample: The case.
        processor: Windows.
        turn: Which of its masks, counted round: another one from case to case.
    """
    masks = [mask for mask in sample.masks if mask.any()]
    return fullest_view(masks[turn % len(masks)], processor) if masks else None


def evenly(items: Sequence[Item], num: int) -> list[Item]:
    """Return at most `num` of some things, evenly spread from the first to the last."""
    places = np.linspace(0, len(items) - 1, min(num, len(items))).round().astype(int)
    return [items[place] for place in places.tolist()]


def _some_masks(
    records: Sequence[Record], processor: ProcessorConfig, phrase: str
) -> list[Bool[np.ndarray, "_ _"]]:
    """Return a mask of each of a few cases, evenly spread, that together are not too large."""
    masks: list[Bool[np.ndarray, "_ _"]] = []
    for record in evenly(records, _MOST_MASKS):
        sample = load_sample(record, phrase=phrase, allow_empty=True)
        mask = shown_mask(sample, processor, turn=len(masks))
        masks += [] if mask is None else [mask]
        if sum(mask.size for mask in masks) >= _MOST_PIXELS:
            break
    return masks


def _mean_dice(
    masks: Sequence[Bool[np.ndarray, "_ _"]], rule: TargetRule, processor: ProcessorConfig
) -> float:
    found = []
    for mask in masks:
        pred = perfect_prediction(
            mask,
            rule,
            grid=processor.mask_size,
            sam_size=processor.sam_size,
            fit=processor.fit,
            num_steps=_NUM_STEPS,
        )
        found.append(dice(count(pred, mask)))
    return float(np.mean(found))


def _warn_if_low(choice: TargetChoice, processor: ProcessorConfig, report: Report) -> None:
    best = choice.ceilings.get(choice.rule, 1.0)
    if best >= LOW:
        return
    windows = (
        "Cut the images into smaller windows (--set window.size=PIXELS)"
        if processor.window is None
        else "Make the windows smaller"
    )
    report.warn(
        f"even a perfect model could reach only Dice {best:.2f} on these masks, because they have "
        f"{processor.mask_size} x {processor.mask_size} cells an image and the vessels are thinner "
        f"than those. {windows}, or use a base with more cells; `vasculora data check` shows what "
        "each grid allows."
    )
