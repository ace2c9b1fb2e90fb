"""The model card beside an adapter: `README.md`, as the Hugging Face Hub reads it.

An adapter is what leaves the house, so its card says nothing of the training data but numbers, and
of folders only their names. What was learnt, the words and the threshold are read from the adapter
itself, so that the card cannot say otherwise; sentences and scores are those of the report. A
licence is never named: it depends on those of the base and of the images, which nothing here knows.
"""

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vasculora.core.io import write_text
from vasculora.core.runtime import versions
from vasculora.core.tables import counted
from vasculora.metrics.panel import METRICS
from vasculora.model.base import NANO
from vasculora.model.hub import PREFIX
from vasculora.model.memory import Memory, read_memory
from vasculora.recipes.config import FinetuneConfig
from vasculora.recipes.reporting.tables import metrics_table
from vasculora.recipes.reporting.verdict import PARTS, remarks, verdict, warnings
from vasculora.recipes.run_folder import HIDDEN

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCardData

CARD_NAME = "README.md"
TAGS = ("vasculora", "sa2va", "sam2", "lora", "medical-imaging", "vessel-segmentation")
TASK = "image-segmentation"

_TEMPLATE = Path(__file__).parents[2] / "assets" / "card.md"
_MODEL_DIR = "my-run"


def write_card(
    adapter_dir: Path,
    *,
    config: FinetuneConfig,
    evaluation: Mapping[str, Any],
    audit: Mapping[str, Any] | None,
    summary: Mapping[str, Any] | None,
    metrics: Mapping[str, Any] | None = None,
) -> Path:
    """Write the model card of an adapter and return its path.

    Args:
        adapter_dir: The adapter's folder, complete but for the card.
        config: Settings of the run that trained it.
        evaluation: Its scores, as in `evaluation.json`.
        audit: What the gradient reached, as in `audit.json`; None where it was not looked at.
        summary: Numbers of the data, as `recipes.summary.summarise` gives them; None where they are
            not known.
        metrics: Scores by epoch, as in `metrics.json`; None leaves the best epoch out.

    Raises:
        FileNotFoundError: If there is no adapter in the folder.
    """
    from huggingface_hub import ModelCard

    memory = read_memory(adapter_dir)
    card = ModelCard.from_template(
        _metadata(config, memory, evaluation),
        template_path=str(_TEMPLATE),
        **_about_the_model(config, memory),
        **_about_the_scores(evaluation, audit, num_epochs=config.trainer.epochs),
        data=_data(summary),
        settings=_table(("Setting", "Value"), list(_settings(config, memory, metrics))),
        audit=_audit(audit),
    )
    write_text(adapter_dir / CARD_NAME, str(card))
    return adapter_dir / CARD_NAME


def _metadata(
    config: FinetuneConfig, memory: Memory, evaluation: Mapping[str, Any]
) -> "ModelCardData":
    from huggingface_hub import ModelCardData

    results = _results(evaluation)
    return ModelCardData(
        base_model=_hub_id(config.model),
        library_name="peft",
        pipeline_tag=TASK,
        tags=list(TAGS),
        metrics=[result.metric_type for result in results] or None,
        model_name=f"{_base_name(config.model)}, {_plain(memory.prompt.phrase)}",
        eval_results=results or None,
    )


def _results(evaluation: Mapping[str, Any]) -> list["EvalResult"]:
    """Return the scores as the Hub lists them."""
    from huggingface_hub import EvalResult

    hidden = evaluation["data"] == HIDDEN
    threshold = evaluation["threshold"]
    return [
        EvalResult(
            task_type=TASK,
            dataset_type="imagefolder",
            dataset_name="private images" if hidden else Path(evaluation["data"]).name,
            dataset_split=evaluation["split"],
            metric_type=name,
            metric_name=METRICS[name].title,
            metric_value=round(evaluation["mean"][name], 4),
            metric_args=None if threshold is None else {"threshold": threshold},
        )
        for name in METRICS
        if evaluation["mean"].get(name) is not None
    ]


def _about_the_model(config: FinetuneConfig, memory: Memory) -> dict[str, str]:
    phrase = _plain(memory.prompt.phrase)
    named = config.provenance.versions if config.provenance else versions()
    return {
        "phrase_told": _escaped(phrase),
        "phrase_python": json.dumps(phrase, ensure_ascii=False),
        "phrase_shell": shlex.quote(phrase),
        "base": _escaped(_base_name(config.model)),
        "base_told": _base_told(config.model),
        "base_cure": (
            ""
            if config.model == NANO
            else " `vasculora.json` names the place where it lay in training: write yours there "
            f"under `base`, a folder or `{PREFIX}ORG/NAME`."
        ),
        "fingerprint": str(memory.fingerprint),
        "threshold": f"{memory.processor.threshold:g}",
        "model_dir": _MODEL_DIR,
        "version": named["vasculora"],
        "versions": ", ".join(f"{name} {number}" for name, number in named.items()) + ".",
    }


def _hub_id(model: str) -> str | None:
    """Return the repository of a base on the Hugging Face Hub, without its revision, or None."""
    return model.removeprefix(PREFIX).partition("@")[0] if model.startswith(PREFIX) else None


def _base_name(model: str) -> str:
    """Return what a base is called without saying where it lay."""
    return _hub_id(model) or Path(model).resolve().name


def _base_told(model: str) -> str:
    name = _escaped(_base_name(model))
    if model == NANO:
        return f"{name}, which comes with vasculora"
    if _hub_id(model) is None:
        return f"{name}, a folder of whoever trained this"
    revision = model.partition("@")[2]
    return f"{name} of the Hugging Face Hub" + (f" at {_escaped(revision)}" if revision else "")


def _about_the_scores(
    evaluation: Mapping[str, Any], audit: Mapping[str, Any] | None, *, num_epochs: int
) -> dict[str, str]:
    """Return the report's own sentences and its table of scores, in Markdown."""
    cases = counted(evaluation["num_cases"], f"{PARTS.get(evaluation['split'], '')}case")
    board = metrics_table(evaluation)
    heads = [", ".join(filter(None, column)) for column in board.columns]
    rows = [
        (f"{name}, {note}", *(f"{cell.text} {cell.detail}" for cell in cells))
        for name, note, cells in board.rows
    ]
    sentences = [
        verdict(evaluation, num_epochs=num_epochs),
        *remarks(evaluation),
        *warnings(evaluation, audit),
    ]
    swept = evaluation["sweep"] is not None
    return {
        "verdict": "\n\n".join(map(_escaped, sentences)),
        "threshold_told": ", the best of those tried on the validation part" if swept else "",
        "scored_on": f"{cases} of {counted(evaluation['num_groups'], 'group')}",
        "scores": _table((board.head, *heads), rows),
        "choice_told": (
            f"The validation part chose {'epoch and threshold' if swept else 'the epoch'}, so "
            "scores on it flatter; only a test part that nothing was chosen by gives the honest "
            "figure."
        ),
    }


def _data(summary: Mapping[str, Any] | None) -> str:
    """Return what may be said of the training data: numbers."""
    if summary is None:
        return "Not described."
    groups = counted(summary["num_groups"], "group")
    parts = ", ".join(
        f"{part['num_images']} ({part['num_groups']}) {PARTS.get(name, name).strip() or name}"
        for name, part in summary["parts"].items()
    )
    lines = [
        f"{counted(summary['num_images'], 'image')} of {groups} (patients, eyes or runs).",
        f"Images (groups) by part: {parts}.",
    ]
    if summary["sizes"]:
        lines.append(f"Sizes in pixels: {', '.join(summary['sizes'])}.")
    if summary["vessel_share"]:
        low, middle, high = (f"{share:.1%}" for share in summary["vessel_share"])
        lines.append(f"Share of an image that is vessel: {low} to {high}, median {middle}.")
    best = summary["ceiling"]
    if best:
        lines.append(
            f"Best that the base's mask grid allows: Dice {best['dice']:.3f}, clDice "
            f"{best['cldice']:.3f} (on {counted(best['num_masks'], 'mask')})."
        )
    return _list(lines)


def _settings(
    config: FinetuneConfig, memory: Memory, metrics: Mapping[str, Any] | None
) -> Iterator[tuple[str, str]]:
    lora, processor, trainer = config.lora, memory.processor, config.trainer
    yield "Groups that learnt", ", ".join(memory.trainable)
    yield "LoRA", f"rank {lora.rank}, alpha {lora.alpha}, dropout {lora.dropout:g}"
    yield "LoRA in the language model", lora.target_modules or lora.linears
    if "grounding_lora" in memory.trainable:
        yield "LoRA in SAM 2's encoder", f"rank {lora.grounding_rank}, alpha {lora.grounding_alpha}"
    if lora.use_dora or lora.use_rslora:
        yield "Variants", ", ".join(["DoRA"] * lora.use_dora + ["rsLoRA"] * lora.use_rslora)
    best = f", of which {metrics['best']['epoch']:.0f} was the best" if metrics else ""
    yield "Epochs", f"{trainer.epochs}{best}"
    yield "Images a step", f"{trainer.batch_size * trainer.accumulation}, on each device"
    rates = config.optim
    yield "AdamW", f"learning rate {rates.lr:g}, weight decay {rates.weight_decay:g}"
    yield "Loss", _objective(config)
    yield "Augmentation", config.data.augment
    shown = "whole" if processor.window is None else f"in windows of {processor.window} pixels"
    yield "Images", f"{shown}, for SAM 2 {processor.sam_size} pixels wide by {processor.fit}"
    yield "Question", memory.prompt.question
    yield "Answer", memory.prompt.answer
    yield "Seed", str(config.seed)


def _objective(config: FinetuneConfig) -> str:
    if config.objective == "official":
        return "that of the official training"
    weights = {name: getattr(config.objective, name) for name in ("dice", "focal", "bce", "text")}
    return ", ".join(f"{name} {weight:g}" for name, weight in weights.items() if weight)


def _audit(audit: Mapping[str, Any] | None) -> str:
    if audit is None:
        return "Not looked at."
    touched, whole = audit["num_touched"], audit["num_parameters"]
    return (
        f"On the first batch: {_escaped(audit['verdict'])} The gradient reached {touched:,} of "
        f"{whole:,} trainable weights ({touched / max(whole, 1):.1%})."
    )


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    escaped = [[_escaped(cell) for cell in row] for row in (heads, *rows)]
    lines = [escaped[0], ["---"] * len(heads), *escaped[1:]]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _plain(text: str) -> str:
    """Return a text on one line."""
    return " ".join(text.split())


def _escaped(text: str) -> str:
    """Return a text that Markdown shows as it is, also in a table's cell."""
    return re.sub(r"([\\`*_\[\]<>|~&$#])", r"\\\1", _plain(text))
