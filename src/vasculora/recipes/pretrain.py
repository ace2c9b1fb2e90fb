"""Make a small base from nothing but drawings: tokenizer, weights and a card.

Every image is asked about several times with different targets (dark vessels, bright vessels, the
background, the red circle), because a base that was only ever asked for one thing ignores the
sentence, and such a base looks healthy and cannot be fine-tuned. The card holds that as a number.
Words come first (`recipes/words.py`); then everything but the language model learns masks, left and
right before all else: a decoder that follows places soon follows colours and forms too, while one
that began with these never found places, and one that is seldom asked for places loses them again.
A base can also go on from an earlier one, whose words it keeps.
"""

import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator

from vasculora.core.config import Seed, dump_config
from vasculora.core.io import write_json, write_text
from vasculora.core.report import Report
from vasculora.core.runtime import build_accelerator, num_cores, pick_device, set_seed
from vasculora.core.types import LossTerms, Sample
from vasculora.data.synthetic.drawn import DrawnDataset
from vasculora.data.synthetic.probes import PROBES, draw_probe
from vasculora.data.synthetic.styles import STYLES, all_phrases, draw_case
from vasculora.data.transforms import build_augment
from vasculora.engine.evaluator import evaluate
from vasculora.engine.loader import EpochLoader
from vasculora.engine.optim import OptimConfig, build_optimizer, build_schedule
from vasculora.engine.trainer import Trainer
from vasculora.losses.objective import Objective, ObjectiveConfig
from vasculora.metrics.mask import prompt_sensitivity
from vasculora.model.base import NANO, find_folder
from vasculora.model.memory import Memory, write_memory
from vasculora.model.predictor import Predictor
from vasculora.model.pretrained import DEFAULTS_NAME, defaults_path, open_model
from vasculora.model.processor import Processor
from vasculora.model.prompts import PromptConfig
from vasculora.model.sa2va import Sa2VA
from vasculora.model.scratch import (
    ArchitectureConfig,
    build_from_scratch,
    processor_config,
    train_tokenizer,
)
from vasculora.recipes.words import teach_words

CARD_NAME = "card.md"
SCORES_NAME = "scores.json"
_HELD_OUT_SEED = 2**31
"""Scored drawings come from seeds that training never uses."""
_WORDS_SEED = 2**30
"""Words are learnt beside other drawings than masks."""
_DECIDED_BY_A_BASE = frozenset({"architecture", "prompt", "word_steps"})


class PretrainConfig(BaseModel):
    """Settings of `vasculora pretrain`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: str | None = None
    """A base of `vasculora pretrain` to go on from, with its sizes and words; None begins anew."""
    architecture: ArchitectureConfig = ArchitectureConfig()
    """Sizes of the base."""
    prompt: PromptConfig = PromptConfig()
    """The words it learns."""
    objective: ObjectiveConfig = ObjectiveConfig(focal=0, bce=1, iou=0.5, text=0, masks="all")
    """What is minimised."""
    optim: OptimConfig = OptimConfig(lr=8e-4, weight_decay=0.05, warmup=0.03)
    """How big a step is."""
    word_steps: int = Field(default=400, ge=1)
    """Steps in which the language model learns words; after them it is kept as it is."""
    steps: int = Field(default=4000, ge=1)
    """Steps in which everything else learns masks."""
    place_steps: int = Field(default=300, ge=0)
    """The first of them, in which nothing but left and right is asked; whole stretches of
    `report_every`."""
    report_every: int = Field(default=100, ge=1)
    """Steps between two lines of the log; the weights are saved as often."""
    batch_size: int = Field(default=4, ge=1)
    """Images a step."""
    max_phrases: int = Field(default=4, ge=1)
    """Phrases asked of each image."""
    shapes_share: float = Field(default=0.2, ge=0, le=1)
    """Share of images that show shapes instead of vessels."""
    places_share: float = Field(default=0.33, ge=0, le=1)
    """Share of images that are asked for nothing but left and right, after the first steps; the
    share of shapes is one of the others."""
    num_scored: int = Field(default=40, ge=1)
    """Drawings a style is scored on at the end."""
    seed: Seed = 0
    """Seed of everything random."""
    gpu: int | None = None
    """Index of the GPU; None takes the first one, or the CPU where there is none."""

    @model_validator(mode="after")
    def _keep_what_a_base_decides(self) -> "PretrainConfig":
        given = self.model_fields_set & _DECIDED_BY_A_BASE
        if self.base is not None and given:
            raise ValueError(
                f"{', '.join(sorted(given))}: the base to go on from ({self.base}) decides this. "
                "Leave it out, or leave out base."
            )
        return self


def pretrain(config: PretrainConfig, out: Path, *, report: Report) -> dict[str, float]:
    """Make a base in the folder `out` and return its scores.

    Args:
        config: All settings.
        out: A new or empty folder.
        report: Where progress goes.

    Raises:
        ValueError: If the folder is not empty.
        FileNotFoundError: If the base to go on from is none, or was not made by pretraining.
    """
    if out.exists() and any(out.iterdir()):
        raise ValueError(f"{out} is not empty. Choose another --out.")
    start = time.perf_counter()
    set_seed(config.seed)
    model, door, memory = _begin(config)
    num_parameters = sum(param.numel() for param in model.parameters())
    report.note(f"Base: {num_parameters:,} parameters, {len(door.tokenizer)} tokens.")
    door.tokenizer.save_pretrained(out)
    write_memory(out, memory)
    _copy_defaults(config.base or NANO, out)
    # soft area targets: the same shape as the masks, a quarter of the work of full resolution
    learning = memory.processor.model_copy(update={"target": "area"})
    processor = Processor(door.tokenizer, learning, memory.prompt)
    model = model.to(pick_device(config.gpu))
    if config.base is None:
        _teach_words(config, model, processor, report)
    model.mllm.requires_grad_(False)
    _teach_masks(config, model, processor, out, report)
    minutes = (time.perf_counter() - start) / 60
    scores = score_base(out, num_cases=config.num_scored, report=report)
    write_card(out, config, scores, num_parameters=num_parameters, minutes=minutes)
    return scores


def _begin(config: PretrainConfig) -> tuple[Sa2VA, Processor, Memory]:
    """Return a model to teach, the door to it and what will be remembered of it."""
    if config.base is not None:
        folder = find_folder(config.base)
        if not (folder / CARD_NAME).is_file():
            raise FileNotFoundError(
                f"{folder} has no {CARD_NAME}: pretraining goes on from bases that it made itself, "
                "from drawings alone. Name one of these, or leave out base."
            )
        opened = open_model(config.base)
        memory = Memory(processor=opened.memory.processor, prompt=opened.memory.prompt)
        return opened.model, opened.processor, memory
    tokenizer = train_tokenizer(
        all_phrases(), config.prompt, vocab_size=config.architecture.vocab_size
    )
    memory = Memory(processor=processor_config(config.architecture), prompt=config.prompt)
    door = Processor(tokenizer, memory.processor, memory.prompt)
    return build_from_scratch(config.architecture, tokenizer), door, memory


def _copy_defaults(base: str, out: Path) -> None:
    """Let a base be fine-tuned as the one it comes from, or as the bundled one, which is as small.

    Without that it would be tuned like a large model, in steps far too small for it.
    """
    defaults = defaults_path(base)
    if defaults is not None:
        shutil.copyfile(defaults, out / DEFAULTS_NAME)


def _teach_words(
    config: PretrainConfig, model: Sa2VA, processor: Processor, report: Report
) -> None:
    """Train the language model alone."""
    seed = config.seed + _WORDS_SEED
    teach_words(
        model,
        processor,
        all_phrases(),
        _drawn_data(config, config.word_steps, model.sam_size, seed=seed, places_share=0.0),
        steps=config.word_steps,
        seed=seed,
        report=report,
    )


def _teach_masks(
    config: PretrainConfig, model: Sa2VA, processor: Processor, out: Path, report: Report
) -> None:
    """Train all weights that are not frozen, saving the base as it goes."""
    accelerator = build_accelerator(pick_device(config.gpu))
    num_images = config.report_every * config.batch_size
    places, everything = (
        EpochLoader(
            _drawn_data(config, num_images, model.sam_size, seed=config.seed, places_share=share),
            processor.batch,
            batch_size=config.batch_size,
            seed=config.seed,
            num_workers=min(1, num_cores() - 1),
            accelerator=accelerator,
        )
        for share in (1.0, config.places_share)
    )
    optimizer = build_optimizer(
        (param for param in model.parameters() if param.requires_grad),
        lr=config.optim.lr,
        weight_decay=config.optim.weight_decay,
    )
    trainer = Trainer(
        accelerator=accelerator,
        model=accelerator.prepare(model),
        objective=Objective(config.objective, sam_size=model.sam_size),
        optimizer=optimizer,
        schedule=build_schedule(optimizer, num_steps=config.steps, warmup=config.optim.warmup),
    )
    num_stretches = -(-config.steps // config.report_every)
    with report.progress(num_stretches * num_images, "Pretraining") as bar:

        def on_step(num_seen: int, terms: LossTerms) -> None:
            bar.advance(num_seen)

        for stretch in range(num_stretches):
            loader = places if stretch * config.report_every < config.place_steps else everything
            stats = trainer.run_epoch(loader.epoch(stretch), on_step)
            steps = (stretch + 1) * config.report_every
            report.line(
                f"Step {steps}/{config.steps} - Loss: {stats.loss:.4f}, Dice: {stats.dice:.4f}, "
                f"{stats.num_images / stats.seconds:.1f} images/s"
            )
            model.save_pretrained(out, dtype=torch.float16)


def _drawn_data(
    config: PretrainConfig, num: int, size: int, *, seed: int, places_share: float
) -> DrawnDataset:
    return DrawnDataset(
        num,
        size=size,
        seed=seed,
        shapes_share=config.shapes_share,
        max_phrases=config.max_phrases,
        places_share=places_share,
        transform=build_augment("light"),
    )


def score_base(base: Path, *, num_cases: int, report: Report) -> dict[str, float]:
    """Return the base's scores on drawings it has not seen.

    Args:
        base: The base's folder.
        num_cases: Drawings a style.
        report: Where progress goes.

    Returns:
        Mean Dice of "blood vessel" for every style and of all phrases of every probe (shapes, left
        and right, ...), and `prompt_sensitivity`: how far masks move from phrase to phrase on one
        image, in [0, 1].
    """
    opened = open_model(base)
    predictor = Predictor.of(opened)
    size = opened.memory.processor.sam_size
    scores = {}
    for style in STYLES:
        cases = [_only_vessels(_drawn(style, index, size)) for index in range(num_cases)]
        scores[style] = evaluate(predictor, cases, batch_size=8).mean_counted()["dice"]
    for name in PROBES:
        drawings = (np.random.default_rng([_HELD_OUT_SEED, i]) for i in range(num_cases))
        cases = [draw_probe(name, rng, size) for rng in drawings]
        scores[name] = evaluate(predictor, cases, batch_size=8).mean_counted()["dice"]
    moved = [_sensitivity(predictor, _drawn("mixed", i, size)) for i in range(num_cases)]
    scores["prompt_sensitivity"] = float(np.mean(moved))
    rows = [(name, f"{score:.3f}") for name, score in scores.items()]
    report.table("The base on drawings it has not seen", ("score", "value"), rows)
    write_json(base / SCORES_NAME, scores)
    return scores


def _drawn(style: str, index: int, size: int) -> Sample:
    rng = np.random.default_rng([_HELD_OUT_SEED, index])
    return draw_case(style, size=size, rng=rng, case_id=f"{style}-{index}")


def _only_vessels(sample: Sample) -> Sample:
    """Return the sample with its first phrase alone, which is "blood vessel"."""
    return Sample(
        case_id=sample.case_id,
        group=sample.group,
        image=sample.image,
        masks=sample.masks[:1],
        phrases=sample.phrases[:1],
    )


def _sensitivity(predictor: Predictor, sample: Sample) -> float:
    """Return how far the masks of an image's dark vessels, bright vessels and background differ."""
    phrases: Sequence[str] = ("dark vessel", "bright vessel", "background")
    predictions = predictor.predict_batch(
        [sample.case_id] * len(phrases), [sample.image] * len(phrases), phrases
    )
    return prompt_sensitivity(np.stack([prediction.prob for prediction in predictions]))


def write_card(
    out: Path,
    config: PretrainConfig,
    scores: dict[str, float],
    *,
    num_parameters: int,
    minutes: float,
) -> None:
    """Write what the base is, how it was made and what it scores."""
    rows = "\n".join(f"| {name} | {score:.3f} |" for name, score in scores.items())
    card = _CARD.format(
        num_parameters=f"{num_parameters:,}",
        origin="random weights" if config.base is None else "an earlier base, told of below",
        minutes=f"{minutes:.0f}",
        steps=config.steps,
        images=f"{config.steps * config.batch_size:,}",
        max_phrases=config.max_phrases,
        num_scored=config.num_scored,
        rows=rows,
        settings=_settings(config),
    )
    write_text(out / CARD_NAME, card + ("" if config.base is None else _earlier(config.base)))


def _settings(config: PretrainConfig) -> str:
    """Return the settings as YAML; of a base, its name and not the settings that it decided."""
    if config.base is None:
        return dump_config(config).strip()
    named = config.model_copy(update={"base": Path(config.base).name})
    return dump_config(named, without=_DECIDED_BY_A_BASE).strip()


def _earlier(base: str) -> str:
    """Return an earlier base's card as a part of a later one's."""
    card = (find_folder(base) / CARD_NAME).read_text()
    return "\n## What it went on from\n\n" + re.sub(r"^#", "###", card, flags=re.MULTILINE)


_CARD = """# A Sa2VA of {num_parameters} parameters, from drawings only

Made by `vasculora pretrain` from {origin}: {steps} steps, {images} drawn images,
up to {max_phrases} phrases asked of each, {minutes} minutes. No photograph, no patient and no
published weight went into it. It is there to be fine-tuned, to try the program and to test it; it
is no medical device.

Mean Dice of "blood vessel" on {num_scored} drawings a style that training never saw (`xray`,
`fundus` and `octa` are styles it never saw), at threshold 0.5, from the model's own answers; of
`shapes` and the pairs of words, mean Dice over all phrases that set things in one picture apart.
`prompt_sensitivity` is how far masks move from phrase to phrase on one image (0: the sentence is
ignored; 1: no overlap).

| score | value |
|---|---|
{rows}

## Settings

```yaml
{settings}
```
"""
