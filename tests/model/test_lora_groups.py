"""What the groups beside plain LoRA open: the connector, the rows of `[SEG]`, SAM 2's memory."""

import re

import pytest
import torch
from peft import PeftModel
from pydantic import ValidationError
from tests.conftest import draw
from tests.model.test_lora import assert_close, disturb, learning, outputs, total_loss
from transformers import Sam2VideoConfig

from vasculora.core.errors import NoTargetError
from vasculora.core.runtime import set_seed
from vasculora.model.groups import count_groups, group_of
from vasculora.model.lora import (
    LoraSettings,
    attach,
    groups_of,
    load_adapter,
    save_adapter,
    set_trainable,
)
from vasculora.model.sa2va import Sa2VA

EMBEDDING = "mllm.model.language_model.embed_tokens.weight"
HEAD = "mllm.lm_head.weight"
EXTRAS = [{}, {"use_rslora": True}, {"use_dora": True}]


@pytest.fixture
def batch(opened):
    return opened.processor.batch([draw("xray", 0), draw("octa", 1, size=48)])


def settings_of(model, **changes):
    own = {key: model.settings[key] for key in ("family", "mllm", "grounding", "seg_token_id")}
    return own | changes


def rebuild(model, **changes):
    """Return a model of almost the same settings, with the same weights where they fit."""
    set_seed(0)
    built = Sa2VA(**settings_of(model, **changes)).eval()
    missing = built.load_state_dict(model.state_dict(), strict=False).missing_keys
    assert all(name.startswith("grounding.") for name in missing)
    return built


@pytest.fixture
def tied(opened):
    """The tiny base with a text head that is its embedding."""
    mllm = opened.model.settings["mllm"]
    text = {**mllm["text_config"], "tie_word_embeddings": True}
    make = {"mllm": {**mllm, "text_config": text, "tie_word_embeddings": True}}
    opened.model.mllm.lm_head.weight = opened.model.mllm.model.language_model.embed_tokens.weight
    model = rebuild(opened.model, **make)
    assert model.mllm.lm_head.weight is model.mllm.model.language_model.embed_tokens.weight
    return model


@pytest.fixture
def with_memory(opened):
    """The tiny base with a SAM 2 that has a memory of earlier frames."""
    config = Sam2VideoConfig(
        **{
            key: opened.model.settings["grounding"][key]
            for key in ("vision_config", "prompt_encoder_config", "mask_decoder_config")
        },
        memory_attention_hidden_size=32,
        memory_attention_num_layers=2,
        memory_attention_feed_forward_hidden_size=32,
        memory_encoder_hidden_size=32,
        mask_downsampler_embed_dim=32,
        memory_fuser_embed_dim=32,
        memory_fuser_intermediate_dim=32,
    )
    return rebuild(opened.model, grounding=config.to_dict())


def seg_attached(model, trainable=("seg_token",), **settings):
    set_seed(0)
    return attach(
        model, LoraSettings(trainable=trainable, rank=4, alpha=8, dropout=0.0, **settings)
    )


def step(model, batch):
    """Take one large step along the gradient."""
    total_loss(model.train(), batch).backward()
    with torch.no_grad():
        for param in model.parameters():
            if param.requires_grad:
                param -= 0.5 * param.grad / param.grad.norm()


def changed(before, model):
    """Return the names of the weights that differ, each with the rows in which it does."""
    found = {}
    for name, param in model.state_dict().items():
        if not torch.equal(before[name], param):
            rows = (before[name] != param).flatten(1).any(1) if param.ndim > 1 else None
            found[name] = rows.nonzero().flatten().tolist() if rows is not None else None
    return found


def test_a_step_changes_the_rows_of_seg_and_nothing_else(opened, batch):
    before = {name: value.clone() for name, value in opened.model.state_dict().items()}
    seg = opened.model.seg_token_id
    model = seg_attached(opened.model)
    names = learning(model)
    assert {group_of(name) for name in names} == {"seg_token"}
    assert len(names) == 2
    step(model, batch)
    assert changed(before, model.merge_and_unload()) == {EMBEDDING: [seg], HEAD: [seg]}


def test_masks_teach_the_embedding_s_row_and_text_the_head_s(opened, batch):
    model = seg_attached(opened.model).train()
    rows = {name: p for name, p in model.named_parameters() if p.requires_grad}
    embedding = next(p for name, p in rows.items() if "embed_tokens" in name)
    head = next(p for name, p in rows.items() if "lm_head" in name)
    output = model(batch)
    output.mask_logits.sum().backward(retain_graph=True)
    assert embedding.grad.abs().max() > 0
    assert head.grad is None
    torch.nn.functional.cross_entropy(output.text_logits, output.text_labels).backward()
    assert head.grad.abs().max() > 0


@pytest.mark.parametrize("extra", EXTRAS)
def test_merged_rows_are_the_unmerged_ones(opened, batch, extra):
    """Without merging, a row lives beside its matrix; merged, in it."""
    base = outputs(opened.model, batch)
    model = seg_attached(opened.model, ("seg_token", "mllm_lora"), **extra)
    set_trainable(model, ("seg_token",))
    disturb(model, size=0.5)
    unmerged = outputs(model, batch)
    rows = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    seg = opened.model.seg_token_id
    merged = model.merge_and_unload()
    state = merged.state_dict()
    assert len(rows) == 2
    for name, row in rows.items():
        key = EMBEDDING if "embed_tokens" in name else HEAD
        assert torch.equal(state[key][seg], row[0])
    for one, two, start in zip(unmerged, outputs(merged, batch), base, strict=True):
        assert float((one - start).abs().max()) > 0.01
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)


def test_rows_of_a_half_precision_base_are_learnt_in_full(opened, batch):
    opened.model.to(torch.bfloat16)
    seg = opened.model.seg_token_id
    start = opened.model.state_dict()[EMBEDDING][seg].clone()
    model = seg_attached(opened.model)
    (row,) = [p for n, p in model.named_parameters() if p.requires_grad and "embed_tokens" in n]
    assert row.dtype == torch.float32
    assert torch.equal(row[0], start.float())
    with torch.no_grad():
        row += 1e-4  # less than bfloat16 can say, and kept all the same
    assert not torch.equal(row[0], row[0].bfloat16().float())
    merged = model.merge_and_unload().state_dict()[EMBEDDING]
    assert merged.dtype == torch.bfloat16
    assert torch.equal(merged[seg], row[0].bfloat16())


def test_a_tied_base_has_one_row_for_both(tied, batch):
    before = {name: value.clone() for name, value in tied.state_dict().items()}
    start = outputs(tied, batch)
    seg, width = tied.seg_token_id, tied.mllm.lm_head.in_features
    model = seg_attached(tied)
    assert count_groups(model).attached["seg_token"] == width
    fresh = outputs(model, batch)
    assert all(torch.equal(one, other) for one, other in zip(start, fresh, strict=True))
    step(model, batch)
    unmerged = outputs(model, batch)
    assert float((unmerged[1] - start[1])[:, seg].abs().max()) > 0.01
    merged = model.merge_and_unload()
    assert_close(outputs(merged, batch), unmerged)
    assert changed(before, merged) == {EMBEDDING: [seg], HEAD: [seg]}
    assert merged.mllm.lm_head.weight is merged.mllm.model.language_model.embed_tokens.weight


def test_a_tied_row_is_read_by_embedding_and_head(tied, batch):
    seg, matrix = tied.seg_token_id, tied.mllm.lm_head.weight.detach().clone()
    model = seg_attached(tied)
    ((_, row),) = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    disturb(model, size=1)
    matrix[seg] = row.detach()[0]
    states = torch.randn(3, matrix.shape[1], generator=torch.Generator().manual_seed(0))
    base = model.get_base_model().mllm
    torch.testing.assert_close(base.lm_head(states), states @ matrix.T)
    ids = torch.arange(len(matrix))
    assert torch.equal(base.get_input_embeddings()(ids), matrix)
    output = model.train()(batch)
    for part in (output.mask_logits.sum(), output.text_logits[:, seg].sum()):
        (grad,) = torch.autograd.grad(part, row, retain_graph=True)
        assert grad.abs().max() > 0


@pytest.mark.parametrize("extra", EXTRAS)
def test_a_tied_adapter_is_saved_and_loaded(tied, batch, tmp_path, extra):
    copy = rebuild(tied)
    model = seg_attached(tied, ("seg_token", "mllm_lora", "connector"), **extra)
    disturb(model, size=0.1)
    expected = outputs(model, batch)
    save_adapter(model, tmp_path / "adapter")
    again = load_adapter(copy, tmp_path / "adapter")
    assert not learning(again)
    assert_close(outputs(again, batch), expected)
    assert_close(outputs(again.merge_and_unload(), batch), expected)


def test_a_connector_learns_whole_and_is_found_by_its_own_name(opened, batch):
    model = seg_attached(opened.model, ("connector",))
    names = learning(model)
    assert names
    assert all(".multi_modal_projector.modules_to_save.default." in name for name in names)
    connector = opened.model.mllm.model.multi_modal_projector.original_module
    whole = sum(param.numel() for param in connector.parameters())
    assert count_groups(model).trainable["connector"] == whole
    total_loss(model.train(), batch).backward()
    for name, param in model.named_parameters():
        if name in names:
            assert param.grad.abs().max() > 0, name


def drop_connector(model):
    """Make of a base what the families are whose image encoder ends in tokens."""
    del model.mllm.model.multi_modal_projector
    return model


def test_a_family_without_a_connector_goes_without_it(opened):
    settings = LoraSettings(trainable=("mllm_lora", "connector", "projector"))
    assert groups_of(opened.model, settings) == ("mllm_lora", "connector", "projector")
    base = drop_connector(opened.model)
    assert groups_of(base, settings) == ("mllm_lora", "projector")
    model = attach(base, settings)
    assert count_groups(model).trainable.keys() == {"mllm_lora", "projector"}
    assert groups_of(base, settings) == ("mllm_lora", "projector")


def test_a_connector_alone_cannot_learn_where_there_is_none(opened):
    with pytest.raises(NoTargetError, match=r"connector: this base has none.*Name another group"):
        seg_attached(drop_connector(opened.model), ("connector",))


def test_groups_are_the_same_before_and_after(opened):
    settings = LoraSettings(trainable=("connector", "seg_token"))
    before = groups_of(opened.model, settings)
    attach(opened.model, settings)
    assert groups_of(opened.model, settings) == before == ("connector", "seg_token")


def test_memory_is_attached_and_stays_as_it_is(with_memory, batch, tmp_path):
    base = rebuild(with_memory)
    start = outputs(with_memory, batch)
    trainable = ("mllm_lora", "mask_decoder_lora")
    model = seg_attached(with_memory, trainable, frozen=("memory_lora",))
    fresh = outputs(model, batch)
    assert all(torch.equal(one, other) for one, other in zip(start, fresh, strict=True))
    memory = {n: p.clone() for n, p in model.named_parameters() if group_of(n) == "memory_lora"}
    assert len(memory) == 2 * 2 * 3 * 2  # layers, attentions, linears, A and B
    assert all(
        re.search(r"memory_attention\.layers\.\d\.\w+\.[qkv]_proj\.lora_[AB]", n) for n in memory
    )
    counts = count_groups(model)
    assert counts.trainable["memory_lora"] == 0 < counts.attached["memory_lora"]
    assert counts.num_attached - counts.num_trainable == counts.attached["memory_lora"]
    assert {group_of(name) for name in learning(model)} == set(trainable)
    disturb(model)
    now = dict(model.named_parameters())
    assert all(torch.equal(value, now[name]) for name, value in memory.items())
    expected = outputs(model, batch)
    assert float((expected[0] - start[0]).abs().max()) > 0.01
    save_adapter(model, tmp_path / "adapter")
    assert_close(outputs(load_adapter(base, tmp_path / "adapter"), batch), expected)


def test_no_gradient_gets_into_the_memory(with_memory, batch):
    model = seg_attached(with_memory, ("mllm_lora",), frozen=("memory_lora",))
    memory = [p for n, p in model.named_parameters() if group_of(n) == "memory_lora"]
    for param in memory:
        param.requires_grad_(True)
    total_loss(model.train(), batch).backward()
    assert all(param.grad is None for param in memory)


def test_where_there_is_no_memory_none_is_attached(opened):
    plain = count_groups(seg_attached(opened.model, ("mllm_lora",), frozen=("memory_lora",)))
    assert plain.attached.keys() == {"mllm_lora"}


def test_memory_can_be_attached_beside_whole_blocks(with_memory):
    counts = count_groups(seg_attached(with_memory, ("projector",), frozen=("memory_lora",)))
    assert counts.attached.keys() == {"mllm_lora", "memory_lora", "projector"}
    assert counts.num_trainable == counts.trainable["projector"]


def test_memory_cannot_be_asked_to_learn():
    with pytest.raises(ValidationError, match=r"memory_lora cannot learn: a single image never.*"):
        LoraSettings(trainable=("mllm_lora", "memory_lora"))
    with pytest.raises(
        ValidationError, match=r"projector cannot be attached frozen. Known: memory"
    ):
        LoraSettings(frozen=("projector",))


def test_peft_alone_opens_rows_and_connector(opened, tiny_base, batch, tmp_path):
    model = seg_attached(opened.model, ("seg_token", "connector"))
    disturb(model)
    expected = outputs(model, batch)
    save_adapter(model, tmp_path / "adapter")
    plain = PeftModel.from_pretrained(Sa2VA.from_pretrained(tiny_base), tmp_path / "adapter")
    assert_close(outputs(plain, batch), expected)
