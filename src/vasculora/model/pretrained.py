"""From the word a user gives for a model to the model: `nano`, a base's folder, or a run's folder.

A base's folder and a run's adapter both hold `vasculora.json`: the processor, the words and the
threshold the weights were made with, so nothing of it can drift between training and use. A run's
also names its base and the base's fingerprint. A run is opened by opening its base and merging the
adapter into it; so a run can itself be fine-tuned or be the base of another.
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from vasculora.core.io import write_json
from vasculora.model.lora import load_adapter
from vasculora.model.processor import Processor, ProcessorConfig
from vasculora.model.prompts import PromptConfig
from vasculora.model.sa2va import CONFIG_NAME, WEIGHTS_NAME, Sa2VA, read_model_config

MEMORY_NAME = "vasculora.json"
ADAPTER_NAME = "adapter"
DEFAULTS_NAME = "finetune.yaml"
NANO = "nano"
_NANO_DIR = Path(__file__).parent.parent / "assets" / NANO
_NUM_PROBES = 64
_PROBE_BYTES = 4096


class Memory(BaseModel):
    """What is remembered beside weights, for the day they are used."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    processor: ProcessorConfig
    """How pictures become tensors, and the threshold."""
    prompt: PromptConfig
    """The words around a phrase."""
    base: str | None = None
    """Of an adapter: the model it was trained on."""
    fingerprint: str | None = None
    """Of an adapter: the base's fingerprint when it was trained."""
    trainable: tuple[str, ...] = ()
    """Of an adapter: the groups that learnt."""


@dataclass(frozen=True)
class OpenedModel:
    """A model ready to be asked or fine-tuned, with what belongs to it.

    Attributes:
        name: `nano` or the folder, as an adapter should remember it.
        model: The merged weights, in evaluation mode.
        processor: The door to it.
        memory: Processor, words and threshold.
        fingerprint: Short digest of its weights.
    """

    name: str
    model: Sa2VA
    processor: Processor
    memory: Memory
    fingerprint: str

    def with_settings(self, *, processor: ProcessorConfig, prompt: PromptConfig) -> "OpenedModel":
        """Return the same model behind another processor and other words."""
        memory = self.memory.model_copy(update={"processor": processor, "prompt": prompt})
        door = Processor(self.processor.tokenizer, processor, prompt)
        return replace(self, processor=door, memory=memory)


def open_model(
    name: str | Path, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> OpenedModel:
    """Return the model a user named.

    Args:
        name: `nano`, a base's folder, or a run's folder.
        device: Where to put it.
        dtype: Number format of its weights.

    Raises:
        FileNotFoundError: If there is no model of that name.
        ValueError: If files are damaged, or an adapter's base has changed.
    """
    folder = _folder(name)
    if (folder / ADAPTER_NAME).is_dir():
        return _open_run(folder, device=device, dtype=dtype)
    read_model_config(folder)  # says what the folder is, before anything else of it is missed
    memory = read_memory(folder)
    return OpenedModel(
        name=NANO if str(name) == NANO else str(folder.resolve()),
        model=Sa2VA.from_pretrained(folder, dtype=dtype, device=device),
        processor=Processor.from_pretrained(folder, memory.processor, memory.prompt),
        memory=memory,
        fingerprint=_fingerprint(folder, (CONFIG_NAME, WEIGHTS_NAME)),
    )


def read_memory(folder: Path) -> Memory:
    """Return what is remembered in a base's or an adapter's folder."""
    path = folder / MEMORY_NAME
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: the folder was not written completely. Copy it again."
        )
    try:
        return Memory.model_validate_json(path.read_text())
    except ValidationError as cause:
        first = cause.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{path}: {where}: {first['msg']}. Copy the file again.") from cause


def defaults_path(name: str | Path) -> Path | None:
    """Return the file of settings that a model's base recommends for its fine-tuning, or None.

    Raises:
        FileNotFoundError: If there is no model of that name.
    """
    folder = _folder(name)
    if (folder / ADAPTER_NAME).is_dir():
        base = read_memory(folder / ADAPTER_NAME).base
        return None if base is None else defaults_path(base)
    path = folder / DEFAULTS_NAME
    return path if path.is_file() else None


def _folder(name: str | Path) -> Path:
    folder = _NANO_DIR if str(name) == NANO else Path(name)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{name}: no such model. Give `nano`, a base model's folder or a run's folder."
        )
    return folder


def _open_run(folder: Path, *, device: torch.device | str, dtype: torch.dtype) -> OpenedModel:
    adapter = folder / ADAPTER_NAME
    memory = read_memory(adapter)
    if memory.base is None:
        raise ValueError(f"{adapter / MEMORY_NAME}: names no base. Copy the run again.")
    base = open_model(memory.base, device=device, dtype=dtype)
    if base.fingerprint != memory.fingerprint:
        raise ValueError(
            f"{adapter}: the adapter was trained on {memory.base} with fingerprint "
            f"{memory.fingerprint}, but what is there now has {base.fingerprint}. "
            "Restore that base, or fine-tune again on this one."
        )
    model = load_adapter(base.model, adapter).merge_and_unload().eval()
    adapter_print = _fingerprint(adapter, ("adapter_config.json", "adapter_model.safetensors"))
    return replace(
        base.with_settings(processor=memory.processor, prompt=memory.prompt),
        name=str(folder.resolve()),
        model=model,
        fingerprint=hashlib.sha256((base.fingerprint + adapter_print).encode()).hexdigest()[:16],
    )


def _fingerprint(folder: Path, names: tuple[str, ...]) -> str:
    """Return a short digest of files: their sizes and evenly spread samples of their bytes.

    Reading all of a 16 GB base would cost a minute each time; another fine-tune of the same base
    differs in every sample.
    """
    digest = hashlib.sha256()
    for name in names:
        path = folder / name
        size = path.stat().st_size
        digest.update(f"{name}:{size}".encode())
        with path.open("rb") as file:
            for probe in range(_NUM_PROBES):
                file.seek(size * probe // _NUM_PROBES)
                digest.update(file.read(_PROBE_BYTES))
    return digest.hexdigest()[:16]


def write_memory(folder: Path, memory: Memory) -> None:
    """Write what is remembered into a folder."""
    write_json(folder / MEMORY_NAME, memory.model_dump(mode="json", exclude_none=True))
