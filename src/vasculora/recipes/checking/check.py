"""Look at a data set before anything is learnt from it: what it is, what is wrong, what it allows.

    list the data -> open every image -> split it as a run would -> near-duplicates -> the best
    score a perfect model could reach -> findings, tables, a sheet of pictures

Nothing stops at the first bad case, and no model is opened: of the base only its sizes are read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from jaxtyping import Bool
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from vasculora.core.config import Seed
from vasculora.core.geometry import TargetRule
from vasculora.core.report import Report
from vasculora.core.types import Record
from vasculora.data.dataset import load_sample
from vasculora.data.leaks import find_near_duplicates
from vasculora.data.sources import Catalog, read_source
from vasculora.metrics.ceiling import Ceiling, ceiling
from vasculora.metrics.thinning import centreline
from vasculora.model.base import find_folder, read_plan
from vasculora.model.memory import Memory
from vasculora.model.official.config import OfficialConfig
from vasculora.model.pretrained import ADAPTER_NAME, read_run
from vasculora.model.processor import ProcessorConfig
from vasculora.recipes.checking.faults import Finding, Level, find_faults
from vasculora.recipes.checking.survey import Survey, survey
from vasculora.recipes.config import DataConfig
from vasculora.recipes.split import Looks, choose_split
from vasculora.recipes.target import RULES, TargetChoice, choose_target, fullest_view

OFFICIAL = (256, 1024)
"""Mask grid and image side of the official checkpoints."""

_LEAST, _MOST_PIXELS = 3, 8_000_000  # what ceilings are measured on: a minute or so at most


class CheckConfig(BaseModel):
    """Settings of `vasculora data check`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: DataConfig
    """Which images, and how a run would split them."""
    model: str = "nano"
    """The base whose mask grid and sizes count: `nano`, a base model's folder or a run's folder."""
    official: OfficialConfig = OfficialConfig()
    """How an official checkpoint is read."""
    phrase: str | None = None
    """Name of what the data set names nothing for; None takes the base's own."""
    grids: tuple[PositiveInt, ...] = ()
    """Further mask grids, in cells a side, for which ceilings are measured."""
    image_sizes: tuple[PositiveInt, ...] = ()
    """Further sides of SAM 2's input in pixels; each is measured with each of `grids`."""
    num_ceilings: int = Field(default=12, ge=0)
    """Masks on which ceilings are measured, drawn by the seed: fewer where images are large, but 3
    at least; 0 measures none."""
    seed: Seed = 0
    """Seed of the split and of what is drawn."""


@dataclass(frozen=True, kw_only=True)
class CeilingRow:
    """What one base and one target rule allow at best, over some masks.

    Attributes:
        grid: Side of the mask grid in cells.
        image_size: Side of SAM 2's input in pixels.
        rule: What the loss compares with.
        dice: One a mask.
        cldice: One a mask.
        own: Whether it is the base's own grid and size.
    """

    grid: int
    image_size: int
    rule: TargetRule
    dice: tuple[float, ...]
    cldice: tuple[float, ...]
    own: bool


@dataclass(frozen=True, kw_only=True)
class Check:
    """What was found about a data set.

    Attributes:
        catalog: The data.
        survey: What is known of each case.
        part_of: Part of the split by case id; empty where it cannot be split.
        findings: What is wrong or odd, errors first.
        ceilings: A row a grid, size and rule.
        choice: The target rule a run would take; None where nothing can be learnt from.
        phrase: Name of what the data set names nothing for.
        model: Name of the base.
    """

    catalog: Catalog
    survey: Survey
    part_of: Mapping[str, str]
    findings: tuple[Finding, ...]
    ceilings: tuple[CeilingRow, ...]
    choice: TargetChoice | None
    phrase: str
    model: str

    @property
    def errors(self) -> tuple[Finding, ...]:
        """What a run must not begin with."""
        return tuple(finding for finding in self.findings if finding.level == "error")

    @property
    def ok(self) -> bool:
        """Whether a run may begin."""
        return not self.errors


def check(config: CheckConfig, *, report: Report) -> Check:
    """Return what is found about a data set.

    Args:
        config: Which data set, and for which base.
        report: Where progress and the source's notes go.

    Raises:
        FileNotFoundError: If there is no data set, or no such model.
        ValueError: If the data set cannot be listed, or settings are wrong.
    """
    memory = _memory(config)
    phrase = config.phrase or memory.prompt.phrase
    catalog = read_source(config.data.path, group_regex=config.data.group_regex)
    for note in catalog.notes:
        told = note.removeprefix("Warning: ")
        (report.note if told == note else report.warn)(told)
    found = survey(
        catalog.records, phrase=phrase, allow_empty=config.data.allow_empty, report=report
    )
    usable = tuple(r for r in catalog.records if r.case_id not in found.unusable)
    annotated = tuple(record for record in usable if record.targets)
    part_of, wrong = _split(config, replace(catalog, records=annotated), found, report)
    learnt = [r for r in annotated if part_of.get(r.case_id, "train") == "train"]
    pairs = find_near_duplicates(found.fingerprints, parts=_apart(usable, part_of))
    faults = find_faults(found, pairs, part_of, leaks=_leak_level(config.data, catalog))
    return Check(
        catalog=catalog,
        survey=found,
        part_of=part_of,
        findings=(*wrong, *faults),
        ceilings=_ceilings(config, memory.processor, learnt, phrase, report),
        choice=choose_target(learnt, memory.processor, phrase=phrase) if learnt else None,
        phrase=phrase,
        model=config.model,
    )


def _memory(config: CheckConfig) -> Memory:
    """Return what is remembered beside the base's weights, which are not read."""
    folder = find_folder(config.model)
    if (folder / ADAPTER_NAME).is_dir():
        return read_run(folder, config.official)[0]
    return read_plan(folder, config.official).memory


def _split(
    config: CheckConfig, catalog: Catalog, found: Survey, report: Report
) -> tuple[dict[str, str], list[Finding]]:
    """Return the part of each case in the split a run would make, or why it could make none."""
    if not catalog.records:
        text = "no case is both annotated and usable, so there is nothing to learn from here."
        return {}, [Finding(level="error", kind="nothing", cases=(), text=text)]
    looks = Looks(foreground={case.case_id: case.foreground for case in found.cases})
    settings = config.data.model_copy(update={"leaks": "off"})  # looked for below, in all images
    try:
        split = choose_split(catalog, settings, looks, seed=config.seed, report=report)
    except ValueError as error:
        # The path may name a patient, and what is found may be kept.
        text = str(error).removeprefix(f"{settings.path}: ")
        return {}, [Finding(level="error", kind="split", cases=(), text=text)]
    return {case_id: part for part, ids in split.to_dict().items() for case_id in ids}, []


def _apart(records: Sequence[Record], part_of: Mapping[str, str]) -> dict[str, str]:
    """Return a label a case: near-duplicates within one group and one part harm nobody."""
    return {r.case_id: f"{part_of.get(r.case_id, '')}\n{r.group}" for r in records}


def _leak_level(data: DataConfig, catalog: Catalog) -> Level:
    """Return how bad a leak is: what a run would refuse is an error."""
    asked_for = data.split_by == "sorted" and catalog.split is None
    return "error" if data.leaks == "refuse" and not asked_for else "warning"


def _ceilings(
    config: CheckConfig,
    processor: ProcessorConfig,
    records: Sequence[Record],
    phrase: str,
    report: Report,
) -> tuple[CeilingRow, ...]:
    own = (processor.mask_size, processor.sam_size)
    sizes = config.image_sizes or (own[1],)
    asked = product(config.grids or ((own[0],) if config.image_sizes else ()), sizes)
    pairs = tuple(dict.fromkeys((own, OFFICIAL, *asked)))
    chosen = _drawn(records, config.num_ceilings, config.seed)
    num_pixels = 0
    scores: dict[tuple[tuple[int, int], TargetRule], list[Ceiling]] = {
        (pair, rule): [] for pair in pairs for rule in RULES
    }
    with report.progress(len(chosen) * len(scores), "Measuring ceilings", "masks") as bar:
        for index, record in enumerate(chosen):
            enough = index >= _LEAST and num_pixels >= _MOST_PIXELS
            mask = None if enough else _one_mask(record, phrase, index)
            if mask is None:
                bar.advance(len(scores))
                continue
            num_pixels += mask.size
            view = fullest_view(mask, processor)
            line = centreline(view)
            for (pair, rule), values in scores.items():
                grid, side = pair
                # Other bases than the own one may not know how to keep an image's shape.
                fit = processor.fit if pair == own else "squash"
                one = ceiling(view, rule, grid=grid, sam_size=side, fit=fit, line=line)
                values.append(one)
                bar.advance()
    return tuple(
        CeilingRow(
            grid=pair[0],
            image_size=pair[1],
            rule=rule,
            dice=tuple(one.dice for one in values),
            cldice=tuple(one.cldice for one in values),
            own=pair == own,
        )
        for (pair, rule), values in scores.items()
        if values
    )


def _drawn(records: Sequence[Record], num: int, seed: int) -> list[Record]:
    chosen = np.random.default_rng(seed).permutation(len(records))[:num]
    return [records[index] for index in sorted(chosen.tolist())]


def _one_mask(record: Record, phrase: str, index: int) -> Bool[np.ndarray, "h w"] | None:
    """Return one of an image's masks that are not empty, another one from image to image."""
    masks = [m for m in load_sample(record, phrase=phrase, allow_empty=True).masks if m.any()]
    return masks[index % len(masks)] if masks else None
