"""What a base's folder holds: one of ours, or an official checkpoint.

The rest of the code sees no difference between them.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from vasculora.core.io import read_json
from vasculora.model.hub import PREFIX, fetch
from vasculora.model.memory import Memory, read_memory
from vasculora.model.official.chat import system_turn
from vasculora.model.official.config import MODEL_TYPE as OFFICIAL_TYPE
from vasculora.model.official.config import Layout, OfficialConfig, grounding_config, read_layout
from vasculora.model.official.names import origins
from vasculora.model.official.tokenizers import load_tokenizer
from vasculora.model.processor import Processor
from vasculora.model.prompts import PromptConfig
from vasculora.model.weights.placing import Origin

CONFIG_NAME = "config.json"
NANO = "nano"
_NANO_DIR = Path(__file__).parent.parent / "assets" / NANO
MODEL_TYPE = "vasculora_sa2va"
_LONGEST_REASON = 160
SETTINGS = ("family", "mllm", "grounding", "seg_token_id")


OriginsOf = Callable[[Iterable[str], Iterable[str]], Mapping[str, Origin]]
"""Gives the origin of each of a Sa2VA's weights, from our names and the stored ones."""


@dataclass(frozen=True)
class Plan:
    """A base as its settings describe it; neither its tokenizer nor its weights are read.

    Attributes:
        folder: Where it is.
        layout: The kind of an official checkpoint; None where the base is one of ours.
        settings: What a Sa2VA is built from. Of an official checkpoint, the ids that its tokenizer
            gives are 0.
        memory: Processor, words and threshold. Of an official checkpoint, without the system turn,
            which its tokenizer gives.
        origins: Gives the origins of its weights.
    """

    folder: Path
    layout: Layout | None
    settings: Mapping[str, Any]
    memory: Memory
    origins: OriginsOf


@dataclass(frozen=True)
class Base:
    """A base as its folder describes it, without its weights.

    Attributes:
        folder: Where it is.
        settings: What a Sa2VA is built from.
        processor: The door to it.
        memory: Processor, words and threshold.
        origins: Gives the origins of its weights.
    """

    folder: Path
    settings: Mapping[str, Any]
    processor: Processor
    memory: Memory
    origins: OriginsOf


def find_folder(name: str | Path) -> Path:
    """Return the folder of the model a user named: `nano`, a folder, or `hf://ORG/NAME`.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If the hub knows no such repository.
        OSError: If the hub cannot be reached.
    """
    if str(name).startswith(PREFIX):
        return fetch(str(name))
    folder = _NANO_DIR if str(name) == NANO else Path(name)
    if not folder.is_dir():
        hub = (
            f", or {PREFIX}{name} to download it"
            if re.fullmatch(r"[\w.-]+/[\w.-]+", str(name))
            else ""
        )
        raise FileNotFoundError(
            f"{name}: no such model. Give `nano`, a base model's folder or a run's folder{hub}."
        )
    return folder


def read_base(folder: Path, official: OfficialConfig) -> Base:
    """Return what a base's folder holds.

    Args:
        folder: A folder that `Sa2VA.save_pretrained` wrote, or an official checkpoint.
        official: How an official checkpoint is read.

    Raises:
        FileNotFoundError: If the folder or one of its files is not there.
        ValueError: If a file is damaged, or it is no Sa2VA.
    """
    base = add_tokenizer(read_plan(folder, official))
    _check_ids(base)
    return base


def read_plan(folder: Path, official: OfficialConfig) -> Plan:
    """Return what a base's settings say of it: the part of `read_base` that needs no tokenizer.

    Args:
        folder: A folder that `Sa2VA.save_pretrained` wrote, or an official checkpoint.
        official: How an official checkpoint is read.

    Raises:
        FileNotFoundError: If the settings are not there.
        ValueError: If they are damaged, or it is no Sa2VA.
    """
    tree = _read_config(folder)
    if tree.get("model_type") == MODEL_TYPE:
        if official != OfficialConfig():
            raise ValueError(
                f"{folder}: sam2, min_pixels and max_pixels are for official checkpoints; this "
                "base holds its own. Leave them out."
            )
        return _plan_own(folder, tree)
    return _plan_official(folder, official)


def add_tokenizer(plan: Plan) -> Base:
    """Return a base with its tokenizer: the other part of `read_base`.

    Raises:
        FileNotFoundError: If there is no tokenizer.
        ValueError: If it is damaged, or does not belong to the checkpoint.
    """
    layout, settings, memory = plan.layout, plan.settings, plan.memory
    if layout is None:
        processor = Processor(_own_tokenizer(plan.folder), memory.processor, memory.prompt)
    else:
        tokenizer = load_tokenizer(plan.folder)
        try:
            prompt = memory.prompt.model_copy(update={"system": system_turn(tokenizer, layout)})
            processor = Processor(tokenizer, layout.processor, prompt)
        except ValueError as cause:
            raise ValueError(f"{plan.folder}: {cause}") from cause
        settings = official_settings(layout, seg_id=processor.seg_id, image_id=processor.image_id)
        memory = memory.model_copy(update={"prompt": prompt})
    return Base(
        folder=plan.folder,
        settings=settings,
        processor=processor,
        memory=memory,
        origins=plan.origins,
    )


def _check_ids(base: Base) -> None:
    """Raise ValueError if a token in use is beyond the vocabulary, as another model's would be."""
    mllm = base.settings["mllm"]
    text = mllm.get("text_config") if isinstance(mllm, dict) else None
    size = text.get("vocab_size") if isinstance(text, dict) else None
    ids = (base.processor.seg_id, base.processor.image_id, *base.processor.stop.ids)
    if isinstance(size, int) and max(ids) >= size:
        raise ValueError(
            f"{base.folder}: its tokenizer gives [SEG], image and end the ids "
            f"{', '.join(map(str, ids))}, but {CONFIG_NAME} states {size} tokens. "
            f"Copy {CONFIG_NAME} and the tokenizer's files again, from one place."
        )


@contextmanager
def blaming_config(folder: Path) -> Iterator[None]:
    """Turn what goes wrong in building a model into one error that names its `config.json`.

    Args:
        folder: The folder whose settings the model is built from.

    Raises:
        ValueError: If no model can be built from them.
    """
    try:
        yield
    except Exception as cause:  # each class of transformers has exceptions of its own
        reason = " ".join(str(cause).split())[:_LONGEST_REASON]
        raise ValueError(
            f"{folder / CONFIG_NAME}: no model can be built from it ({type(cause).__name__}: "
            f"{reason}). Copy the file again."
        ) from cause


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_NAME
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder}: expected a base model (with {CONFIG_NAME}) or a run folder (with "
            "adapter/), found neither. Give `nano`, a base's folder or a run's folder."
        )
    tree = read_json(path)
    if isinstance(tree, dict) and tree.get("model_type") in (MODEL_TYPE, OFFICIAL_TYPE):
        return tree
    found = tree.get("model_type") if isinstance(tree, dict) else None
    asks = isinstance(tree, dict) and "auto_map" in tree
    why = " It asks for remote code (auto_map), which vasculora never runs." if asks else ""
    raise ValueError(
        f"{path}: expected model_type '{OFFICIAL_TYPE}' (an official Sa2VA) or '{MODEL_TYPE}' (one "
        f"of ours), got {found!r}.{why} Give the folder of a Sa2VA checkpoint."
    )


def _own_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Return the tokenizer of a base of ours."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: the base's tokenizer is missing. Copy it again.")
    try:
        return PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    except Exception as cause:
        raise ValueError(
            f"{path}: expected a tokenizer, but it cannot be read ({cause}). Copy the base again."
        ) from cause


def _plan_own(folder: Path, tree: Mapping[str, Any]) -> Plan:
    if absent := [name for name in SETTINGS if name not in tree]:
        raise ValueError(
            f"{folder / CONFIG_NAME}: the settings {', '.join(absent)} are missing. Copy the base "
            "again."
        )
    return Plan(
        folder=folder,
        layout=None,
        settings={name: tree[name] for name in SETTINGS},
        memory=read_memory(folder),
        origins=lambda names, stored: {name: Origin((name,)) for name in names},
    )


def _plan_official(folder: Path, official: OfficialConfig) -> Plan:
    layout = read_layout(folder, official)
    return Plan(
        folder=folder,
        layout=layout,
        settings=official_settings(layout, seg_id=0, image_id=0),
        memory=Memory(processor=layout.processor, prompt=PromptConfig(template=layout.template)),
        origins=lambda names, stored: origins(names, stored, layout),
    )


def official_settings(layout: Layout, *, seg_id: int, image_id: int) -> dict[str, Any]:
    """Return what the Sa2VA of an official checkpoint is built from.

    Args:
        layout: The kind of checkpoint.
        seg_id: Id of `[SEG]`.
        image_id: Id of the token that image features replace.
    """
    return {
        "family": layout.family,
        "mllm": layout.mllm | {"image_token_id": image_id},
        "grounding": grounding_config(layout.sam2),
        "seg_token_id": seg_id,
    }
