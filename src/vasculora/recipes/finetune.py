"""Fine-tune a model on a folder of images and masks, and watch it learn.

    open the model, read, check and split the data -> score the untouched model -> attach what
    learns and prove on one real batch that it can -> epochs: train, score, keep the best -> score
    what was saved, draw curve and overlays

After every epoch the run's folder holds everything needed to use it, and to take it up again with
`--resume`. Randomness depends on the seed and the epoch alone, so a run that was killed ends, bit
for bit on one machine, as the run left alone.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator

from vasculora.core.config import load_config
from vasculora.core.errors import CannotLearnError
from vasculora.core.report import Report
from vasculora.core.runtime import build_accelerator, pick_device, pick_dtype, set_seed, versions
from vasculora.core.types import LossTerms
from vasculora.data.dataset import VesselDataset
from vasculora.data.splits import Part, select
from vasculora.data.transforms import build_augment
from vasculora.engine.audit.probe import audit_gradients
from vasculora.engine.audit.report import COLUMNS
from vasculora.engine.checkpoint import (
    CHECKPOINT_NAME,
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from vasculora.engine.evaluator import Evaluation
from vasculora.engine.loader import EpochLoader
from vasculora.engine.optim import build_optimizer, build_schedule
from vasculora.engine.tracker import Tracker
from vasculora.engine.trainer import EpochStats, Trainer
from vasculora.losses.objective import Objective
from vasculora.model.lora import attach, save_adapter, trainable_groups
from vasculora.model.predictor import Predictor
from vasculora.model.pretrained import ADAPTER_NAME, Memory, OpenedModel, open_model, write_memory
from vasculora.model.prompts import PromptConfig
from vasculora.recipes.config import FinetuneConfig, Provenance
from vasculora.recipes.evaluate import score
from vasculora.recipes.pictures import draw_run
from vasculora.recipes.run_folder import (
    check_unchanged,
    choose_split,
    claim,
    fingerprint,
    read_data,
    write_settings,
)


@dataclass
class Run:
    """A fine-tuning run with all its parts ready.

    Attributes:
        config: All settings.
        out: The run's folder.
        report: Where progress goes.
        opened: The base.
        train_data: Samples to learn from, augmented.
        val_data: Samples that choose the best epoch.
        tracker: Its scores.
    """

    config: FinetuneConfig
    out: Path
    report: Report
    opened: OpenedModel
    train_data: VesselDataset
    val_data: VesselDataset
    tracker: Tracker


def finetune(
    config: FinetuneConfig,
    out: Path,
    *,
    report: Report,
    resume: bool = False,
    command: Sequence[str] = (),
) -> Tracker:
    """Fine-tune as the settings say, into the folder `out`, and return the run's scores.

    Args:
        config: All settings.
        out: The run's folder; new or empty, unless `resume`.
        report: Where progress goes.
        resume: Take up the run that is in `out`.
        command: What the user typed, to be remembered.

    Raises:
        ValueError: If settings, data or model are not usable.
        FileNotFoundError: If one of them is not there.
        CannotLearnError: If a part that should learn cannot.
    """
    claim(out, data=config.data.path, resume=resume)
    accelerator = build_accelerator(pick_device(config.gpu))
    run = _prepare(config, out, accelerator, report, resume=resume, command=command)
    checkpoint = _read_checkpoint(run) if resume else None
    if checkpoint is None:
        run.tracker.log_baseline(_score(run, "Untouched model"))
    trainer, loader = _build_trainer(run, accelerator)
    if checkpoint is None:
        _prove_that_it_learns(run, trainer, loader)
        _keep(run, trainer, epoch=0)
    else:
        _take_up(run, trainer, checkpoint)
    first = 1 if checkpoint is None else checkpoint.epoch + 1
    _learn(run, trainer, loader, first=first)
    _finish(run)
    return run.tracker


def _prepare(
    config: FinetuneConfig,
    out: Path,
    accelerator: Accelerator,
    report: Report,
    *,
    resume: bool,
    command: Sequence[str],
) -> Run:
    """Open model and data, and write down what the run is."""
    device = accelerator.device
    opened = _speak_as_asked(
        open_model(config.model, device=device, dtype=pick_dtype(device)), config
    )
    phrase = opened.memory.prompt.phrase
    num_parameters = sum(param.numel() for param in opened.model.parameters())
    report.note(f"Model: {opened.name}, {num_parameters:,} parameters, on {device}.")
    catalog = read_data(config.data, phrase=phrase, report=report)
    provenance = Provenance(
        command=shlex.join(command),
        versions=versions(),
        base_fingerprint=opened.fingerprint,
        data_fingerprint=fingerprint(catalog.records),
    )
    config = config.model_copy(update={"provenance": provenance})
    if resume:
        split = check_unchanged(out, config)
    else:
        split = choose_split(catalog, config.data, seed=config.seed, report=report)
        write_settings(out, config, catalog, split)

    def samples(part: Part, augment: str) -> VesselDataset:
        return VesselDataset(
            select(catalog.records, split, part),
            phrase=phrase,
            transform=build_augment(augment),
            seed=config.seed,
            allow_empty=config.data.allow_empty,
        )

    return Run(
        config=config,
        out=out,
        report=report,
        opened=opened,
        train_data=samples("train", config.data.augment),
        val_data=samples("val", "none"),
        tracker=Tracker(run_dir=out, report=report, num_epochs=config.trainer.epochs),
    )


def _speak_as_asked(opened: OpenedModel, config: FinetuneConfig) -> OpenedModel:
    """Return the model behind the words and the target that the settings ask for."""
    words = opened.memory.prompt.model_dump() | config.prompt.model_dump(exclude_none=True)
    prompt = load_config(PromptConfig, values=words)
    processor = opened.memory.processor.model_copy(update={"target": config.target})
    return opened.with_settings(processor=processor, prompt=prompt)


def _build_trainer(run: Run, accelerator: Accelerator) -> tuple[Trainer, EpochLoader]:
    """Attach what learns and return what trains it."""
    config = run.config
    set_seed(config.seed)
    model = attach(run.opened.model, config.lora)
    params = [p for group in trainable_groups(model).values() for p in group.values()]
    loader = EpochLoader(
        run.train_data,
        run.opened.processor.batch,
        batch_size=config.trainer.batch_size,
        seed=config.seed,
        num_workers=config.trainer.num_workers,
        accelerator=accelerator,
    )
    num_steps = -(-len(loader) // config.trainer.accumulation) * config.trainer.epochs
    optimizer = build_optimizer(params, lr=config.optim.lr, weight_decay=config.optim.weight_decay)
    trainer = Trainer(
        accelerator=accelerator,
        model=accelerator.prepare(model.to(accelerator.device)),
        objective=Objective(config.objective, sam_size=run.opened.model.sam_size),
        optimizer=optimizer,
        schedule=build_schedule(optimizer, num_steps=num_steps, warmup=config.optim.warmup),
        accumulation=config.trainer.accumulation,
        max_grad_norm=config.trainer.max_grad_norm,
    )
    return trainer, loader


def _read_checkpoint(run: Run) -> Checkpoint | None:
    """Return where a run was left; None where it was stopped before its first epoch."""
    if not (run.out / CHECKPOINT_NAME).is_file():
        run.report.note(
            "The run was stopped before its first epoch, so it starts at the beginning."
        )
        return None
    return load_checkpoint(run.out / CHECKPOINT_NAME)


def _take_up(run: Run, trainer: Trainer, checkpoint: Checkpoint) -> None:
    """Put trainer and tracker where they were when the checkpoint was written."""
    run.tracker.restore(checkpoint.metrics)
    trainer.restore(
        weights=checkpoint.weights, optimizer=checkpoint.optimizer, schedule=checkpoint.schedule
    )
    num_epochs = run.config.trainer.epochs
    if checkpoint.epoch < num_epochs:
        run.report.note(f"Resumed after epoch {checkpoint.epoch} of {num_epochs}.")
    else:
        run.report.note(
            f"All {num_epochs} epochs of this run are finished; only its pictures are drawn anew. "
            f"To train it further: vasculora finetune --model {run.out} --out ANOTHER"
        )


def _prove_that_it_learns(run: Run, trainer: Trainer, loader: EpochLoader) -> None:
    """Show on one real batch what the loss reaches; stop if a group gets nothing."""
    batch = next(iter(loader.epoch(0)))
    groups = trainable_groups(trainer.accelerator.unwrap_model(trainer.model))
    silent = [name for name in run.config.lora.trainable if name not in groups]
    if silent:
        raise CannotLearnError(
            f"{', '.join(silent)}: nothing of it is trainable in this model. "
            "Take it out of lora.trainable."
        )
    audit = audit_gradients(trainer.model, lambda: trainer.loss(batch), groups)
    run.report.table("What learns, on one real batch", COLUMNS, audit.rows())
    audit.raise_if_dead()


def _learn(run: Run, trainer: Trainer, loader: EpochLoader, *, first: int) -> None:
    """Train and score every epoch from `first` on."""
    num_epochs = run.config.trainer.epochs
    left = (num_epochs - first + 1) * len(run.train_data)
    with run.report.progress(left, f"Run of {num_epochs} epochs") as whole:
        for epoch in range(first, num_epochs + 1):
            set_seed(run.config.seed * 1_000_003 + epoch)
            with run.report.progress(len(run.train_data), f"Epoch {epoch}/{num_epochs}") as bar:

                def on_step(num_images: int, terms: LossTerms) -> None:
                    bar.advance(num_images)
                    whole.advance(num_images)

                stats = trainer.run_epoch(loader.epoch(epoch), on_step)
            _close_epoch(run, trainer, epoch, stats)


def _close_epoch(run: Run, trainer: Trainer, epoch: int, stats: EpochStats) -> None:
    """Score an epoch and write everything it leaves; the adapter only if it is the best so far."""
    evaluation = _score(run, "Validation")
    if run.tracker.add_epoch(epoch, stats, evaluation):
        adapter_dir = run.out / ADAPTER_NAME
        write_memory(adapter_dir, _memory(run))
        save_adapter(trainer.accelerator.unwrap_model(trainer.model), adapter_dir)
    _keep(run, trainer, epoch=epoch)
    run.tracker.tell_epoch()


def _memory(run: Run) -> Memory:
    return Memory(
        processor=run.opened.processor.config,
        prompt=run.opened.processor.prompt,
        base=run.opened.name,
        fingerprint=run.opened.fingerprint,
        trainable=run.config.lora.trainable,
    )


def _keep(run: Run, trainer: Trainer, *, epoch: int) -> None:
    """Write what resuming needs."""
    checkpoint = Checkpoint(epoch=epoch, metrics=run.tracker.metrics, **trainer.state())
    save_checkpoint(run.out / CHECKPOINT_NAME, checkpoint)


def _score(run: Run, title: str) -> Evaluation:
    """Return the validation scores of the model as it is now, on its own answers."""
    return score(
        Predictor.of(run.opened),
        run.val_data,
        batch_size=run.config.eval_batch_size,
        report=run.report,
        title=title,
    )


def _finish(run: Run) -> None:
    """Score what was saved, as a user would load it, and draw it."""
    best = run.tracker.best
    run.report.note(f"Best epoch: {best['epoch']:.0f}, Val Dice {best['val_dice']:.4f}.")
    run.opened.model.to("cpu")  # the saved one is opened beside it; a GPU may not hold both
    draw_run(run.out, run.val_data, run.tracker, gpu=run.config.gpu, report=run.report)
    run.report.note(f"Use it: vasculora predict {run.out} IMAGE... --out FOLDER")
