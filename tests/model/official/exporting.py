"""Checkpoints in the official format, written from a Sa2VA of ours: the key map read backwards.

With random weights of any size; so kinds of checkpoints that there is no reference for can be
loaded, damaged, sharded, and measured.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from accelerate import init_empty_weights
from safetensors.torch import save_file
from torch import Tensor

from vasculora.model.base import official_settings
from vasculora.model.official.config import OfficialConfig, read_layout
from vasculora.model.official.names import origins
from vasculora.model.prompts import PromptConfig
from vasculora.model.sa2va import Sa2VA
from vasculora.model.scratch import train_tokenizer

SAM2 = {
    "image_size": 64,
    "hidden": 64,
    "embed_dim": 8,
    "heads": 1,
    "stages": (1, 1, 2, 1),
    "glob": (3,),
    "win": (4, 4, 4, 4),
    "channels": (64, 32, 16, 8),
    "mem_layers": 1,
    "mem_ff": 32,
    "mlp_dim": 32,
    "iou_hidden": 32,
}
VISION = {
    "architectures": ["InternVisionModel"],
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "image_size": 56,
}
LANGUAGE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def internvl_config(language: Mapping[str, object], vision: Mapping[str, object]) -> dict:
    """Return a `config.json` of the InternVL family."""
    return {
        "model_type": "sa2va_chat",
        "architectures": ["Sa2VAChatModel"],
        "auto_map": {"AutoModel": "modeling_sa2va_chat.Sa2VAChatModel"},
        "force_image_size": 56,
        "downsample_ratio": 0.5,
        "ps_version": "v2",
        "select_layer": -1,
        "template": "qwen_chat",
        "llm_config": LANGUAGE | dict(language),
        "vision_config": VISION | dict(vision),
    }


def build(folder: Path, *, sam2=None, seed: int = 0) -> Sa2VA:
    """Return a model of the kind that a folder's `config.json` describes, with random weights."""
    layout = read_layout(folder, OfficialConfig.model_validate({"sam2": sam2 or SAM2}))
    model = Sa2VA(**official_settings(layout, seg_id=5, image_id=4))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in model.state_dict().values():
            value.copy_(torch.randn(value.shape, generator=generator) * 0.1)
        positions = model.grounding.shared_image_embedding.positional_embedding
        model.grounding.prompt_encoder.shared_embedding.positional_embedding.copy_(positions)
    return model


def describe(folder: Path, *, sam2=None) -> dict[str, Tensor]:
    """Return official names and shapes of the kind that `config.json` describes, on meta."""
    layout = read_layout(folder, OfficialConfig.model_validate({"sam2": sam2 or SAM2}))
    with init_empty_weights():
        model = Sa2VA(**official_settings(layout, seg_id=5, image_id=4))
    return official_state(model, folder, sam2=sam2)


def official_state(model: Sa2VA, folder: Path, *, sam2=None) -> dict[str, Tensor]:
    """Return a model's weights under their official names, joined as they are there."""
    layout = read_layout(folder, OfficialConfig.model_validate({"sam2": sam2 or SAM2}))
    state, pieces = model.state_dict(), {}
    for ours, origin in origins(state, (), layout).items():
        for place, name in enumerate(origin.names):
            pieces.setdefault(name, []).append((ours, place, len(origin.names)))
    return {name: _joined(name, found, state, layout) for name, found in pieces.items()}


def _joined(name, found, state, layout):
    ours, place, num_names = found[0]
    if num_names > 1:
        return state[ours][place : place + 1].clone()
    if "qkv" not in name or len(found) < 3:
        return state[ours].clone()
    parts = {key.split("_proj")[0][-1]: state[key] for key, _, _ in found}
    if "wqkv" not in name:
        return torch.cat([parts["q"], parts["k"], parts["v"]])
    num_heads, num_key_heads = layout.grouped_heads
    grouped = [
        parts[p].unflatten(0, (num_key_heads, n, -1))
        for p, n in (("q", num_heads // num_key_heads), ("k", 1), ("v", 1))
    ]
    return torch.cat(grouped, dim=1).flatten(0, 2)


def write_config(folder: Path, config: Mapping[str, object]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))


def write_weights(folder: Path, state: Mapping[str, Tensor]) -> None:
    contiguous = {name: value.contiguous() for name, value in state.items()}
    save_file(contiguous, folder / "model.safetensors", metadata={"format": "pt"})


def write_tokenizer(folder: Path) -> None:
    """Write a tokenizer with the tokens that InternVL and `[SEG]` need."""
    train_tokenizer(["vessel"], PromptConfig(), vocab_size=320).save_pretrained(folder)


def write_shards(
    folder: Path, described: Mapping[str, Tensor], *, max_bytes: int, dtype=torch.float32, seed=0
) -> list[Path]:
    """Write random weights of given shapes and their index; one shard at a time is in memory.

    Args:
        folder: Where to.
        described: Tensors whose shapes alone count, by name.
        max_bytes: Largest shard; a tensor may not be larger.
        dtype: Number format in the files.
        seed: Of the weights.
    """
    shards = list(_shards(described, max_bytes, dtype.itemsize))
    generator = torch.Generator().manual_seed(seed)
    files = []
    for number, names in enumerate(shards, start=1):
        files.append(folder / f"model-{number:05}-of-{len(shards):05}.safetensors")
        values = {
            name: torch.randn(described[name].shape, generator=generator).mul_(0.02).to(dtype)
            for name in names
        }
        save_file(values, files[-1], metadata={"format": "pt"})
    places = {n: file.name for file, names in zip(files, shards, strict=True) for n in names}
    total = sum(value.numel() for value in described.values()) * dtype.itemsize
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return files


def _shards(described: Mapping[str, Tensor], max_bytes: int, item_size: int) -> Iterator[list[str]]:
    names, size = [], 0
    for name, value in described.items():
        more = value.numel() * item_size
        if more > max_bytes:
            raise ValueError(f"{name} takes {more} bytes, more than a shard's {max_bytes}.")
        if names and size + more > max_bytes:
            yield names
            names, size = [], 0
        names.append(name)
        size += more
    yield names
