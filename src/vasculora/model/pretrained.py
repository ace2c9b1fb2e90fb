"""From the word a user gives for a model to the model: `nano`, a base's folder, or a run's folder.

A base's folder and a run's adapter both hold `vasculora.json`: the processor, the words and the
threshold the weights were made with, so nothing of it can drift between training and use. A run's
also names its base and the base's fingerprint. A run is opened by opening its base and merging the
adapter into it; so a run can itself be fine-tuned or be the base of another.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from vasculora.model.base import CONFIG_NAME, NANO, find_folder, read_base
from vasculora.model.lora import load_adapter
from vasculora.model.memory import MEMORY_NAME, Memory, read_memory
from vasculora.model.official.config import OfficialConfig
from vasculora.model.processor import Processor, ProcessorConfig
from vasculora.model.prompts import PromptConfig
from vasculora.model.sa2va import Sa2VA
from vasculora.model.weights.files import weight_files

ADAPTER_NAME = "adapter"
DEFAULTS_NAME = "finetune.yaml"
_NUM_PROBES = 64
_PROBE_BYTES = 4096


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
    name: str | Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    official: OfficialConfig = OfficialConfig(),  # noqa: B008 - frozen
) -> OpenedModel:
    """Return the model a user named.

    Args:
        name: `nano`, a base's folder, a run's folder, or `hf://ORG/NAME`.
        device: Where to put it.
        dtype: Number format of its weights.
        official: How an official checkpoint is read.

    Raises:
        FileNotFoundError: If there is no model of that name.
        ValueError: If files are damaged, or an adapter's base has changed.
    """
    folder = find_folder(name)
    if (folder / ADAPTER_NAME).is_dir():
        return _open_run(folder, device=device, dtype=dtype, official=official)
    base = read_base(folder, official)
    return OpenedModel(
        name=NANO if str(name) == NANO else str(folder.resolve()),
        model=Sa2VA.of(base, dtype=dtype, device=torch.device(device)),
        processor=base.processor,
        memory=base.memory,
        fingerprint=_fingerprint([folder / CONFIG_NAME, *weight_files(folder)]),
    )


def defaults_path(name: str | Path) -> Path | None:
    """Return the file of settings that a model's base recommends for its fine-tuning, or None.

    Raises:
        FileNotFoundError: If there is no model of that name.
    """
    folder = find_folder(name)
    if (folder / ADAPTER_NAME).is_dir():
        base = read_memory(folder / ADAPTER_NAME).base
        return None if base is None else defaults_path(base)
    path = folder / DEFAULTS_NAME
    return path if path.is_file() else None


def read_run(folder: Path, official: OfficialConfig) -> tuple[Memory, str]:
    """Return what a run's adapter remembers, and the name of its base.

    Args:
        folder: A run's folder.
        official: How the caller would have an official checkpoint read; nothing, in a run.

    Raises:
        FileNotFoundError: If the adapter is not complete.
        ValueError: If it names no base, or the caller gives settings that the run remembers.
    """
    if official != OfficialConfig():
        raise ValueError(
            f"{folder}: sam2, min_pixels and max_pixels are for official checkpoints; this run "
            "remembers how its base was read. Leave them out."
        )
    adapter = folder / ADAPTER_NAME
    memory = read_memory(adapter)
    if memory.base is None:
        raise ValueError(f"{adapter / MEMORY_NAME}: names no base. Copy the run again.")
    return memory, memory.base


def _open_run(
    folder: Path, *, device: torch.device | str, dtype: torch.dtype, official: OfficialConfig
) -> OpenedModel:
    memory, base_name = read_run(folder, official)
    adapter = folder / ADAPTER_NAME
    base = open_model(
        base_name, device=device, dtype=dtype, official=memory.official or OfficialConfig()
    )
    if base.fingerprint != memory.fingerprint:
        raise ValueError(
            f"{adapter}: the adapter was trained on {memory.base} with fingerprint "
            f"{memory.fingerprint}, but what is there now has {base.fingerprint}. "
            "Restore that base, or fine-tune again on this one."
        )
    model = load_adapter(base.model, adapter).merge_and_unload().eval()
    adapter_print = _fingerprint(
        [adapter / "adapter_config.json", adapter / "adapter_model.safetensors"]
    )
    opened = base.with_settings(processor=memory.processor, prompt=memory.prompt)
    model.processor = opened.processor
    return replace(
        opened,
        name=str(folder.resolve()),
        model=model,
        fingerprint=hashlib.sha256((base.fingerprint + adapter_print).encode()).hexdigest()[:16],
    )


def _fingerprint(paths: Sequence[Path]) -> str:
    """Return a short digest of files: their sizes and evenly spread samples of their bytes.

    Reading all of a 16 GB base would cost a minute each time; another fine-tune of the same base
    differs in every sample.
    """
    digest = hashlib.sha256()
    for path in paths:
        size = path.stat().st_size
        digest.update(f"{path.name}:{size}".encode())
        with path.open("rb") as file:
            for probe in range(_NUM_PROBES):
                file.seek(size * probe // _NUM_PROBES)
                digest.update(file.read(_PROBE_BYTES))
    return digest.hexdigest()[:16]
