"""A small Sa2VA from nothing: its sizes, its fresh weights and its tokenizer.

Only `vasculora pretrain` comes here. The parts are the same transformers classes that real
checkpoints use, with small numbers; half-resolution masks (`patch_stride` 2) because thin vessels
do not survive a coarser grid.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from transformers import PreTrainedTokenizerFast

from vasculora.model.mllm import find_family
from vasculora.model.processor import ProcessorConfig
from vasculora.model.prompts import SEG_TOKEN, PromptConfig, build_turns
from vasculora.model.sa2va import Sa2VA

PAD_TOKEN = "<|endoftext|>"
_PATCH_STRIDE = 2


class ArchitectureConfig(BaseModel):
    """Sizes of a base made from scratch."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vocab_size: int = Field(default=512, ge=300)
    """Tokens the tokenizer learns, the 256 bytes and the special ones among them."""
    tile_size: int = Field(default=96, ge=24)
    """Side of the language-vision model's only tile, in pixels."""
    tile_patch: int = Field(default=12, ge=2)
    """Side of a patch of that tile; four patches become one token."""
    vision_width: int = Field(default=96, ge=16)
    """State width of the vision transformer."""
    vision_layers: int = Field(default=3, ge=1)
    """Its layers."""
    text_width: int = Field(default=128, ge=16)
    """State width of the language model."""
    text_layers: int = Field(default=3, ge=1)
    """Its layers."""
    sam_size: int = Field(default=256, ge=64)
    """Side of SAM 2's input in pixels; masks have half of it."""
    sam_width: int = Field(default=16, ge=8)
    """Width of SAM 2's first stage; it doubles at each of the next three."""
    sam_blocks: tuple[int, int, int, int] = (1, 1, 3, 1)
    """Blocks of each of its four stages; the last of the third sees the whole image."""
    decoder_width: int = Field(default=96, ge=32, multiple_of=32)
    """Width of its neck and mask decoder."""

    @field_validator("sam_blocks")
    @classmethod
    def _sees_the_whole(cls, sam_blocks: tuple[int, ...]) -> tuple[int, ...]:
        if sam_blocks[2] < 2:
            raise ValueError(
                f"the third stage needs two blocks or more, got {sam_blocks[2]}: its first one "
                "halves the grid, its last one sees the whole image."
            )
        return sam_blocks


def build_from_scratch(arch: ArchitectureConfig, tokenizer: PreTrainedTokenizerFast) -> Sa2VA:
    """Return a Sa2VA of the given sizes with fresh weights."""
    image_token = find_family("internvl").image_token
    model = Sa2VA(
        family="internvl",
        mllm=_mllm_config(arch, len(tokenizer), int(tokenizer.convert_tokens_to_ids(image_token))),
        grounding=_grounding_config(arch),
        seg_token_id=int(tokenizer.convert_tokens_to_ids(SEG_TOKEN)),
    )
    model.apply(_reset)
    _let_places_speak(model)
    _let_the_prompt_speak(model)
    shared = model.grounding.shared_image_embedding.positional_embedding
    model.grounding.prompt_encoder.shared_embedding.positional_embedding.copy_(shared)
    return model


def processor_config(arch: ArchitectureConfig) -> ProcessorConfig:
    """Return how pictures become tensors for a base of the given sizes."""
    return ProcessorConfig(
        tile_size=arch.tile_size,
        tile_tokens=(arch.tile_size // arch.tile_patch) ** 2 // 4,
        max_tiles=1,
        turns="separate",
        sam_size=arch.sam_size,
        mask_size=arch.sam_size // _PATCH_STRIDE,
        max_length=1024,
        max_new_tokens=16,
    )


def train_tokenizer(
    phrases: Iterable[str], prompt: PromptConfig, *, vocab_size: int
) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer that has seen the prompt's own words (Sennrich 2016).

    Every text can be encoded, since its alphabet is all 256 bytes.
    """
    family = find_family("internvl")
    special = [PAD_TOKEN, "<|im_start|>", "<|im_end|>"]
    special += [family.image_open, family.image_close, family.image_token, SEG_TOKEN]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    turns = [build_turns([phrase], prompt, image_block="")[0] for phrase in phrases]
    tokenizer.train_from_iterator((turn.prompt + turn.answer for turn in turns), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD_TOKEN, eos_token="<|im_end|>"
    )


def _mllm_config(arch: ArchitectureConfig, vocab_size: int, image_token_id: int) -> dict[str, Any]:
    side = [arch.tile_size, arch.tile_size]
    return {
        "vision_config": {
            "hidden_size": arch.vision_width,
            "num_hidden_layers": arch.vision_layers,
            "num_attention_heads": 4,
            "intermediate_size": 3 * arch.vision_width,
            "image_size": side,
            "patch_size": [arch.tile_patch, arch.tile_patch],
            "attention_bias": True,
            "use_mean_pooling": True,
        },
        "text_config": {
            "model_type": "qwen2",
            "vocab_size": vocab_size,
            "hidden_size": arch.text_width,
            "num_hidden_layers": arch.text_layers,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "intermediate_size": 5 * arch.text_width // 2,
            "max_position_embeddings": 2048,
            "tie_word_embeddings": False,
        },
        "image_token_id": image_token_id,
        "image_seq_length": (arch.tile_size // arch.tile_patch) ** 2 // 4,
        "downsample_ratio": 0.5,
        "tie_word_embeddings": False,
    }


def _grounding_config(arch: ArchitectureConfig) -> dict[str, Any]:
    widths = [arch.sam_width * 2**stage for stage in range(4)]
    grid = arch.sam_size // _PATCH_STRIDE
    return {
        "vision_config": {
            "backbone_config": {
                "model_type": "sam2_hiera_det_model",
                "hidden_size": arch.sam_width,
                "num_attention_heads": 1,
                "image_size": [arch.sam_size, arch.sam_size],
                "patch_stride": [_PATCH_STRIDE, _PATCH_STRIDE],
                "blocks_per_stage": list(arch.sam_blocks),
                "embed_dim_per_stage": widths,
                "num_attention_heads_per_stage": [1, 1, 2, 4],
                "window_size_per_stage": [8, 4, 8, 8],
                "global_attention_blocks": [sum(arch.sam_blocks[:3]) - 1],
            },
            "backbone_channel_list": widths[::-1],
            "backbone_feature_sizes": [[grid // scale] * 2 for scale in (1, 2, 4)],
            "fpn_hidden_size": arch.decoder_width,
            "fpn_top_down_levels": [0, 1, 2, 3],
        },
        "prompt_encoder_config": {
            "hidden_size": arch.decoder_width,
            "image_size": arch.sam_size,
            "patch_size": 4 * _PATCH_STRIDE,
        },
        "mask_decoder_config": {
            "hidden_size": arch.decoder_width,
            "mlp_dim": 2 * arch.decoder_width,
            "num_attention_heads": 4,
            "iou_head_hidden_dim": 64,
        },
    }


@torch.no_grad()
def _let_places_speak(model: Sa2VA) -> None:
    """Start with image features in which left and right differ: slow waves (Tancik 2020).

    transformers leaves the positions of the image encoder at zero. What a mask has to be cut along
    is then nowhere in the features, and "left vessel" and "right vessel" stay one mask for hundreds
    of steps; noise in their stead helped the narrowest encoder only. With waves of about half a
    period across the image, in a random direction each, places are there from the first step.
    """
    positions = model.grounding.vision_encoder.backbone.pos_embed
    _, width, num_rows, num_columns = positions.shape
    x, y = torch.linspace(-1, 1, num_columns), torch.linspace(-1, 1, num_rows)
    turns, phase = torch.randn(2, width, 1, 1), 2 * math.pi * torch.rand(width, 1, 1)
    angle = math.pi / 2 * (turns[0] * x + turns[1] * y[:, None]) + phase
    positions.copy_(math.sqrt(2) * torch.cos(angle))


@torch.no_grad()
def _let_the_prompt_speak(model: Sa2VA) -> None:
    """Start with mask logits near zero that depend on the prompt more than on SAM 2's own tokens.

    With equal scales the prompt is one of nine tokens and moves the fresh masks by a hundredth of
    their spread; the decoder then learns to ignore it, or its hypernetworks fall silent. So the
    projector speaks up, the tokens step back, and the hypernetworks start low.
    """
    decoder = model.grounding.mask_decoder
    for tokens in (decoder.mask_tokens, decoder.iou_token, decoder.obj_score_token):
        tokens.weight.mul_(0.2)
    model.grounding.prompt_encoder.not_a_point_embed.weight.mul_(0.2)
    list(model.seg_projector.parameters())[2].mul_(3)
    for mlp in decoder.output_hypernetworks_mlps:
        mlp.proj_out.weight.mul_(0.1)


@torch.no_grad()
def _reset(module: nn.Module) -> None:
    """Give a module weights of variance 1 / fan-in; the usual 0.02 starves small widths."""
    if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
        fan_in = module.weight[0].numel()
        if isinstance(module, nn.ConvTranspose2d):
            fan_in = module.weight.shape[0]
        module.weight.normal_(std=1 / math.sqrt(fan_in))
        if module.bias is not None:
            module.bias.zero_()
    elif isinstance(module, nn.Embedding):
        module.weight.normal_()
