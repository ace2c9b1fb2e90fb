import re

import pytest
import torch
from torch import nn
from transformers import Sam2VideoConfig

from vasculora.core.config import load_config
from vasculora.model.groups import (
    FROZEN_GROUPS,
    GROUPS,
    TRAINABLE_GROUPS,
    GroupCounts,
    count_groups,
    group_of,
    trainable_groups,
)
from vasculora.model.lora import LoraSettings, attach
from vasculora.model.sa2va import Sa2VA
from vasculora.recipes.config import PRESETS_DIR, FinetuneConfig

EVERYTHING = tuple(name for name in TRAINABLE_GROUPS if name != "mask_decoder_lora")


def lora_of(preset):
    values = {"data.path": "somewhere"}
    return load_config(FinetuneConfig, PRESETS_DIR / f"{preset}.yaml", values=values).lora


@pytest.fixture(scope="module")
def real_base():
    """A Sa2VA-InternVL3-8B without weights: InternViT-300M, Qwen2.5-7B, Hiera-large."""
    mllm = {
        "text_config": {
            "model_type": "qwen2",
            "vocab_size": 151679,
            "hidden_size": 3584,
            "intermediate_size": 18944,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "tie_word_embeddings": False,
        },
        "vision_config": {
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "image_size": [448, 448],
            "patch_size": [14, 14],
            "attention_bias": True,
        },
        "tie_word_embeddings": False,
    }
    backbone = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 144,
        "num_attention_heads": 2,
        "blocks_per_stage": [2, 6, 36, 4],
        "embed_dim_per_stage": [144, 288, 576, 1152],
        "num_attention_heads_per_stage": [2, 4, 8, 16],
        "window_size_per_stage": [8, 4, 16, 8],
        "global_attention_blocks": [23, 33, 43],
    }
    vision = {
        "model_type": "sam2_vision_model",
        "backbone_config": backbone,
        "backbone_channel_list": [1152, 576, 288, 144],
    }
    grounding = Sam2VideoConfig(
        vision_config=vision,
        enable_occlusion_spatial_embedding=False,
        enable_temporal_pos_encoding_for_object_pointers=False,
    ).to_dict()

    def make():
        with torch.device("meta"):
            return Sa2VA(family="internvl", mllm=mllm, grounding=grounding, seg_token_id=151674)

    return make


def attach_preset(real_base, preset):
    base = real_base()
    assert sum(param.numel() for param in base.parameters()) == 8_182_606_130
    with torch.device("meta"):
        return count_groups(attach(base, lora_of(preset)))


def test_the_seed_s_numbers_at_real_sizes(real_base):
    counts = attach_preset(real_base, "seed")
    assert counts == GroupCounts(
        attached={
            "mllm_lora": 40_370_176,
            "mask_decoder_lora": 565_248,
            "memory_lora": 688_128,
        },
        trainable={"mllm_lora": 40_370_176, "mask_decoder_lora": 565_248, "memory_lora": 0},
    )
    assert (counts.num_attached, counts.num_trainable) == (41_623_552, 40_935_424)


def test_light_and_official_at_real_sizes(real_base):
    light, official = (attach_preset(real_base, name) for name in ("light", "official"))
    # 28 layers: rank x (inputs + outputs) of every linear
    attention = 2 * (3584 + 3584) + 2 * (3584 + 512)
    mlp = 3 * (3584 + 18944)
    assert light.trainable["mllm_lora"] == 28 * 64 * attention == 40_370_176
    assert official.trainable["mllm_lora"] == 28 * 128 * (attention + mlp)
    projector = 3584 * 3584 + 3584 + 3584 * 256 + 256
    assert light.trainable["projector"] == official.trainable["projector"] == projector
    # norm of four patches, then two linears
    assert official.trainable["connector"] == 2 * 4096 + 4096 * 3584 + 3584 + 3584 * 3584 + 3584
    assert official.trainable["seg_token"] == 2 * 3584
    assert light.attached.keys() == {"mllm_lora", "projector", "mask_decoder"}
    assert official.attached["mask_decoder"] == light.attached["mask_decoder"] == 4_215_109
    assert official.trainable["mask_decoder"] < official.attached["mask_decoder"]


def test_counts_are_those_of_the_model(opened):
    """A layer of LoRA by hand: rank 2 on one linear of 32 x 32 a layer, two layers."""
    pattern = r"model\.language_model\.layers\.\d+\.self_attn\.q_proj"
    settings = LoraSettings(
        trainable=("mllm_lora", "seg_token"), rank=2, alpha=4, target_modules=pattern
    )
    model = attach(opened.model, settings)
    counts = count_groups(model)
    assert counts.attached == counts.trainable == {"mllm_lora": 2 * 2 * 64, "seg_token": 2 * 32}
    assert counts.num_attached == counts.num_trainable == 320
    found = trainable_groups(model)
    assert {g: sum(p.numel() for p in own.values()) for g, own in found.items()} == counts.trainable


def test_a_model_without_groups_has_none():
    assert count_groups(nn.Linear(2, 2)) == GroupCounts(attached={}, trainable={})


def test_what_learns_outside_all_groups_is_told():
    assert trainable_groups(nn.Linear(2, 2)).keys() == {"other"}


def test_groups_do_not_overlap(opened):
    model = attach(opened.model, LoraSettings(trainable=EVERYTHING, linears="all"))
    for name, _ in model.named_parameters():
        fits = [group for group, pattern in GROUPS.items() if re.search(pattern, name)]
        assert len(fits) <= 1
        assert group_of(name) == (fits[0] if fits else None)


def test_every_group_learns_or_is_frozen():
    assert {*TRAINABLE_GROUPS, *FROZEN_GROUPS} == GROUPS.keys()
    assert not {*TRAINABLE_GROUPS} & {*FROZEN_GROUPS}
