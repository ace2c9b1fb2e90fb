"""What an official checkpoint's `config.json` says, as the settings of our own parts.

Read by itself: the classes it names are remote code and never run. Keys that equal their class's
default may be absent, so the defaults of the official classes are written here. SAM 2's sizes are
not in the file at all; they are those of Hiera-large unless the caller gives others.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from vasculora.core.io import read_json
from vasculora.model.images import PatchConfig
from vasculora.model.official.language import language_config
from vasculora.model.processor import ProcessorConfig
from vasculora.model.prompts import TEMPLATES

CONFIG_NAME = "config.json"
MODEL_TYPE = "sa2va_chat"
_VISION_DEFAULTS: dict[str, Any] = {
    "num_channels": 3,
    "patch_size": 14,
    "image_size": 224,
    "qkv_bias": False,
    "hidden_size": 3200,
    "num_attention_heads": 25,
    "intermediate_size": 12800,
    "qk_normalization": True,
    "num_hidden_layers": 48,
    "hidden_act": "gelu",
    "norm_type": "rms_norm",
    "layer_norm_eps": 1e-6,
}
"""Of InternVisionConfig."""
_HALF = (0.5, 0.5, 0.5)
_PATCH_DEFAULTS: dict[str, dict[str, Any]] = {
    "qwen2_5_vl": {},
    "qwen3_vl": {"patch_size": 16, "mean": _HALF, "std": _HALF},
}
"""Of the Qwen models' vision towers and image processors."""
_NOT_SIZES = ("model_type", "dtype", "torch_dtype")


class Sam2Geometry(BaseModel):
    """SAM 2's sizes; the defaults are the official Hiera-large (Ravi et al. 2024)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_size: int = Field(default=1024, ge=32, multiple_of=32)
    """Side of the square input in pixels."""
    hidden: int = Field(default=256, ge=32, multiple_of=32)
    """Width of neck, prompt encoder, mask decoder and memory attention."""
    mem: int = Field(default=64, ge=64, le=64)
    """Width of a memory; transformers fixes it at 64."""
    embed_dim: int = Field(default=144, ge=1)
    """Width of the image encoder's first stage; it doubles at each of the next three."""
    heads: int = Field(default=2, ge=1)
    """Attention heads of the first stage; they double likewise."""
    stages: tuple[int, int, int, int] = (2, 6, 36, 4)
    """Blocks of each stage."""
    glob: tuple[int, ...] = (23, 33, 43)
    """Blocks that see the whole image."""
    bkg: tuple[int, int] = (7, 7)
    """Grid of the position embedding's background."""
    win: tuple[int, int, int, int] = (8, 4, 16, 8)
    """Side of each stage's attention windows."""
    channels: tuple[int, int, int, int] = (1152, 576, 288, 144)
    """Widths of the stages as the neck takes them, the last first."""
    mem_layers: int = Field(default=4, ge=1)
    """Layers of memory attention."""
    mem_ff: int = Field(default=2048, ge=1)
    """Width of its feed-forward part."""
    mlp_dim: int = Field(default=2048, ge=1)
    """Width of the mask decoder's feed-forward part."""
    iou_hidden: int = Field(default=256, ge=1)
    """Width of the head that predicts a mask's IoU."""


class OfficialConfig(BaseModel):
    """How an official checkpoint is read, where its own files leave it open."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sam2: Sam2Geometry | None = None
    """SAM 2's sizes; None takes the official Hiera-large."""
    min_pixels: int | None = Field(default=None, ge=1)
    """Smallest area of an image for a Qwen model; None takes the official 512 x 28 x 28."""
    max_pixels: int | None = Field(default=None, ge=1)
    """Largest area of an image for a Qwen model; None takes the official 2048 x 28 x 28."""


@dataclass(frozen=True)
class Layout:
    """What kind of checkpoint it is.

    Attributes:
        family: Family of its language-vision model.
        language_model: Official class of its language model.
        grouped_heads: Query and key-value heads, where they are stored as one grouped tensor
            (InternLM2).
        template: Name of its prompt template.
        mllm: Configuration of the language-vision model, as transformers writes it, without the
            image token's id.
        sam2: SAM 2's sizes.
        processor: How pictures become tensors.
    """

    family: str
    language_model: str
    grouped_heads: tuple[int, int] | None
    template: str
    mllm: dict[str, Any]
    sam2: Sam2Geometry
    processor: ProcessorConfig


def read_layout(folder: Path, config: OfficialConfig) -> Layout:
    """Return what kind of checkpoint a folder holds.

    Raises:
        FileNotFoundError: If there is no `config.json`.
        ValueError: If it is damaged, or of a kind that is not known.
    """
    path = folder / CONFIG_NAME
    tree = read_json(path)
    try:
        if "llm_config" in tree:
            return _internvl(tree, config)
        if isinstance(tree.get("text_config"), dict):
            return _qwen(folder, tree, config)
    except (KeyError, TypeError, AttributeError) as cause:
        raise ValueError(
            f"{path}: a setting is missing or of another type than expected ({cause!r}). Copy the "
            "file again."
        ) from cause
    except ValueError as cause:
        raise ValueError(f"{path}: {cause}") from cause
    raise ValueError(
        f"{path}: expected llm_config (InternVL) or text_config (Qwen-VL), found neither. It is "
        "no Sa2VA of a known family, or the file is damaged: copy it again."
    )


def grounding_config(sam2: Sam2Geometry) -> dict[str, Any]:
    """Return SAM 2.0 with its memory, as transformers writes it."""
    g, scales = sam2, (1, 2, 4, 8)
    grid = g.image_size // 4
    return {
        "model_type": "sam2_video",
        "image_size": g.image_size,
        "vision_config": {
            "model_type": "sam2_vision_model",
            "backbone_config": {
                "model_type": "sam2_hiera_det_model",
                "hidden_size": g.embed_dim,
                "num_attention_heads": g.heads,
                "image_size": [g.image_size] * 2,
                "blocks_per_stage": list(g.stages),
                "embed_dim_per_stage": [g.embed_dim * scale for scale in scales],
                "num_attention_heads_per_stage": [g.heads * scale for scale in scales],
                "window_size_per_stage": list(g.win),
                "global_attention_blocks": list(g.glob),
                "window_positional_embedding_background_size": list(g.bkg),
            },
            "backbone_channel_list": list(g.channels),
            "backbone_feature_sizes": [[grid // scale] * 2 for scale in scales[:3]],
            "fpn_hidden_size": g.hidden,
            "fpn_top_down_levels": [2, 3],
        },
        "prompt_encoder_config": {
            "hidden_size": g.hidden,
            "image_size": g.image_size,
            "patch_size": 16,
        },
        "mask_decoder_config": {
            "hidden_size": g.hidden,
            "mlp_dim": g.mlp_dim,
            "iou_head_hidden_dim": g.iou_hidden,
        },
        "memory_attention_hidden_size": g.hidden,
        "memory_attention_num_layers": g.mem_layers,
        "memory_attention_feed_forward_hidden_size": g.mem_ff,
        "memory_attention_rope_feat_sizes": [grid // 4] * 2,
        "memory_encoder_hidden_size": g.hidden,
        "memory_encoder_output_channels": g.mem,
        "mask_downsampler_embed_dim": g.hidden,
        "memory_fuser_embed_dim": g.hidden,
        "memory_fuser_intermediate_dim": 4 * g.hidden,
        # what SAM 2.1 added to SAM 2.0
        "enable_occlusion_spatial_embedding": False,
        "enable_temporal_pos_encoding_for_object_pointers": False,
    }


def _internvl(tree: Mapping[str, Any], config: OfficialConfig) -> Layout:
    for name in ("min_pixels", "max_pixels"):
        if getattr(config, name) is not None:
            raise ValueError(
                f"{name} is for Qwen models; an InternVL takes tiles of one size. Leave it out."
            )
    if tree.get("ps_version", "v1") != "v2":
        raise ValueError("ps_version 'v1' (transposed tokens) is not supported, only 'v2'.")
    vision = _VISION_DEFAULTS | dict(tree.get("vision_config") or {})
    language = language_config(tree["llm_config"])
    ratio = float(tree.get("downsample_ratio", 0.5))
    tile = int(tree.get("force_image_size") or vision["image_size"])
    patch = int(vision["patch_size"])
    tokens = int((tile // patch * ratio) ** 2)
    sam2 = config.sam2 or Sam2Geometry()
    return Layout(
        family="internvl",
        language_model=language.official_class,
        grouped_heads=language.grouped_heads,
        template=_template(tree),
        mllm={
            "vision_config": _vision_config(vision),
            "text_config": language.config,
            "image_seq_length": tokens,
            "downsample_ratio": ratio,
            "vision_feature_layer": int(tree.get("select_layer", -1)),
            "tie_word_embeddings": False,
        },
        sam2=sam2,
        processor=_processor("internvl", sam2, config, tile_size=tile, tile_tokens=tokens),
    )


def _vision_config(vision: Mapping[str, Any]) -> dict[str, Any]:
    """Return InternViT's settings as transformers writes them."""
    if vision["qk_normalization"] and float(vision["layer_norm_eps"]) != 1e-6:
        raise ValueError(
            "vision_config.layer_norm_eps: expected 1e-06 where queries and keys are normalised, "
            f"got {vision['layer_norm_eps']}."
        )
    return {
        "hidden_size": vision["hidden_size"],
        "num_hidden_layers": vision["num_hidden_layers"],
        "num_attention_heads": vision["num_attention_heads"],
        "intermediate_size": vision["intermediate_size"],
        "hidden_act": vision["hidden_act"],
        "layer_norm_eps": vision["layer_norm_eps"],
        "norm_type": vision["norm_type"],
        "attention_bias": vision["qkv_bias"],
        "use_qk_norm": vision["qk_normalization"],
        "num_channels": vision["num_channels"],
        "image_size": [vision["image_size"]] * 2,
        "patch_size": [vision["patch_size"]] * 2,
        "use_mean_pooling": True,  # the official encoder has no norm after its last layer
    }


def _qwen(folder: Path, tree: Mapping[str, Any], config: OfficialConfig) -> Layout:
    text = dict(tree["text_config"])
    family = str(text.get("model_type", "")).removesuffix("_text")
    language = language_config(text)
    vision = {k: v for k, v in dict(tree["vision_config"]).items() if k not in _NOT_SIZES}
    tokens = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    sam2 = config.sam2 or Sam2Geometry()
    return Layout(
        family=family,
        language_model=language.official_class,
        grouped_heads=None,
        template=_template(tree),
        mllm={
            "text_config": language.config,
            "vision_config": vision,
            **{name: tree[name] for name in tokens if name in tree},
            "tie_word_embeddings": False,
        },
        sam2=sam2,
        processor=_processor(
            family, sam2, config, patches=_patches(folder, family, vision, config)
        ),
    )


def _patches(
    folder: Path, family: str, vision: Mapping[str, Any], config: OfficialConfig
) -> PatchConfig:
    """Return how images become patches: sizes of the encoder, colours of its image processor."""
    path = folder / "preprocessor_config.json"
    found = read_json(path) if path.is_file() else {}
    given = {
        "patch_size": vision.get("patch_size"),
        "merge_size": vision.get("spatial_merge_size"),
        "mean": found.get("image_mean"),
        "std": found.get("image_std"),
        "min_pixels": config.min_pixels,
        "max_pixels": config.max_pixels,
    }
    known = {key: value for key, value in given.items() if value is not None}
    return PatchConfig.model_validate(_PATCH_DEFAULTS[family] | known)


def _processor(
    family: str, sam2: Sam2Geometry, config: OfficialConfig, **images: Any
) -> ProcessorConfig:
    return ProcessorConfig(
        family=family,
        sam_size=sam2.image_size,
        mask_size=sam2.image_size // 4,
        numerics="official",
        **images,
    )


def _template(tree: Mapping[str, Any]) -> str:
    name = str(tree.get("template") or "qwen_chat").replace("-", "_")
    if name not in TEMPLATES:
        raise ValueError(f"unknown template {name!r}. Known: {', '.join(TEMPLATES)}.")
    return name
