"""What a Sa2VA consists of, told from its settings: sizes, weights by block, what a preset trains.

Models are built on the meta device: every weight has its name and shape and takes no memory, so the
anatomy of 8 billion weights is known in a second. What attaches and trains is counted after the
very `attach` that a fine-tuning goes through, and cannot differ from it.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict

from vasculora.model.groups import GroupCounts, count_groups, group_of
from vasculora.model.lora import CONFIG_NAME, WEIGHTS_NAME, LoraSettings, attach
from vasculora.model.processor import ProcessorConfig
from vasculora.model.sa2va import Sa2VA
from vasculora.model.weights.file import read_header
from vasculora.model.weights.files import Stored
from vasculora.model.weights.placing import Origin, weightless


@dataclass(frozen=True, kw_only=True)
class Part:
    """The sizes of one part of a model.

    Attributes:
        name: What it is.
        layers: Number of layers; one number a stage where it has stages.
        width: Width of its states, likewise.
        heads: Attention heads, likewise.
        key_value_heads: Heads of keys and values, where they are fewer.
    """

    name: str
    layers: tuple[int, ...]
    width: tuple[int, ...]
    heads: tuple[int, ...]
    key_value_heads: int | None = None


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What a model is given.

    Attributes:
        vocabulary: Number of tokens it knows.
        tile_size: Side of a tile in pixels, where an image is cut into tiles.
        tile_tokens: Tokens that a tile becomes.
        patch_size: Side of a patch in pixels, where an image keeps its shape.
        token_patches: Patches that become one token.
        sam_size: Side of SAM 2's square image in pixels.
    """

    vocabulary: int
    tile_size: int | None = None
    tile_tokens: int | None = None
    patch_size: int | None = None
    token_patches: int | None = None
    sam_size: int


@dataclass(frozen=True)
class Adapter:
    """What a run's adapter holds.

    Attributes:
        groups: Number of its weights by group.
        ranks: Rank of the LoRA matrices of each group that has some.
        stored: Number of its weights by number format.
    """

    groups: Mapping[str, int]
    ranks: Mapping[str, int]
    stored: Mapping[torch.dtype, int]


def build_empty(settings: Mapping[str, Any]) -> Sa2VA:
    """Return a Sa2VA on the meta device.

    Args:
        settings: What it is built from.
    """
    with weightless():
        return Sa2VA(**settings)


def sizes_of(model: Sa2VA) -> tuple[Part, ...]:
    """Return the sizes of a model's parts."""
    vision, text = model.mllm.config.vision_config, model.mllm.config.get_text_config()
    heads, key_heads = text.num_attention_heads, text.num_key_value_heads
    sam2 = model.grounding.config
    hiera = sam2.vision_config.backbone_config
    parts = [
        Part(
            name="vision_tower",
            layers=(_either(vision, "num_hidden_layers", "depth"),),
            width=(vision.hidden_size,),
            heads=(_either(vision, "num_attention_heads", "num_heads"),),
        ),
        Part(
            name="language_model",
            layers=(text.num_hidden_layers,),
            width=(text.hidden_size,),
            heads=(heads,),
            key_value_heads=None if key_heads == heads else key_heads,
        ),
        Part(
            name="sam2_image_encoder",
            layers=tuple(hiera.blocks_per_stage),
            width=tuple(hiera.embed_dim_per_stage),
            heads=tuple(hiera.num_attention_heads_per_stage),
        ),
    ]
    if hasattr(model.grounding, "memory_attention"):
        memory = Part(
            name="sam2_memory",
            layers=(sam2.memory_attention_num_layers,),
            width=(sam2.memory_attention_hidden_size,),
            heads=(sam2.memory_attention_num_attention_heads,),
        )
        parts.append(memory)
    return tuple(parts)


def inputs_of(model: Sa2VA, processor: ProcessorConfig) -> Inputs:
    """Return what a model is given.

    Args:
        model: The model, empty or not.
        processor: How pictures become its tensors.
    """
    vocabulary = model.mllm.config.get_text_config().vocab_size
    if patches := processor.patches:
        return Inputs(
            vocabulary=vocabulary,
            patch_size=patches.patch_size,
            token_patches=patches.merge_size**2,
            sam_size=model.sam_size,
        )
    return Inputs(
        vocabulary=vocabulary,
        tile_size=processor.tile_size,
        tile_tokens=processor.tile_tokens,
        sam_size=model.sam_size,
    )


def count_blocks(model: Sa2VA) -> dict[str, int]:
    """Return the number of parameters of each block, in the order of BLOCKS; buffers not counted.

    Raises:
        ValueError: If a parameter belongs to no block.
    """
    counts = dict.fromkeys(BLOCKS, 0)
    for name, param in model.named_parameters():
        counts[block_of(name)] += param.numel()
    return {block: count for block, count in counts.items() if count}


def stored_by_block(
    found: Mapping[str, Stored], origins: Mapping[str, Origin]
) -> dict[str, dict[torch.dtype, int]]:
    """Return the number of stored values of each block by number format, buffers included.

    Args:
        found: What the files hold.
        origins: Where each of the model's weights comes from.
    """
    block_with = {name: block_of(ours) for ours, origin in origins.items() for name in origin.names}
    counts: dict[str, dict[torch.dtype, int]] = {}
    for name, stored in found.items():
        _add(counts.setdefault(block_with[name], {}), stored.dtype, stored.shape)
    return counts


def block_of(name: str) -> str:
    """Return the block a weight belongs to.

    Raises:
        ValueError: If it belongs to none.
    """
    for block, pattern in BLOCKS.items():
        if re.match(pattern, name):
            return block
    raise ValueError(f"{name} belongs to no block of a Sa2VA. Known: {', '.join(BLOCKS)}.")


def count_attached(settings: Mapping[str, Any], lora: LoraSettings) -> GroupCounts:
    """Return how many weights would be attached to a model, and how many of them learn.

    Args:
        settings: What the model is built from.
        lora: What learns.

    Raises:
        NoTargetError: If a pattern matches no module.
    """
    model = build_empty(settings)
    with weightless():
        return count_groups(attach(model, lora))


def read_adapter(settings: Mapping[str, Any], path: Path) -> Adapter:
    """Return what a saved adapter holds, from its settings and its header.

    Args:
        settings: What its base is built from.
        path: The adapter's folder.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is damaged, or the adapter does not fit the base.
    """
    for name in (CONFIG_NAME, WEIGHTS_NAME):
        if not (path / name).is_file():
            raise FileNotFoundError(f"{path / name} is missing: the run saved no finished epoch.")
    header = read_header(path / WEIGHTS_NAME)
    model = build_empty(settings)
    try:
        config = LoraConfig.from_pretrained(path)
        model.name_or_path = config.base_model_name_or_path  # else peft warns of a base renamed
        with weightless():
            adapted = get_peft_model(model, config)
    except Exception as cause:
        raise ValueError(
            f"{path / CONFIG_NAME}: cannot be read, or does not fit the base "
            f"({str(cause).splitlines()[0]}). Copy the run again."
        ) from cause
    # without the flag peft asks a model hub whether the vocabulary has grown
    wanted = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    shapes = {name: tuple(tensor.shape) for name, tensor in wanted.items()}
    if wrong := sorted(shapes.items() ^ {(name, shape) for name, (shape, _) in header.items()}):
        raise ValueError(
            f"{path}: the adapter does not fit its base: of its tensors and those the base needs, "
            f"{len(wrong)} have no counterpart of the same shape, such as {wrong[0][0]}. Copy the "
            "run again, or restore the base it was trained on."
        )
    stored: dict[torch.dtype, int] = {}
    for shape, dtype in header.values():
        _add(stored, dtype, shape)
    ranks = {group_of(name): shape[0] for name, shape in shapes.items() if ".lora_A." in name}
    return Adapter(
        groups=count_groups(adapted).attached,
        ranks={group: rank for group, rank in ranks.items() if group is not None},
        stored=stored,
    )


def _add(counts: dict[torch.dtype, int], dtype: torch.dtype, shape: Iterable[int]) -> None:
    counts[dtype] = counts.get(dtype, 0) + torch.Size(shape).numel()


def _either(config: Any, *names: str) -> int:
    """Return a setting that families call by different names."""
    return int(next(getattr(config, name) for name in names if hasattr(config, name)))


BLOCKS: dict[str, str] = {
    "vision_tower": r"mllm\.model\.(vision_tower|visual\.(?!merger|deepstack_merger_list))",
    "connector": r"mllm\.model\.(multi_modal_projector|visual\.)",
    "language_model": r"mllm\.model\.language_model\.",
    "text_head": r"mllm\.lm_head\.",
    "projector": r"seg_projector\.",
    "sam2_image_encoder": r"grounding\.vision_encoder\.backbone\.",
    "sam2_neck": r"grounding\.vision_encoder\.neck\.",
    "sam2_prompt_encoder": r"grounding\.(prompt_encoder|shared_image_embedding)\.",
    "sam2_mask_decoder": r"grounding\.mask_decoder\.",
    "sam2_memory": r"grounding\.",
}
"""Which weights make up which block: the first pattern that a name starts with."""
