"""The parts of a training run, made from its settings: the base, its samples, what moves it.

Fine-tuning and the audit both come through here, so what is audited is what is trained.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from accelerate import Accelerator

from vasculora.core.config import load_config
from vasculora.core.report import Report
from vasculora.core.runtime import pick_dtype, pick_workers, set_seed
from vasculora.core.types import Record
from vasculora.data.dataset import VesselDataset
from vasculora.data.transforms import build_augment
from vasculora.data.windows import build_windows
from vasculora.engine.evaluator import HALF
from vasculora.engine.loader import EpochLoader
from vasculora.engine.optim import build_optimizer, build_schedule
from vasculora.engine.trainer import Trainer
from vasculora.losses.objective import Objective, ObjectiveConfig, TrainingLoss
from vasculora.losses.official import OfficialObjective
from vasculora.model.groups import count_groups, trainable_groups
from vasculora.model.lora import LoraSettings, attach, groups_of
from vasculora.model.pretrained import OpenedModel, open_model
from vasculora.model.processor import ProcessorConfig
from vasculora.model.prompts import PromptConfig
from vasculora.recipes.config import FinetuneConfig, WindowConfig


def open_base(config: FinetuneConfig, device: torch.device, report: Report) -> OpenedModel:
    """Return the model behind the words and the target that the settings ask for."""
    opened = open_model(
        config.model, device=device, dtype=pick_dtype(device), official=config.official
    )
    words = opened.memory.prompt.model_dump() | config.prompt.model_dump(exclude_none=True)
    prompt = load_config(PromptConfig, values=words)
    processor = _processor(config, opened.memory.processor)
    num_parameters = sum(param.numel() for param in opened.model.parameters())
    report.note(f"Model: {opened.name}, {num_parameters:,} parameters, on {device}.")
    if processor.window is not None:
        report.note(f"Images larger than {processor.window} pixels are seen in windows of that.")
    if prompt.questions:
        num = len({prompt.question, *prompt.questions})
        report.note(f"Training asks in {num} ways, use in one: {prompt.question}")
    return opened.with_settings(processor=processor, prompt=prompt)


def _processor(config: FinetuneConfig, own: ProcessorConfig) -> ProcessorConfig:
    """Return the base's own way to show images, with what the settings ask for instead."""
    # epochs are scored at 0.5, whatever an earlier run stored; this one finds its own
    update: dict[str, object] = {"numerics": config.numerics, "threshold": HALF}
    if config.target != "auto":  # else it is settled when the data is known
        update["target"] = config.target
    if config.fit is not None:
        update["fit"] = config.fit
    if config.window.overlap is not None:
        update["window_overlap"] = config.window.overlap
    if config.window.size is not None:
        update["window"] = config.window.size or None
    processor = own.model_copy(update=update)
    if (
        processor.window is None
        and config.window.model_copy(update={"size": None}) != WindowConfig()
    ):
        raise ValueError(
            "settings of windows are given, but whole images are shown. Give windows a side, such "
            "as --window 512, or leave window.overlap, window.foreground and window.per_image out."
        )
    return processor


def samples_of(
    config: FinetuneConfig,
    opened: OpenedModel,
    records: Sequence[Record],
    *,
    augment: str,
    cut: bool = False,
    cache_share: float = 0.0,
) -> VesselDataset:
    """Return the samples of some records, asked for as the model will be.

    Args:
        config: The run's settings.
        opened: The model.
        records: The cases.
        augment: How far they are varied.
        cut: Whether windows of large images are drawn, to learn from, where the model takes
            windows.
        cache_share: Share of `data.cache_gb` that they may take, in [0, 1].
    """
    modality = config.data.modality
    transform = build_augment(augment, None if modality == "auto" else modality)
    window = opened.processor.config.window if cut else None
    if window is not None:
        transform = build_windows(
            window=window, foreground=config.window.foreground, then=transform
        )
    return VesselDataset(
        records,
        phrase=opened.memory.prompt.phrase,
        transform=transform,
        seed=config.seed,
        allow_empty=config.data.allow_empty,
        draws=1 if window is None else config.window.per_image,
        cache_bytes=int(config.data.cache_gb * cache_share * 2**30),
    )


def build_objective(
    wanted: ObjectiveConfig | Literal["official"], *, sam_size: int
) -> TrainingLoss:
    """Return what is minimised.

    Args:
        wanted: Weights of the own loss, or the official one by name.
        sam_size: Side of SAM 2's square input in pixels.
    """
    if isinstance(wanted, ObjectiveConfig):
        return Objective(wanted, sam_size=sam_size)
    return OfficialObjective(sam_size=sam_size)


def build_trainer(
    config: FinetuneConfig,
    opened: OpenedModel,
    train_data: VesselDataset,
    accelerator: Accelerator,
) -> tuple[Trainer, EpochLoader]:
    """Attach what learns and return what trains it, and on what.

    Raises:
        CannotLearnError: If a pattern of LoRA's targets matches no module.
    """
    set_seed(config.seed)
    model = attach(opened.model, config.lora)
    params = [p for group in trainable_groups(model).values() for p in group.values()]
    loader = EpochLoader(
        train_data,
        opened.processor.batch,
        batch_size=config.trainer.batch_size,
        seed=config.seed,
        num_workers=pick_workers(
            config.trainer.num_workers,
            accelerator.device,
            num_processes=accelerator.num_processes,
        ),
        accelerator=accelerator,
    )
    num_steps = -(-len(loader) // config.trainer.accumulation) * config.trainer.epochs
    optimizer = build_optimizer(params, lr=config.optim.lr, weight_decay=config.optim.weight_decay)
    trainer = Trainer(
        accelerator=accelerator,
        model=accelerator.prepare(model.to(accelerator.device)),
        objective=build_objective(config.objective, sam_size=opened.model.sam_size),
        optimizer=optimizer,
        schedule=build_schedule(optimizer, num_steps=num_steps, warmup=config.optim.warmup),
        accumulation=config.trainer.accumulation,
        max_grad_norm=config.trainer.max_grad_norm,
    )
    return trainer, loader


def tell_attached(opened: OpenedModel, settings: LoraSettings, report: Report) -> None:
    """Say how many weights were attached, how many learn, and why where it is not all of them.

    Args:
        opened: The base, with the adapters on it.
        settings: What was asked for.
        report: Where it is said.
    """
    counts = count_groups(opened.model)
    lora = [group for group in counts.attached if group.endswith("_lora")]
    num_attached = sum(counts.attached[group] for group in lora)
    num_learning = sum(counts.trainable[group] for group in lora)
    reasons = "; ".join(
        f"{group} {counts.attached[group]:,} stays frozen: {_WHY_FROZEN[group]}"
        for group in lora
        if not counts.trainable[group]
    )
    text = f"LoRA: {num_attached:,} weights attached, {num_learning:,} learn"
    text += f" ({reasons})." if reasons else "."
    whole = [f"{group} {n:,}" for group, n in counts.trainable.items() if group not in lora]
    report.note(f"{text} Without LoRA learn: {', '.join(whole)}." if whole else text)
    for group in settings.trainable:
        if group not in groups_of(opened.model, settings):
            report.note(f"{group} is left out: this base has none to open.")


_WHY_FROZEN = {
    "memory_lora": "a single image never runs it",
    "mllm_lora": "it is zero, and there only because peft needs one",
}
