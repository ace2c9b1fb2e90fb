import json
import re

import pytest
import torch
from peft import PeftModel
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from tests.conftest import draw

from vasculora.core.errors import CannotLearnError
from vasculora.core.runtime import is_out_of_memory, set_seed
from vasculora.losses.objective import Objective, ObjectiveConfig
from vasculora.model.groups import group_of, trainable_groups
from vasculora.model.lora import (
    LoraSettings,
    attach,
    load_adapter,
    save_adapter,
    set_trainable,
)
from vasculora.model.sa2va import Sa2VA

EVERYTHING = ("mllm_lora", "projector", "mask_decoder", "grounding_lora", "connector", "seg_token")
SMALL = {"rank": 4, "alpha": 8, "grounding_rank": 2, "grounding_alpha": 4, "dropout": 0.0}


@pytest.fixture
def batch(opened):
    return opened.processor.batch([draw("xray", 0), draw("octa", 1, size=48)])


def attached(opened, trainable=EVERYTHING, **settings):
    set_seed(0)  # LoRA's first half starts at random
    return attach(opened.model, LoraSettings(trainable=trainable, **(SMALL | settings)))


def learning(model):
    return {name for name, param in model.named_parameters() if param.requires_grad}


@torch.no_grad()
def disturb(model, size=0.05):
    """Move every weight that learns, so that an adapter says something."""
    generator = torch.Generator().manual_seed(0)
    for param in model.parameters():
        if param.requires_grad:
            param.add_(torch.randn(param.shape, generator=generator) * size)


def outputs(model, batch):
    with torch.no_grad():
        output = model.eval()(batch)
    return output.mask_logits, output.text_logits


def assert_close(found, expected):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def total_loss(model, batch, masks="chosen"):
    return Objective(ObjectiveConfig(masks=masks), sam_size=64)(model(batch), batch).total()


@pytest.mark.parametrize("extra", [{}, {"use_rslora": True}])
@pytest.mark.parametrize(
    "trainable",
    [
        ("mllm_lora",),
        EVERYTHING,
        ("mask_decoder_lora", "projector"),
        ("mask_decoder",),
        ("connector",),
        ("seg_token",),
    ],
)
def test_fresh_adapters_change_nothing(opened, batch, trainable, extra):
    before = outputs(opened.model, batch)
    after = outputs(attached(opened, trainable, **extra), batch)
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_fresh_directions_change_next_to_nothing(opened, batch):
    before = outputs(opened.model, batch)
    after = outputs(attached(opened, use_dora=True), batch)
    assert_close(after, before)


@pytest.mark.parametrize("extra", [{}, {"use_rslora": True}, {"use_dora": True}])
def test_merged_is_unmerged(opened, batch, extra):
    before = outputs(opened.model, batch)
    model = attached(opened, **extra)
    disturb(model)
    unmerged = outputs(model, batch)
    merged = outputs(model.merge_and_unload(), batch)
    for base, one, other in zip(before, unmerged, merged, strict=True):
        moved = float((one - base).abs().max())
        assert moved > 0.01
        assert float((one - other).abs().max()) < 1e-4 * float(one.abs().max())


def test_merging_leaves_a_plain_model(opened, tiny_base):
    model = attached(opened)
    disturb(model)
    merged = model.merge_and_unload()
    assert isinstance(merged, Sa2VA)
    plain = Sa2VA.from_pretrained(tiny_base)
    assert {n: p.shape for n, p in merged.named_parameters()} == {
        n: p.shape for n, p in plain.named_parameters()
    }


@pytest.mark.parametrize("extra", [{}, {"use_rslora": True}, {"use_dora": True}])
@pytest.mark.parametrize(
    "trainable", [EVERYTHING, ("mask_decoder_lora",), ("projector",), ("seg_token",)]
)
def test_saved_and_loaded_says_the_same_bit_for_bit(
    opened, tiny_base, batch, tmp_path, trainable, extra
):
    model = attached(opened, trainable, **extra)
    disturb(model)
    expected = outputs(model, batch)
    save_adapter(model, tmp_path / "adapter")
    assert {path.name for path in tmp_path.rglob("*")} == {
        "adapter",
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    again = load_adapter(Sa2VA.from_pretrained(tiny_base), tmp_path / "adapter")
    assert not learning(again)
    assert_close(outputs(again, batch), expected)
    # torch multiplies in another order by weights that learn, so only like is compared with like
    set_trainable(again, trainable)
    loaded = outputs(again, batch)
    assert all(torch.equal(one, other) for one, other in zip(expected, loaded, strict=True))


def test_peft_alone_opens_an_adapter_on_the_base(opened, tiny_base, batch, tmp_path):
    model = attached(opened)
    disturb(model)
    expected = outputs(model, batch)
    save_adapter(model, tmp_path / "adapter")
    plain = PeftModel.from_pretrained(Sa2VA.from_pretrained(tiny_base), tmp_path / "adapter")
    assert_close(outputs(plain, batch), expected)


def test_saving_again_replaces_the_adapter(opened, tiny_base, batch, tmp_path):
    model = attached(opened)
    save_adapter(model, tmp_path / "adapter")
    disturb(model)
    expected = outputs(model, batch)
    save_adapter(model, tmp_path / "adapter")
    again = load_adapter(Sa2VA.from_pretrained(tiny_base), tmp_path / "adapter")
    assert_close(outputs(again, batch), expected)


def test_only_the_named_groups_learn(opened):
    model = attached(opened, EVERYTHING)
    for trainable in (("mllm_lora",), ("projector", "grounding_lora"), EVERYTHING):
        set_trainable(model, trainable)
        groups = trainable_groups(model)
        assert set(groups) == set(trainable)
        assert {group_of(name) for name in learning(model)} == set(trainable)


def test_what_no_mask_loss_reaches_stays_frozen(opened):
    model = attached(opened, ("mask_decoder",))
    saved = {
        name.split("modules_to_save.default.")[1]: param.requires_grad
        for name, param in model.named_parameters()
        if "mask_decoder.modules_to_save" in name
    }
    frozen = {name for name, learns in saved.items() if not learns}
    unreachable = {
        name
        for name in saved
        if name.startswith(
            ("iou_prediction_head.", "pred_obj_score_head.", "output_hypernetworks_mlps.0.")
        )
        or name.endswith("k_proj.bias")
    }
    assert frozen == unreachable
    assert len([name for name in frozen if name.endswith("k_proj.bias")]) == 7
    assert {"conv_s0.weight", "output_hypernetworks_mlps.1.proj_in.weight"} <= saved.keys() - frozen


def test_lora_goes_where_it_is_said_to(opened):
    names = learning(attached(opened, ("mllm_lora", "grounding_lora")))
    mllm = {name for name in names if group_of(name) == "mllm_lora"}
    assert len(mllm) == 2 * 4 * 2  # layers, linears, A and B
    assert all(re.search(r"language_model.layers.\d.self_attn.[qkvo]_proj", n) for n in mllm)
    grounding = names - mllm
    assert all("grounding.vision_encoder." in name for name in grounding)
    assert any(".neck.convs.0." in name for name in grounding)
    assert any("blocks.0.attn.qkv" in name for name in grounding)
    assert any("blocks.0.mlp.proj_in" in name for name in grounding)


def test_lora_goes_into_all_linears_where_it_is_said_to(opened):
    names = learning(attached(opened, ("mllm_lora",), linears="all"))
    assert len(names) == 2 * 7 * 2  # layers, linears, A and B
    inside = r"language_model\.layers\.\d\.(self_attn\.[qkvo]|mlp\.(gate|up|down))_proj\.lora_"
    assert all(re.search(inside, name) for name in names)


def test_ranks_and_scales_are_the_groups_own(opened):
    model = attached(opened, rank=6, alpha=12, grounding_rank=3, grounding_alpha=9)
    for name, module in model.named_modules():
        if hasattr(module, "lora_A") and "default" in module.lora_A:
            own = (3, 3.0) if "grounding" in name else (6, 2.0)
            assert (module.r["default"], module.scaling["default"]) == own


def test_frozen_weights_keep_their_format_and_learning_ones_are_full(opened):
    opened.model.to(torch.bfloat16)
    model = attached(opened)
    formats = {p.requires_grad: set() for p in model.parameters()}
    for param in model.parameters():
        formats[param.requires_grad].add(param.dtype)
    assert formats[True] == {torch.float32}
    assert torch.bfloat16 in formats[False]


@pytest.mark.parametrize(
    ("trainable", "extra"),
    [
        (EVERYTHING, {}),
        (EVERYTHING, {"use_dora": True}),
        (("mllm_lora", "projector", "mask_decoder_lora"), {}),
    ],
)
def test_every_weight_that_learns_is_touched_and_no_other_moves(opened, batch, trainable, extra):
    model = attached(opened, trainable, **extra)
    frozen = {n: p.detach().clone() for n, p in model.named_parameters() if not p.requires_grad}
    params = {n: p for n, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(params.values(), lr=1e-3)
    touched = set()
    for _ in range(3):
        optimizer.zero_grad()
        # each candidate has weights of its own, and one batch may choose the same one throughout
        total_loss(model.train(), batch, masks="all").backward()
        peak = max(float(p.grad.abs().max()) for p in params.values() if p.grad is not None)
        touched |= {
            n
            for n, p in params.items()
            if p.grad is not None and float(p.grad.abs().max()) > 1e-7 * peak
        }
        optimizer.step()
    assert params.keys() - touched == set()
    for name, param in model.named_parameters():
        if name in frozen:
            assert torch.equal(param, frozen[name]), name


def test_of_candidates_never_chosen_only_their_own_weights_wait(opened, batch):
    model = attached(opened)
    disturb(model, size=1e-3)
    total_loss(model.train(), batch).backward()
    waiting = {
        name
        for name, param in model.named_parameters()
        if param.requires_grad and not param.grad.any()
    }
    assert all(re.search(r"output_hypernetworks_mlps\.[123]\.", name) for name in waiting)


def test_what_is_kept_frozen_would_only_get_noise(opened, batch):
    """No gradient at all, or rounding of a sum that is zero."""
    model = attached(opened, ("mask_decoder",))
    for name, param in model.named_parameters():
        if group_of(name) == "mask_decoder":
            param.requires_grad_(True)
    total_loss(model.train(), batch).backward()
    peak = max(float(p.grad.abs().max()) for p in model.parameters() if p.grad is not None)
    for name, param in model.named_parameters():
        kept_out = re.search(r"iou_pred|pred_obj|mlps\.0\.|k_proj\.bias", name)
        if group_of(name) == "mask_decoder" and kept_out:
            assert param.grad is None or float(param.grad.abs().max()) < 1e-5 * peak, name


def test_the_same_weights_learn_after_a_resume(opened, tiny_base, tmp_path):
    """Loading for training, peft opens frozen parts of saved blocks; the policy closes them."""
    model = attached(opened)
    before = learning(model)
    save_adapter(model, tmp_path / "adapter")
    again = PeftModel.from_pretrained(
        Sa2VA.from_pretrained(tiny_base), tmp_path / "adapter", is_trainable=True
    )
    assert learning(again) != before
    set_trainable(again, EVERYTHING)
    assert learning(again) == before


def test_unknown_groups_are_refused_with_the_known_ones():
    with pytest.raises(ValidationError, match=r"unknown trainable group vision\. Known: mllm_lora"):
        LoraSettings(trainable=("mllm_lora", "vision"))
    with pytest.raises(ValidationError, match=r"unknown trainable group \(none given\)"):
        LoraSettings(trainable=())


def test_the_decoder_learns_whole_or_by_lora_but_not_both():
    with pytest.raises(ValidationError, match=r"exclude each other. Name one"):
        LoraSettings(trainable=("mask_decoder", "mask_decoder_lora"))


def test_a_pattern_without_a_match_cannot_learn(opened):
    with pytest.raises(CannotLearnError, match=r"mllm_lora: no module matches.*wqkv.*q_proj"):
        attached(opened, ("mllm_lora",), target_modules=r".*\.wqkv")


def test_a_pattern_of_ones_own(opened):
    pattern = r"model\.language_model\.layers\.\d+\.mlp\.(up|down)_proj"
    names = learning(attached(opened, ("mllm_lora",), target_modules=pattern))
    assert names
    assert all(".mlp." in name for name in names)


def test_a_pattern_of_ones_own_goes_before_linears_and_stays_in_the_language_model(opened):
    pattern = r".*language_model.*\.q_proj|.*language_model.*\.k_proj"
    model = attached(opened, ("mllm_lora",), target_modules=pattern, linears="all")
    found = {name for name, module in model.named_modules() if hasattr(module, "lora_A")}
    assert len(found) == 2 * 2
    assert all(re.search(r"language_model.*\.self_attn\.[qk]_proj$", name) for name in found)


def test_an_alternative_does_not_leave_the_language_model(opened):
    model = attached(opened, ("mllm_lora",), target_modules=r"model\.nothing|.*\.q_proj")
    found = {name for name, module in model.named_modules() if hasattr(module, "lora_A")}
    assert found
    assert all(".mllm." in name for name in found)


def test_an_adapter_for_another_base_is_refused(opened, tiny_base, tmp_path):
    model = attached(opened)
    save_adapter(model, tmp_path / "adapter")
    base = Sa2VA.from_pretrained(tiny_base)
    settings = {k: base.settings[k] for k in ("family", "mllm", "grounding", "seg_token_id")}
    text = {**settings["mllm"]["text_config"], "hidden_size": 64}
    settings["mllm"] = {**settings["mllm"], "text_config": text}
    with pytest.raises(ValueError, match=r"does not fit this base .*give the base it was trained"):
        load_adapter(Sa2VA(**settings), tmp_path / "adapter")


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json"])
def test_cut_and_missing_files_are_told(opened, tiny_base, tmp_path, name):
    path = tmp_path / "adapter"
    save_adapter(attached(opened), path)
    file = path / name
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"adapter: the adapter is damaged or .* Copy it again"):
        load_adapter(Sa2VA.from_pretrained(tiny_base), path)
    file.unlink()
    with pytest.raises(FileNotFoundError, match="is missing: the run saved no finished epoch"):
        load_adapter(Sa2VA.from_pretrained(tiny_base), path)


def test_an_adapter_that_finds_no_room_is_not_called_damaged(opened, tiny_base, tmp_path):
    path = tmp_path / "adapter"
    save_adapter(attached(opened), path)
    config = path / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"r": 2**50}))
    with pytest.raises(RuntimeError) as caught:
        load_adapter(Sa2VA.from_pretrained(tiny_base), path)
    assert is_out_of_memory(caught.value)


def test_an_adapter_with_holes_is_refused(opened, tiny_base, tmp_path):
    path = tmp_path / "adapter"
    save_adapter(attached(opened), path)
    weights = path / "adapter_model.safetensors"
    state = load_file(weights)
    state.pop(next(name for name in state if "lora_B" in name))
    save_file(state, weights, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"adapter is incomplete.*Copy it again"):
        load_adapter(Sa2VA.from_pretrained(tiny_base), path)
