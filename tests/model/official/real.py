"""Folders as Sa2VA-InternVL3-8B has them, without its weights: config, index, and empty shards.

Shards have true headers and are as long as they say, but take no room on the disk.
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

CONFIG = {
    "model_type": "sa2va_chat",
    "architectures": ["Sa2VAChatModel"],
    "auto_map": {"AutoModel": "modeling_sa2va_chat.Sa2VAChatModel"},
    "force_image_size": 448,
    "downsample_ratio": 0.5,
    "ps_version": "v2",
    "select_layer": -1,
    "template": "qwen_chat",
    "llm_config": {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 151679,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
    },
    "vision_config": {
        "architectures": ["InternVisionModel"],
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
        "image_size": 448,
        "patch_size": 14,
        "qkv_bias": True,
        "qk_normalization": False,
        "norm_type": "layer_norm",
        "layer_norm_eps": 1e-6,
    },
}
TOTALS = {"total_size": 32122400968, "total_parameters": 8182606130}
NUM_SHARDS = 7


def read_keymap(shared: Path) -> dict[str, dict]:
    """Return every tensor's shape, and where it goes and how, by its name."""
    return json.loads((shared / "golden" / "keymap_internvl3_8b.json").read_text())


def write_real(folder: Path, keymap: Mapping[str, dict], *, shards: bool) -> Path:
    """Write the folder: settings and index, and empty shards where they are wanted."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    names = list(keymap)
    file_of = {name: _file(NUM_SHARDS * place // len(names)) for place, name in enumerate(names)}
    index = {"metadata": TOTALS, "weight_map": file_of}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    for file in sorted(set(file_of.values())) if shards else ():
        write_empty(folder / file, {n: keymap[n]["shape"] for n in names if file_of[n] == file})
    return folder


def write_empty(path: Path, shapes: Mapping[str, list[int]]) -> None:
    """Write a file with a header alone: the vision tower in bfloat16, all else in float32."""
    header, end = {}, 0
    for name, shape in shapes.items():
        code, size = ("BF16", 2) if name.startswith("vision_model") else ("F32", 4)
        start, end = end, end + size * math.prod(shape)
        header[name] = {"dtype": code, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    os.truncate(path, 8 + len(text) + end)


def _file(number: int) -> str:
    return f"model-{number + 1:05}-of-{NUM_SHARDS:05}.safetensors"
