"""See what a model's folder is, without reading a weight: from its settings, index and headers.

    settings of run and base -> empty model -> index and headers compared with it -> counts

What is missing is told and not refused, since a folder is looked at when it is not whole yet: sizes
and counts come from `config.json` alone. What is there must fit, as when the model is opened.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict

from vasculora.model.anatomy import (
    Inputs,
    build_empty,
    count_attached,
    count_blocks,
    inputs_of,
    read_adapter,
    sizes_of,
    stored_by_block,
)
from vasculora.model.base import Base, Plan, add_tokenizer, blaming_config, find_folder, read_plan
from vasculora.model.memory import Memory
from vasculora.model.mllm import find_family
from vasculora.model.official.config import OfficialConfig
from vasculora.model.pretrained import ADAPTER_NAME, read_run
from vasculora.model.processor import Processor
from vasculora.model.prompts import TEMPLATES
from vasculora.model.sa2va import Sa2VA
from vasculora.model.weights.files import Index, Stored, find_weights, read_index
from vasculora.model.weights.placing import Origin, check_fit, check_names
from vasculora.recipes.config import finetune_settings, preset_names
from vasculora.recipes.inspection import (
    Block,
    Inspection,
    PresetCounts,
    RunAdapter,
    Token,
    WeightFiles,
    Words,
)


class InspectConfig(BaseModel):
    """Settings of `vasculora inspect`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = "nano"
    """`nano`, a base model's folder or a run's folder."""
    official: OfficialConfig = OfficialConfig()
    """How an official checkpoint is read."""


@dataclass(frozen=True)
class _Run:
    folder: Path
    base: str
    memory: Memory


@dataclass(frozen=True)
class _Weights:
    found: Mapping[str, Stored]
    index: Index | None
    origins: Mapping[str, Origin]
    warnings: tuple[str, ...] = ()


def inspect(config: InspectConfig) -> Inspection:
    """Return what a model's folder is.

    Args:
        config: Which folder, and how it is read.

    Raises:
        FileNotFoundError: If there is no such model, or its settings are missing.
        ValueError: If something is damaged or does not fit together.
        OSError: If a file may not be read.
    """
    folder = find_folder(config.model)
    plan, runs = _trace(folder, config.official)
    base, untold = _try_tokenizer(plan)
    with blaming_config(plan.folder):
        model = build_empty(plan.settings)
    weights, words = _read_weights(plan, model), _words(plan, base, runs)
    inputs = inputs_of(model, (runs[-1] if runs else plan).memory.processor)
    return Inspection(
        folder=str(plan.folder),
        kind="vasculora" if plan.layout is None else "official",
        family=plan.settings["family"],
        language_model=_language_model(plan, model),
        adapters=tuple(_adapter(plan, run) for run in runs),
        parts=sizes_of(model),
        inputs=inputs,
        blocks=_blocks(model, weights),
        num_parameters=_num_parameters(model),
        files=_files(weights),
        words=words,
        presets=tuple(_preset(name, folder, plan) for name in preset_names()),
        warnings=(*untold, *weights.warnings, *_unknown(plan.folder, words, inputs)),
    )


def _trace(folder: Path, official: OfficialConfig) -> tuple[Plan, list[_Run]]:
    """Return the base that a folder is or leads to, and the runs between, the innermost first."""
    if not (folder / ADAPTER_NAME).is_dir():
        return read_plan(folder, official), []
    memory, base = read_run(folder, official)
    plan, inner = _trace(find_folder(base), memory.official or OfficialConfig())
    return plan, [*inner, _Run(folder, base, memory)]


def _try_tokenizer(plan: Plan) -> tuple[Base | None, tuple[str, ...]]:
    try:
        return add_tokenizer(plan), ()
    except FileNotFoundError as missing:
        return None, (str(missing),)


def _read_weights(plan: Plan, model: Sa2VA) -> _Weights:
    """Return what is known of the weights, compared with the model."""
    index, names = read_index(plan.folder), model.state_dict()
    try:
        found = find_weights(plan.folder)
    except FileNotFoundError as missing:
        if index is None:
            return _Weights({}, None, {}, (str(missing),))
        origins = plan.origins(names, index.file_of)
        check_names(plan.folder, index.file_of, origins)
        warnings = (str(missing), *_miscounted(index, _num_parameters(model)))
        return _Weights({}, index, origins, warnings)
    origins = plan.origins(names, found)
    check_fit(model, found, origins)
    return _Weights(found, index, origins)


def _miscounted(index: Index, num_parameters: int) -> tuple[str, ...]:
    told = index.total_parameters
    if told is None or told == num_parameters:
        return ()
    return (
        f"{index.path}: counts {told:,} parameters, but a model of these settings has "
        f"{num_parameters:,}. Whether shapes differ is seen when the weight files are there.",
    )


def _num_parameters(model: Sa2VA) -> int:
    return sum(count_blocks(model).values())


def _language_model(plan: Plan, model: Sa2VA) -> str:
    """Return the official class, or the one of transformers where the base is ours."""
    if plan.layout is not None:
        return plan.layout.language_model
    return type(model.mllm.model.language_model).__name__


def _adapter(plan: Plan, run: _Run) -> RunAdapter:
    adapter = read_adapter(plan.settings, run.folder / ADAPTER_NAME)
    return RunAdapter(
        folder=str(run.folder),
        base=run.base,
        trained=run.memory.trainable,
        groups=adapter.groups,
        ranks=adapter.ranks,
        dtypes=_names(adapter.stored),
    )


def _blocks(model: Sa2VA, weights: _Weights) -> tuple[Block, ...]:
    stored = stored_by_block(weights.found, weights.origins)
    return tuple(
        Block(
            name=name,
            parameters=count,
            dtypes=_names(stored.get(name, {})),
            num_bytes=_num_bytes(stored[name]) if weights.found else None,
        )
        for name, count in count_blocks(model).items()
    )


def _files(weights: _Weights) -> WeightFiles:
    index, found = weights.index, weights.found.values()
    if found:
        return WeightFiles(
            index=None if index is None else index.path.name,
            num_files=len({stored.file for stored in found}),
            num_tensors=len(found),
            num_bytes=sum(math.prod(stored.shape) * stored.dtype.itemsize for stored in found),
        )
    if index is None:
        return WeightFiles(index=None, num_files=None, num_tensors=None, num_bytes=None)
    return WeightFiles(
        index=index.path.name,
        num_files=len(index.files),
        num_tensors=len(index.file_of),
        num_bytes=index.total_size,
    )


def _words(plan: Plan, base: Base | None, runs: Sequence[_Run]) -> Words:
    prompt = runs[-1].memory.prompt if runs else (base or plan).memory.prompt
    told_by_tokenizer = plan.layout is not None and find_family(plan.layout.family).image_first
    return Words(
        template=prompt.template,
        system=None if told_by_tokenizer and base is None and not runs else prompt.system,
        stop_words=TEMPLATES[prompt.template].stop_words,
        tokens=() if base is None else _tokens(base.processor),
    )


def _tokens(processor: Processor) -> tuple[Token, ...]:
    ids = {
        "seg": processor.seg_id,
        "image": processor.image_id,
        "end": processor.stop.ids[0],
        "pad": processor.stop.pad_id,
    }
    texts = processor.tokenizer.convert_ids_to_tokens(list(ids.values()))
    return tuple(
        Token(name=name, text=text, id=ids[name]) for name, text in zip(ids, texts, strict=True)
    )


def _unknown(folder: Path, words: Words, inputs: Inputs) -> tuple[str, ...]:
    """Return what to say of tokens that the model has no row for."""
    beyond = [token for token in words.tokens if token.id >= inputs.vocabulary]
    return tuple(
        f"{folder}: the tokenizer's {token.text} has the id {token.id}, but config.json a "
        f"vocabulary of {inputs.vocabulary:,}. Copy both again from one place."
        for token in beyond
    )


def _preset(name: str, folder: Path, plan: Plan) -> PresetCounts:
    """Return what fine-tuning this model with a preset would attach and train."""
    settings = finetune_settings(
        config_path=None,
        preset=name,
        overrides=(),
        values={"model": str(folder), "data.path": "."},  # the data have no say in it
    )
    counts = count_attached(plan.settings, settings.lora)
    return PresetCounts(
        name=name,
        attached=counts.attached,
        trainable=counts.trainable,
        num_attached=counts.num_attached,
        num_trainable=counts.num_trainable,
        left_out=tuple(
            group
            for group in (*settings.lora.trainable, *settings.lora.frozen)
            if group not in counts.attached
        ),
    )


def _names(stored: Mapping[torch.dtype, int]) -> tuple[str, ...]:
    """Return number formats by name, the most frequent first."""
    dtypes = sorted(stored, key=lambda dtype: -stored[dtype])
    return tuple(str(dtype).removeprefix("torch.") for dtype in dtypes)


def _num_bytes(stored: Mapping[torch.dtype, int]) -> int:
    return sum(count * dtype.itemsize for dtype, count in stored.items())
