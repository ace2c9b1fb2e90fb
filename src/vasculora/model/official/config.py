"""What an official checkpoint's `config.json` says, as the settings of our own parts.

Read by itself: the classes it names are remote code and never run. Keys that equal their class's
default may be absent, so the defaults of the official classes are written here. SAM 2's sizes are
not in the file at all; they are those of Hiera-large unless the caller gives others.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vasculora.core.io import read_json
from vasculora.model.images import PatchConfig
from vasculora.model.official.language import language_config
from vasculora.model.official.schema import (
    Count,
    Index,
    InternVL,
    PatchVision,
    Preprocessor,
    QwenVL,
    TiledVision,
    Width,
    first_fault,
    read_section,
)
from vasculora.model.processor import ProcessorConfig
from vasculora.model.prompts import TEMPLATES

CONFIG_NAME = "config.json"
PREPROCESSOR_NAME = "preprocessor_config.json"
MODEL_TYPE = "sa2va_chat"
_HALF = (0.5, 0.5, 0.5)
_PATCH_DEFAULTS: dict[str, dict[str, Any]] = {
    "qwen2_5_vl": {},
    "qwen3_vl": {"patch_size": 16, "mean": _HALF, "std": _HALF},
}
"""Of the Qwen models' vision towers and image processors."""


class Sam2Geometry(BaseModel):
    """SAM 2's sizes; the defaults are the official Hiera-large (Ravi et al. 2024)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_size: int = Field(default=1024, ge=32, le=8192, multiple_of=32)
    """Side of the square input in pixels."""
    hidden: int = Field(default=256, ge=32, le=8192, multiple_of=32)
    """Width of neck, prompt encoder, mask decoder and memory attention."""
    mem: int = Field(default=64, ge=64, le=64)
    """Width of a memory; transformers fixes it at 64."""
    embed_dim: int = Field(default=144, ge=1, le=8192)
    """Width of the image encoder's first stage; it doubles at each of the next three."""
    heads: int = Field(default=2, ge=1)
    """Attention heads of the first stage; they double likewise."""
    stages: tuple[Count, Count, Count, Count] = (2, 6, 36, 4)
    """Blocks of each stage."""
    glob: tuple[Index, ...] = (23, 33, 43)
    """Blocks that see the whole image."""
    bkg: tuple[Count, Count] = (7, 7)
    """Grid of the position embedding's background."""
    win: tuple[Count, Count, Count, Count] = (8, 4, 16, 8)
    """Side of each stage's attention windows."""
    channels: tuple[Width, Width, Width, Width] = (1152, 576, 288, 144)
    """Widths of the stages as the neck takes them, the last first."""
    mem_layers: Count = 4
    """Layers of memory attention."""
    mem_ff: Width = 2048
    """Width of its feed-forward part."""
    mlp_dim: Width = 2048
    """Width of the mask decoder's feed-forward part."""
    iou_hidden: Width = 256
    """Width of the head that predicts a mask's IoU."""

    @model_validator(mode="after")
    def _goes_together(self) -> "Sam2Geometry":
        if self.embed_dim % self.heads:
            raise ValueError(f"heads: {self.heads} does not divide embed_dim, {self.embed_dim}")
        widths = tuple(self.embed_dim * scale for scale in (8, 4, 2, 1))
        if self.channels != widths:
            raise ValueError(
                f"channels: expected {widths}, which embed_dim {self.embed_dim} gives, got "
                f"{self.channels}"
            )
        if beyond := [block for block in self.glob if block >= sum(self.stages)]:
            raise ValueError(f"glob names block {beyond[0]} of {sum(self.stages)}")
        return self


class OfficialConfig(BaseModel):
    """How an official checkpoint is read, where its own files leave it open."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sam2: Sam2Geometry | None = None
    """SAM 2's sizes; None takes the official Hiera-large."""
    min_pixels: int | None = Field(default=None, ge=1)
    """Smallest area of an image for a Qwen model; None takes the official 512 x 28 x 28."""
    max_pixels: int | None = Field(default=None, ge=1)
    """Largest area of an image for a Qwen model; None takes the official 2048 x 28 x 28."""


def official_config(
    *,
    sam2: Sam2Geometry | Mapping[str, Any] | None,
    min_pixels: int | None,
    max_pixels: int | None,
) -> OfficialConfig:
    """Return how an official checkpoint is read, as a caller of Python says it.

    Raises:
        ValueError: If a value is of another kind or size; names it.
    """
    given = {"sam2": sam2, "min_pixels": min_pixels, "max_pixels": max_pixels}
    try:
        return OfficialConfig.model_validate(given)
    except ValidationError as failure:
        raise ValueError(first_fault(failure)) from None


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
    colours = _read_colours(folder / PREPROCESSOR_NAME)
    try:
        if "llm_config" in tree:
            return _internvl(tree, config)
        if "text_config" in tree:
            return _qwen(tree, config, colours)
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
    found = read_section(InternVL, tree)
    language = language_config(tree["llm_config"])
    if language.sees_patches:
        raise ValueError(
            f"llm_config: {language.official_class} is the language model of a Qwen-VL, not of an "
            "InternVL. Copy the file again."
        )
    sam2 = config.sam2 or Sam2Geometry()
    return Layout(
        family="internvl",
        language_model=language.official_class,
        grouped_heads=language.grouped_heads,
        template=_template(found.template),
        mllm={
            "vision_config": _vision_config(found.vision_config),
            "text_config": language.config,
            "image_seq_length": found.tile_tokens,
            "downsample_ratio": found.downsample_ratio,
            "vision_feature_layer": found.select_layer,
            "tie_word_embeddings": False,
        },
        sam2=sam2,
        processor=_processor(
            "internvl",
            sam2,
            tile_size=found.tile_size,
            tile_tokens=found.tile_tokens,
        ),
    )


def _vision_config(vision: TiledVision) -> dict[str, Any]:
    """Return InternViT's settings as transformers writes them."""
    return {
        "hidden_size": vision.hidden_size,
        "num_hidden_layers": vision.num_hidden_layers,
        "num_attention_heads": vision.num_attention_heads,
        "intermediate_size": vision.intermediate_size,
        "hidden_act": vision.hidden_act,
        "layer_norm_eps": vision.layer_norm_eps,
        "norm_type": vision.norm_type,
        "attention_bias": vision.qkv_bias,
        "use_qk_norm": vision.qk_normalization,
        "num_channels": vision.num_channels,
        "image_size": [vision.image_size] * 2,
        "patch_size": [vision.patch_size] * 2,
        "use_mean_pooling": True,  # the official encoder has no norm after its last layer
    }


def _qwen(tree: Mapping[str, Any], config: OfficialConfig, colours: Preprocessor) -> Layout:
    found = read_section(QwenVL, tree)
    language = language_config(tree["text_config"])
    if not language.sees_patches:
        raise ValueError(
            f"text_config: {language.official_class} is the language model of an InternVL, not of "
            "a Qwen-VL. Copy the file again."
        )
    family = str(language.config["model_type"]).removesuffix("_text")
    given = found.model_dump(exclude_none=True, exclude_unset=True)
    tokens = ("video_token_id", "vision_start_token_id", "vision_end_token_id")
    sam2 = config.sam2 or Sam2Geometry()
    return Layout(
        family=family,
        language_model=language.official_class,
        grouped_heads=None,
        template=_template(found.template),
        mllm={
            "text_config": language.config,
            "vision_config": given["vision_config"],
            **{name: given[name] for name in tokens if name in given},
            "tie_word_embeddings": False,
        },
        sam2=sam2,
        processor=_processor(
            family, sam2, patches=_patches(family, found.vision_config, config, colours)
        ),
    )


def _read_colours(path: Path) -> Preprocessor:
    """Return what a Qwen's image processor says of colours; nothing where there is no file."""
    if not path.is_file():
        return Preprocessor()
    try:
        return read_section(Preprocessor, read_json(path))
    except ValueError as cause:
        said = str(cause)
        raise ValueError(said if said.startswith(str(path)) else f"{path}: {said}") from cause


def _patches(
    family: str, vision: PatchVision, config: OfficialConfig, colours: Preprocessor
) -> PatchConfig:
    """Return how images become patches: sizes of the encoder, colours of its image processor."""
    given = {
        "patch_size": vision.patch_size if "patch_size" in vision.model_fields_set else None,
        "merge_size": vision.spatial_merge_size,
        "mean": colours.image_mean,
        "std": colours.image_std,
        "min_pixels": config.min_pixels,
        "max_pixels": config.max_pixels,
    }
    known = {key: value for key, value in given.items() if value is not None}
    patches = PatchConfig.model_validate(_PATCH_DEFAULTS[family] | known)
    if patches.min_pixels > patches.max_pixels:
        raise ValueError(
            f"min_pixels is {patches.min_pixels} and max_pixels {patches.max_pixels}, so no image "
            "fits. Give min_pixels at most as large as max_pixels."
        )
    return patches


def _processor(family: str, sam2: Sam2Geometry, **images: Any) -> ProcessorConfig:
    return ProcessorConfig(
        family=family,
        sam_size=sam2.image_size,
        mask_size=sam2.image_size // 4,
        numerics="official",
        **images,
    )


def _template(named: str | None) -> str:
    name = (named or "qwen_chat").replace("-", "_")
    if name not in TEMPLATES:
        raise ValueError(f"unknown template {name!r}. Known: {', '.join(TEMPLATES)}.")
    return name
