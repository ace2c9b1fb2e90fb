"""Fine-tune a model on a folder of images and masks, and watch it learn.

    open the model, read, check and split the data -> attach what learns and prove on one real
    batch that it can -> score the untouched model -> epochs: train, score, keep the best -> score
    what was saved, write the report

After every epoch the run's folder holds everything needed to use it, and to take it up again with
`--resume`. Randomness depends on the seed and the epoch alone, so a run that was killed ends, bit
for bit on one machine, as the run left alone.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator

from vasculora.core.errors import DeadGradientError
from vasculora.core.io import write_json
from vasculora.core.report import Report
from vasculora.core.runtime import build_accelerator, pick_device, set_seed, versions
from vasculora.core.types import LossTerms
from vasculora.data.dataset import VesselDataset
from vasculora.data.splits import Part, select
from vasculora.engine.checkpoint import (
    CHECKPOINT_NAME,
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from vasculora.engine.loader import EpochLoader
from vasculora.engine.scores import Evaluation
from vasculora.engine.tracker import Tracker
from vasculora.engine.trainer import EpochStats, Trainer
from vasculora.model.lora import groups_of, save_adapter
from vasculora.model.memory import Memory, write_memory
from vasculora.model.official.config import OfficialConfig
from vasculora.model.predictor import Predictor
from vasculora.model.pretrained import ADAPTER_NAME, OpenedModel
from vasculora.recipes.audit import audit_first_batch, show, show_table
from vasculora.recipes.config import FinetuneConfig, Provenance
from vasculora.recipes.evaluate import score
from vasculora.recipes.modality import settle_modality
from vasculora.recipes.results import show_results
from vasculora.recipes.run_folder import (
    AUDIT_NAME,
    check_unchanged,
    claim,
    fingerprint,
    read_data,
    settled_before,
    write_settings,
)
from vasculora.recipes.setup import build_trainer, open_base, samples_of, tell_attached
from vasculora.recipes.split import Looks, choose_split
from vasculora.recipes.target import settle_target
from vasculora.recipes.watch import build_sentinel


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
        looks: What was seen of its images while all of them were open.
    """

    config: FinetuneConfig
    out: Path
    report: Report
    opened: OpenedModel
    train_data: VesselDataset
    val_data: VesselDataset
    tracker: Tracker
    looks: Looks


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
    trainer, loader = build_trainer(config, run.opened, run.train_data, accelerator)
    tell_attached(run.opened, config.lora, report)
    trainer.sentinel = build_sentinel(
        config, run.opened, run.val_data, trainer.optimizer, warn=report.warn
    )
    if checkpoint is None:
        _prove_that_it_learns(run, trainer, loader)
        # what was attached changes nothing before its first step
        run.tracker.log_baseline(_score(run, "Untouched model"))
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
    config = settled_before(out, config) if resume else config
    opened = open_base(config, accelerator.device, report)
    looks = Looks(leaks=config.data.leaks)
    catalog = read_data(
        config.data,
        phrase=opened.memory.prompt.phrase,
        report=report,
        on_sample=None if resume else looks.take,
    )
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
        split = choose_split(catalog, config.data, looks, seed=config.seed, report=report)
        learnt = select(catalog.records, split, "train")
        config, opened = settle_target(config, opened, learnt, report)
        phrase = opened.memory.prompt.phrase
        config = settle_modality(config, learnt, phrase=phrase, report=report)
        write_settings(out, config, catalog, split)

    def samples(part: Part, augment: str) -> VesselDataset:
        records = select(catalog.records, split, part)
        share = len(records) / (len(split.train) + len(split.val)) / accelerator.num_processes
        return samples_of(
            config, opened, records, augment=augment, cut=part == "train", cache_share=share
        )

    return Run(
        config=config,
        out=out,
        report=report,
        opened=opened,
        train_data=samples("train", config.data.augment),
        val_data=samples("val", "none"),
        tracker=Tracker(run_dir=out, report=report, num_epochs=config.trainer.epochs),
        looks=looks,
    )


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
            f"All {num_epochs} epochs of this run are finished; only its report is made anew. "
            f"To train it further: vasculora finetune --model {run.out} --out ANOTHER"
        )


def _prove_that_it_learns(run: Run, trainer: Trainer, loader: EpochLoader) -> None:
    """Show on one real batch what the loss reaches, write it down, and stop if a group is dead."""
    found = audit_first_batch(run.config, run.opened, trainer, loader, run.train_data)
    write_json(run.out / AUDIT_NAME, found.to_dict())
    if found.ok:
        show(found, run.report)
        return
    show_table(found, run.report)  # the rest is the message's, which is shown beside it
    raise DeadGradientError("\n".join([found.verdict(), *map(str, found.cuts)]))


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
        write_memory(adapter_dir, _memory(run, threshold=evaluation.best_threshold()))
        save_adapter(trainer.accelerator.unwrap_model(trainer.model), adapter_dir)
    _keep(run, trainer, epoch=epoch)
    run.tracker.tell_epoch()
    if trainer.sentinel is not None:  # last: what it stops is kept and told
        trainer.sentinel.after_epoch(evaluation)


def _memory(run: Run, *, threshold: float) -> Memory:
    """Return what is remembered of the model as it is now, with the threshold that suits it."""
    processor = run.opened.processor.config
    return Memory(
        processor=processor.model_copy(update={"threshold": threshold}),
        prompt=run.opened.processor.prompt,
        base=run.opened.name,
        official=None if run.config.official == OfficialConfig() else run.config.official,
        fingerprint=run.opened.fingerprint,
        trainable=groups_of(run.opened.model, run.config.lora),
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
    page = show_results(
        run.out,
        run.config,
        run.tracker,
        {"train": run.train_data, "val": run.val_data},
        looks=run.looks,
        report=run.report,
    )
    run.report.note(f"Use it: vasculora predict {run.out} IMAGE... --out FOLDER")
    run.report.note(f"Report: {page}")
