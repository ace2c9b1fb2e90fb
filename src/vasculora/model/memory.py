"""What is remembered beside weights, for the day they are used: `vasculora.json`.

A base's folder and a run's adapter both hold one: the processor, the words and the threshold the
weights were made with, so nothing of it can drift between training and use.
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from vasculora.core.io import write_json
from vasculora.model.official.config import OfficialConfig
from vasculora.model.processor import ProcessorConfig
from vasculora.model.prompts import PromptConfig

MEMORY_NAME = "vasculora.json"


class Memory(BaseModel):
    """What is remembered beside weights, for the day they are used."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    processor: ProcessorConfig
    """How pictures become tensors, and the threshold."""
    prompt: PromptConfig
    """The words around a phrase."""
    base: str | None = None
    """Of an adapter: the model it was trained on."""
    official: OfficialConfig | None = None
    """Of an adapter: how its base, an official checkpoint, was read, where that was said."""
    fingerprint: str | None = None
    """Of an adapter: the base's fingerprint when it was trained."""
    trainable: tuple[str, ...] = ()
    """Of an adapter: the groups that learnt."""


def read_memory(folder: Path) -> Memory:
    """Return what is remembered in a base's or an adapter's folder.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged.
    """
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


def write_memory(folder: Path, memory: Memory) -> None:
    """Write what is remembered into a folder."""
    write_json(folder / MEMORY_NAME, memory.model_dump(mode="json", exclude_none=True))
