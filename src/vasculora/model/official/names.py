"""Where each of our weights comes from: its name, or names, in an official checkpoint.

The map is asked from our side, so that every weight we have must name its origin, and what is left
over in a checkpoint is an error. Most weights are renamed; four kinds are cut or joined:
InternViT's fused queries, keys and values, InternLM2's, which are grouped by key head, SAM 2's four
point embeddings, and its one random matrix for positions, which transformers holds twice.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from vasculora.model.official.config import Layout
from vasculora.model.weights.placing import Origin

Rule = tuple[str, str]
"""A pattern for the whole of our name, and the official name it stands for."""


def origins(names: Iterable[str], stored: Iterable[str], layout: Layout) -> dict[str, Origin]:
    """Return the origin of each of our weights, under the names that a checkpoint has for them.

    Older exports call SAM 2's layer scale `gamma`, and a Qwen's blocks as transformers did before
    4.52.

    Args:
        names: Names in a Sa2VA's state.
        stored: Names in the checkpoint.
        layout: The kind of checkpoint.
    """
    rules = [*_MLLM_RULES[layout.family], *_SHARED_RULES]
    if layout.grouped_heads is not None:
        rules = [*_INTERNLM2_RULES, *rules]
    qwen = layout.family != "internvl"
    written = {_current(name, qwen=qwen): name for name in stored}
    found = {name: _origin(name, rules, layout) for name in names}
    return {
        name: Origin(tuple(written.get(part, part) for part in origin.names), origin.take)
        for name, origin in found.items()
    }


def _current(name: str, *, qwen: bool) -> str:
    name = re.sub(r"(memory_encoder\.fuser\.layers\.\d+)\.gamma$", r"\1.g_weight", name)
    if qwen:
        name = re.sub(r"^model\.visual\.", "model.model.visual.", name)
        name = re.sub(
            r"^model\.model\.(layers|embed_tokens|norm)\b", r"model.model.language_model.\1", name
        )
    return name


def _origin(name: str, rules: Sequence[Rule], layout: Layout) -> Origin:
    official = _rename(name, rules)
    if cut := re.search(r"\{(q|k|v)\}", official):
        part = "qkv".index(cut[1])
        whole = official.replace(cut[0], "")
        heads = layout.grouped_heads
        if heads is None or "wqkv" not in whole:
            return Origin((whole,), lambda found: found[0].chunk(3)[part])
        return Origin((whole,), lambda found: _ungroup(found[0], part, *heads))
    if "{row}" in official:
        rows = tuple(official.replace("{row}", str(row)) for row in range(4))
        return Origin(rows, lambda found: torch.cat(list(found)))
    return Origin((official,))


def _rename(name: str, rules: Sequence[Rule]) -> str:
    for pattern, replacement in rules:
        if found := re.fullmatch(pattern, name):
            return found.expand(replacement)
    raise KeyError(f"no rule says where {name} comes from")


def _ungroup(wqkv: Tensor, part: int, num_heads: int, num_key_heads: int) -> Tensor:
    """Return queries (0), keys (1) or values (2) of a tensor that is grouped by key head."""
    queries = num_heads // num_key_heads
    groups = wqkv.unflatten(0, (num_key_heads, queries + 2, -1))
    start, length = ((0, queries), (queries, 1), (queries + 1, 1))[part]
    piece: Tensor = groups.narrow(1, start, length)
    return piece.flatten(0, 2)


_S = r"grounding_encoder.sam2_model"
_MLP = {"proj_in": "0", "layers.0": "1", "proj_out": "2"}

_INTERNLM2_RULES: list[Rule] = [
    (r"mllm\.lm_head\.weight", r"language_model.output.weight"),
    (
        r"mllm\.model\.language_model\.embed_tokens\.weight",
        r"language_model.model.tok_embeddings.weight",
    ),
    *[
        (
            rf"mllm\.model\.language_model\.layers\.(\d+)\.{ours}\.(weight|bias)",
            rf"language_model.model.layers.\1.{official}.\2",
        )
        for ours, official in {
            r"self_attn\.q_proj": "attention.wqkv{q}",
            r"self_attn\.k_proj": "attention.wqkv{k}",
            r"self_attn\.v_proj": "attention.wqkv{v}",
            r"self_attn\.o_proj": "attention.wo",
            r"mlp\.gate_proj": "feed_forward.w1",
            r"mlp\.up_proj": "feed_forward.w3",
            r"mlp\.down_proj": "feed_forward.w2",
            "input_layernorm": "attention_norm",
            "post_attention_layernorm": "ffn_norm",
        }.items()
    ],
]

_INTERNVL_RULES: list[Rule] = [
    *[
        (rf"mllm\.model\.vision_tower\.embeddings\.{ours}", rf"vision_model.embeddings.{official}")
        for ours, official in {
            "cls_token": "class_embedding",
            "position_embeddings": "position_embedding",
            r"patch_embeddings\.projection\.(weight|bias)": r"patch_embedding.\1",
        }.items()
    ],
    *[
        (
            rf"mllm\.model\.vision_tower\.encoder\.layer\.(\d+)\.{ours}",
            rf"vision_model.encoder.layers.\1.{official}",
        )
        for ours, official in {
            r"attention\.(q|k|v)_proj\.(weight|bias)": r"attn.qkv{\2}.\3",
            r"attention\.projection_layer\.(weight|bias)": r"attn.proj.\2",
            r"attention\.(q|k)_norm\.weight": r"attn.\2_norm.weight",
            r"layernorm_before\.(weight|bias)": r"norm1.\2",
            r"layernorm_after\.(weight|bias)": r"norm2.\2",
            r"lambda_(1|2)": r"ls\2",
            r"mlp\.(fc1|fc2)\.(weight|bias)": r"mlp.\2.\3",
        }.items()
    ],
    *[
        (rf"mllm\.model\.multi_modal_projector\.{ours}\.(weight|bias)", rf"mlp1.{official}.\1")
        for ours, official in {"layer_norm": "0", "linear_1": "1", "linear_2": "3"}.items()
    ],
    (r"mllm\.model\.language_model\.(.+)", r"language_model.model.\1"),
    (r"mllm\.lm_head\.weight", r"language_model.lm_head.weight"),
]

_QWEN_RULES: list[Rule] = [(r"mllm\.(.+)", r"model.\1")]

_SHARED_RULES: list[Rule] = [
    (r"seg_projector\.(0|2)\.(weight|bias)", r"text_hidden_fcs.\1.\2"),
    # image encoder and neck
    (
        r"grounding\.vision_encoder\.backbone\.patch_embed\.projection\.(weight|bias)",
        rf"{_S}.image_encoder.trunk.patch_embed.proj.\1",
    ),
    (
        r"grounding\.vision_encoder\.backbone\.(pos_embed|pos_embed_window)",
        rf"{_S}.image_encoder.trunk.\1",
    ),
    *[
        (
            rf"grounding\.vision_encoder\.backbone\.blocks\.(\d+)\.{ours}\.(weight|bias)",
            rf"{_S}.image_encoder.trunk.blocks.\1.{official}.\2",
        )
        for ours, official in {
            "layer_norm1": "norm1",
            "layer_norm2": "norm2",
            r"attn\.qkv": "attn.qkv",
            r"attn\.proj": "attn.proj",
            "proj": "proj",
            r"mlp\.proj_in": "mlp.layers.0",
            r"mlp\.proj_out": "mlp.layers.1",
        }.items()
    ],
    (
        r"grounding\.vision_encoder\.neck\.convs\.(\d+)\.(weight|bias)",
        rf"{_S}.image_encoder.neck.convs.\1.conv.\2",
    ),
    # prompt encoder
    (
        r"grounding\.(shared_image_embedding|prompt_encoder\.shared_embedding)\.positional_embedding",
        rf"{_S}.sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
    ),
    (
        r"grounding\.prompt_encoder\.point_embed\.weight",
        rf"{_S}.sam_prompt_encoder.point_embeddings.{{row}}.weight",
    ),
    (
        r"grounding\.prompt_encoder\.(not_a_point_embed|no_mask_embed)\.weight",
        rf"{_S}.sam_prompt_encoder.\1.weight",
    ),
    *[
        (
            rf"grounding\.prompt_encoder\.mask_embed\.{ours}\.(weight|bias)",
            rf"{_S}.sam_prompt_encoder.mask_downscaling.{official}.\1",
        )
        for ours, official in {
            "conv1": "0",
            "layer_norm1": "1",
            "conv2": "3",
            "layer_norm2": "4",
            "conv3": "6",
        }.items()
    ],
    # mask decoder
    (
        r"grounding\.mask_decoder\.(iou_token|mask_tokens|obj_score_token|conv_s0|conv_s1)"
        r"\.(weight|bias)",
        rf"{_S}.sam_mask_decoder.\1.\2",
    ),
    *[
        (
            rf"grounding\.mask_decoder\.transformer\.{ours}\.(weight|bias)",
            rf"{_S}.sam_mask_decoder.transformer.{official}",
        )
        for ours, official in {
            r"(layers\.\d+)\.layer_norm(\d)": r"\1.norm\2.\3",
            r"(layers\.\d+)\.mlp\.proj_in": r"\1.mlp.layers.0.\2",
            r"(layers\.\d+)\.mlp\.proj_out": r"\1.mlp.layers.1.\2",
            r"(layers\.\d+\.\w+|final_attn_token_to_image)\.(q|k|v)_proj": r"\1.\2_proj.\3",
            r"(layers\.\d+\.\w+|final_attn_token_to_image)\.o_proj": r"\1.out_proj.\2",
            "layer_norm_final_attn": r"norm_final_attn.\1",
        }.items()
    ],
    *[
        (
            rf"grounding\.mask_decoder\.{ours}\.(weight|bias)",
            rf"{_S}.sam_mask_decoder.output_upscaling.{official}.\1",
        )
        for ours, official in {
            "upscale_conv1": "0",
            "upscale_layer_norm": "1",
            "upscale_conv2": "3",
        }.items()
    ],
    *[
        (
            r"grounding\.mask_decoder\.(output_hypernetworks_mlps\.\d|iou_prediction_head|"
            rf"pred_obj_score_head)\.{re.escape(ours)}\.(weight|bias)",
            rf"{_S}.sam_mask_decoder.\1.layers.{official}.\2",
        )
        for ours, official in _MLP.items()
    ],
    # memory of earlier frames
    *[
        (
            rf"grounding\.object_pointer_proj\.{re.escape(ours)}\.(weight|bias)",
            rf"{_S}.obj_ptr_proj.layers.{official}.\1",
        )
        for ours, official in _MLP.items()
    ],
    *[
        (rf"grounding\.{ours}", rf"{_S}.{official}")
        for ours, official in {
            "no_memory_embedding": "no_mem_embed",
            "no_memory_positional_encoding": "no_mem_pos_enc",
            "memory_temporal_positional_encoding": "maskmem_tpos_enc",
            "no_object_pointer": "no_obj_ptr",
            r"mask_downsample\.(weight|bias)": r"mask_downsample.\1",
            r"memory_attention\.layer_norm\.(weight|bias)": r"memory_attention.norm.\1",
            r"memory_attention\.layers\.(\d+)\.layer_norm(\d)\.(weight|bias)": (
                r"memory_attention.layers.\1.norm\2.\3"
            ),
            r"memory_attention\.layers\.(\d+\.\w+)\.o_proj\.(weight|bias)": (
                r"memory_attention.layers.\1.out_proj.\2"
            ),
            r"memory_attention\.layers\.(\d+\.\w+(?:\.\w_proj)?)\.(weight|bias)": (
                r"memory_attention.layers.\1.\2"
            ),
            r"memory_encoder\.feature_projection\.(weight|bias)": (
                r"memory_encoder.pix_feat_proj.\1"
            ),
            r"memory_encoder\.projection\.(weight|bias)": r"memory_encoder.out_proj.\1",
            r"memory_encoder\.mask_downsampler\.final_conv\.(weight|bias)": (
                r"memory_encoder.mask_downsampler.encoder.12.\1"
            ),
        }.items()
    ],
    *[
        (
            rf"grounding\.memory_encoder\.mask_downsampler\.layers\.{step}\.{ours}\.(weight|bias)",
            rf"{_S}.memory_encoder.mask_downsampler.encoder.{3 * step + place}.\1",
        )
        for step in range(4)
        for place, ours in enumerate(("conv", "layer_norm"))
    ],
    *[
        (
            rf"grounding\.memory_encoder\.memory_fuser\.layers\.(\d+)\.{ours}",
            rf"{_S}.memory_encoder.fuser.layers.\1.{official}",
        )
        for ours, official in {
            r"depthwise_conv\.(weight|bias)": r"dwconv.\2",
            r"layer_norm\.(weight|bias)": r"norm.\2",
            r"pointwise_conv(1|2)\.(weight|bias)": r"pwconv\2.\3",
            "scale": "g_weight",
        }.items()
    ],
]

_MLLM_RULES: Mapping[str, list[Rule]] = {
    "internvl": _INTERNVL_RULES,
    "qwen2_5_vl": _QWEN_RULES,
    "qwen3_vl": _QWEN_RULES,
}
