"""See on one real batch what a run would teach: which weights learn, and if the sentence counts.

    open the model, read, check and split the data -> attach what learns -> one batch: gradients
    -> two images: another prompt, another phrase

It is fine-tuning up to its first step, made of the same parts, and fine-tuning begins with it. A
run that cannot learn is found here, in a minute instead of a night.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vasculora.core.errors import NoTargetError
from vasculora.core.io import write_json
from vasculora.core.report import Report
from vasculora.core.runtime import build_accelerator, pick_device, restore_rng_state, rng_state
from vasculora.core.types import Batch, Sample
from vasculora.data.dataset import VesselDataset
from vasculora.data.splits import select
from vasculora.engine.audit.probe import audit_gradients
from vasculora.engine.audit.report import COLUMNS, AuditReport, Cut
from vasculora.engine.audit.sentence import audit_sentence
from vasculora.engine.loader import EpochLoader
from vasculora.engine.trainer import Trainer
from vasculora.losses.objective import ObjectiveConfig
from vasculora.model.groups import GROUPS
from vasculora.model.lora import groups_of
from vasculora.model.modes import in_mode
from vasculora.model.pretrained import OpenedModel
from vasculora.recipes.config import FinetuneConfig
from vasculora.recipes.modality import settle_modality
from vasculora.recipes.run_folder import (
    AUDIT_NAME,
    read_data,
    refuse_audit_of_run,
    refuse_inside,
)
from vasculora.recipes.setup import build_trainer, open_base, samples_of, tell_attached
from vasculora.recipes.split import Looks, choose_split
from vasculora.recipes.target import settle_target

TITLE = "What learns, on one real batch"
NUM_ASKED = 2
"""Images on which the sentence is tried."""
OTHER_PHRASES = ("background", "blood vessel")
"""What is asked instead; the second where the run itself asks for the first."""


def audit(config: FinetuneConfig, out: Path | None = None, *, report: Report) -> AuditReport:
    """Return what a run with these settings would teach, without running it.

    Args:
        config: The run's settings.
        out: Folder for `audit.json`; None writes nothing.
        report: Where progress goes.

    Raises:
        ValueError: If settings, data or model are not usable, or `out` is a run's folder.
        FileNotFoundError: If one of them is not there.
    """
    if out is not None:
        refuse_inside(config.data.path, out)
        refuse_audit_of_run(out)
    found = _audit(config, report)
    if out is not None:
        write_json(out / AUDIT_NAME, found.to_dict())
    return found


def _audit(config: FinetuneConfig, report: Report) -> AuditReport:
    accelerator = build_accelerator(pick_device(config.gpu))
    opened = open_base(config, accelerator.device, report)
    phrase = opened.memory.prompt.phrase
    looks = Looks(leaks=config.data.leaks)
    catalog = read_data(config.data, phrase=phrase, report=report, on_sample=looks.take)
    split = choose_split(catalog, config.data, looks, seed=config.seed, report=report)
    records = select(catalog.records, split, "train")
    config, opened = settle_target(config, opened, records, report)
    config = settle_modality(config, records, phrase=phrase, report=report)
    train_data = samples_of(config, opened, records, augment=config.data.augment, cut=True)
    try:
        trainer, loader = build_trainer(config, opened, train_data, accelerator)
    except NoTargetError as fault:
        return AuditReport(groups=(), cuts=(_no_target(fault),))
    tell_attached(opened, config.lora, report)
    return audit_first_batch(config, opened, trainer, loader, train_data)


def audit_first_batch(
    config: FinetuneConfig,
    opened: OpenedModel,
    trainer: Trainer,
    loader: EpochLoader,
    train_data: VesselDataset,
) -> AuditReport:
    """Return what the loss of one real batch reaches, and whether the masks heed the sentence.

    Weights, modes and random numbers are as before afterwards.

    Args:
        config: The run's settings.
        opened: The base, with the adapters on it.
        trainer: What will train it.
        loader: Its batches.
        train_data: Its samples.
    """
    trainable = groups_of(opened.model, config.lora)
    generators = rng_state()  # a loader draws a seed for its workers
    batch = next(iter(loader.epoch(0)))
    restore_rng_state(generators)
    with in_mode(trainer.model, training=True):
        found = audit_gradients(
            trainer.model,
            lambda: trainer.loss(batch),
            optimizer=trainer.optimizer,
            groups={name: GROUPS[name] for name in trainable},
        )
    asked, other = ask_twice(opened, train_data)
    with trainer.accelerator.autocast():
        numbers, cuts = audit_sentence(opened.model, asked, other, trainable=trainable)
    return replace(found, sentence=numbers, cuts=(*_in_our_words(found.cuts, config), *cuts))


def show(found: AuditReport, report: Report) -> None:
    """Show all that an audit found: the table, the cuts, the verdict."""
    show_table(found, report)
    for cut in found.cuts:
        report.note(str(cut))
    report.note(found.verdict())


def show_table(found: AuditReport, report: Report) -> None:
    """Show the table and what it cannot say, but no cuts."""
    report.table(TITLE, COLUMNS, found.rows())
    for text in found.remarks():
        report.note(text)
    named = any(cut.kind == "ignored_prompt" for cut in found.cuts)
    if found.sentence.get("used") == 0 and not named:
        report.note(_HEEDLESS)


def _in_our_words(cuts: Sequence[Cut], config: FinetuneConfig) -> Sequence[Cut]:
    """Return the cuts with those that a setting makes told by that setting, first and once."""
    objective = config.objective
    if config.optim.lr == 0:
        cuts = _retold(cuts, "zero_lr", _ZERO_LR)
    if isinstance(objective, ObjectiveConfig) and _is_maskless(objective):
        cuts = _retold(cuts, "other_tensor", _NO_MASK_LOSS)
    return cuts


def _is_maskless(objective: ObjectiveConfig) -> bool:
    return not any((objective.dice, objective.focal, objective.bce))


def _retold(cuts: Sequence[Cut], kind: str, told: Cut) -> Sequence[Cut]:
    """Return the cuts with all of one kind replaced by one."""
    groups = dict.fromkeys(group for cut in cuts if cut.kind == kind for group in cut.groups)
    rest = [cut for cut in cuts if cut.kind != kind]
    return cuts if len(rest) == len(cuts) else [replace(told, groups=tuple(groups)), *rest]


def ask_twice(opened: OpenedModel, data: VesselDataset) -> tuple[Batch, Batch]:
    """Return a few images with their own first phrases, and the same images with others.

    Args:
        opened: The model that will be asked.
        data: Images with their phrases; the first few are taken.
    """
    samples = [data[index] for index in range(min(NUM_ASKED, len(data)))]
    asked, other = (
        opened.processor.batch([ask(sample) for sample in samples]).to(opened.model.device)
        for ask in (_ask, _ask_other)
    )
    return asked, other


def _ask(sample: Sample) -> Sample:
    """Return a sample with its first phrase alone."""
    return replace(sample, masks=sample.masks[:1], phrases=sample.phrases[:1])


def _ask_other(sample: Sample) -> Sample:
    """Return a sample that asks for something else; its mask only holds a place."""
    own = sample.phrases[0].strip().lower()
    other = next(phrase for phrase in OTHER_PHRASES if phrase != own)
    return replace(sample, masks=sample.masks[:1], phrases=(other,))


def _no_target(fault: NoTargetError) -> Cut:
    return Cut(
        kind="no_target",
        module=fault.group,
        explanation=fault.what,
        cure=fault.cure,
        groups=(fault.group,),
    )


_HEEDLESS = (
    "The masks of this base do not change with the sentence. What learns here lies behind the "
    "prompt, so it can learn, but every phrase will get the same mask."
)
_ZERO_LR = Cut(
    kind="zero_lr",
    explanation="the learning rate optim.lr is 0, so no step moves anything",
    cure="Give --lr a number above 0, or leave it out for the base's own.",
)
_NO_MASK_LOSS = Cut(
    kind="zero_weight",
    explanation="the weights objective.dice, focal and bce are 0, so no mask is in the loss",
    cure="Raise objective.dice.",
)
