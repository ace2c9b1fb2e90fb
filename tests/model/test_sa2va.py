import json
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tests.conftest import TINY, draw, keep
from torch import nn

from vasculora.core.geometry import upsample_logits
from vasculora.core.runtime import set_seed
from vasculora.model.grounding import best_candidate, decode_masks, encode_image
from vasculora.model.lora import LoraSettings, attach
from vasculora.model.processor import Processor
from vasculora.model.sa2va import Sa2VA
from vasculora.model.scratch import build_from_scratch


def door(opened, **settings):
    """Return the tiny base's processor with other settings."""
    config = opened.processor.config.model_copy(update=settings)
    return Processor(opened.processor.tokenizer, config, opened.processor.prompt)


def cases():
    """Three pictures of different sizes with three, one and two things to segment."""
    return [
        keep(draw("xray", 0), "blood vessel", "catheter", "background"),
        keep(draw("octa", 1, size=48), "background"),
        keep(draw("fundus", 2, size=56), "dark vessel", "blood vessel"),
    ]


def questions(processor, samples):
    """Return the samples' first phrases as questions."""
    return processor.prompts(
        [sample.case_id for sample in samples],
        [sample.image for sample in samples],
        [sample.phrases[0] for sample in samples],
    )


def answer(opened, prompts):
    return opened.model.generate(
        prompts,
        max_new_tokens=16,
        stop=opened.processor.stop,
    )


def mask_loss(mask_logits, targets):
    """Return the mean cross-entropy over all pixels of all masks."""
    losses = [
        F.binary_cross_entropy_with_logits(
            upsample_logits(logits[None], via=64, size=tuple(target.shape))[0],
            target,
            reduction="none",
        ).flatten()
        for logits, target in zip(mask_logits, targets, strict=True)
    ]
    return torch.cat(losses).mean()


def decode_with_graph(model, prompts, stop):
    """Return the answer to one question, word by word, and the state at each `[SEG]`, with a graph.

    As in use: every step reads one token and the cached keys of those before it.
    """
    input_ids, pixels, cache = prompts.input_ids, prompts.mllm_pixels, None
    length, spoken, states = input_ids.shape[1], [], []
    while len(spoken) < 16:
        step = model.mllm.model(
            input_ids=input_ids,
            attention_mask=torch.ones(1, length, dtype=torch.long),
            pixel_values=pixels,
            past_key_values=cache,
            use_cache=True,
        )
        if spoken and spoken[-1] == model.seg_token_id:
            states.append(step.last_hidden_state[0, -1])
        spoken.append(int(model.mllm.lm_head(step.last_hidden_state[0, -1]).argmax()))
        if spoken[-1] in stop.ids:
            break
        input_ids, pixels, cache = torch.tensor([[spoken[-1]]]), None, step.past_key_values
        length += 1
    return spoken, torch.stack(states)


@pytest.mark.parametrize("trainable", [("mllm_lora",), ("mllm_lora", "grounding_lora")])
def test_gradients_are_those_of_decoding_word_by_word(opened, trainable):
    """Teacher forcing with one pass is decoding with the graph on, when the text is the same."""
    samples = [keep(case, case.phrases[0]) for case in cases()]
    set_seed(0)  # LoRA's first half starts at random
    peft_model = attach(opened.model, LoraSettings(trainable=trainable, rank=4, dropout=0.0))
    generator = torch.Generator().manual_seed(0)
    learnt = {n: p for n, p in peft_model.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for name, param in learnt.items():
            if "lora_B" in name:
                param.copy_(torch.randn(param.shape, generator=generator) * 0.01)
    model = opened.model.eval()

    batch = opened.processor.batch(samples)
    output = model(batch)
    mask_loss(output.mask_logits, batch.targets).backward()
    taught = {name: param.grad.clone() for name, param in learnt.items()}
    peft_model.zero_grad()

    masks = []
    for sample, labels in zip(samples, batch.labels, strict=True):
        prompts = questions(opened.processor, [sample])
        spoken, states = decode_with_graph(model, prompts, opened.processor.stop)
        assert spoken == labels[labels != -100].tolist()
        features = encode_image(model.grounding, prompts.sam_pixels)
        candidates, scores = decode_masks(
            model.grounding, features, torch.tensor([0]), model.seg_projector(states)
        )
        masks += best_candidate(candidates, scores)
    mask_loss(masks, batch.targets).backward()

    largest = max(float(grad.abs().max()) for grad in taught.values())
    assert largest > 1e-4
    assert len(taught) >= 2 * 4 * 2
    for name, param in learnt.items():
        assert taught[name].any(), name
        assert (param.grad - taught[name]).abs().max() <= 1e-5 * largest, name


def test_the_mask_in_use_is_the_mask_in_training(opened):
    samples = [keep(case, case.phrases[0]) for case in cases()]
    batch = opened.processor.batch(samples)
    answers, used, image_index = answer(opened, questions(opened.processor, samples))
    assert answers == [row[row != -100].tolist() for row in batch.labels]
    assert image_index.tolist() == [0, 1, 2]
    taught = opened.model(batch)
    torch.testing.assert_close(used.mask_logits, taught.mask_logits, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(used.iou_scores, taught.iou_scores, atol=1e-6, rtol=1e-6)
    assert not used.mask_logits.requires_grad
    assert taught.mask_logits.requires_grad


def test_a_batch_of_questions_is_one_by_one(opened):
    samples = cases()
    prompts = questions(opened.processor, samples)
    assert len(set(prompts.attention_mask.sum(dim=1).tolist())) > 1
    answers, together, _ = answer(opened, prompts)
    for row, sample in enumerate(samples):
        own_answer, own, _ = answer(opened, questions(opened.processor, [sample]))
        assert own_answer == [answers[row]]
        torch.testing.assert_close(
            own.mask_logits[0], together.mask_logits[row], atol=1e-5, rtol=1e-5
        )


@pytest.mark.parametrize("turns", ["joined", "separate"])
def test_a_batch_of_any_number_of_masks_is_one_by_one(opened, turns):
    processor = door(opened, turns=turns)
    together = opened.model(processor.batch(cases()))
    parts = [opened.model(processor.batch([case])) for case in cases()]
    assert [len(part.mask_logits) for part in parts] == [3, 1, 2]
    for name in ("mask_logits", "candidate_logits", "iou_scores", "text_logits"):
        expected = torch.cat([getattr(part, name) for part in parts])
        torch.testing.assert_close(getattr(together, name), expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(together.text_labels, torch.cat([part.text_labels for part in parts]))


def test_a_first_turn_does_not_hear_the_later_ones(opened):
    case = cases()[0]
    joined = opened.model(door(opened, turns="joined").batch([case]))
    separate = opened.model(door(opened, turns="separate").batch([case]))
    first = (joined.mask_logits[0], separate.mask_logits[0])
    torch.testing.assert_close(*first, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(joined.mask_logits[1], separate.mask_logits[1], atol=1e-5)


def test_masks_stand_in_the_order_of_their_phrases(opened):
    case = cases()[0]
    turned = keep(case, *case.phrases[::-1])
    processor = door(opened, turns="separate")
    forth, back = (opened.model(processor.batch([c])).mask_logits for c in (case, turned))
    torch.testing.assert_close(forth, back.flip(0), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(forth, back, atol=1e-5)


def test_text_scores_belong_to_the_tokens_before_the_answer(opened):
    batch = opened.processor.batch(cases())
    output = opened.model(batch)
    scores = opened.model.mllm(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        pixel_values=batch.mllm_pixels,
    ).logits
    expected = [scores[row, place - 1] for row, place in (batch.labels != -100).nonzero().tolist()]
    torch.testing.assert_close(output.text_logits, torch.stack(expected), atol=1e-5, rtol=1e-5)
    assert torch.equal(output.text_labels, batch.labels[batch.labels != -100])


def test_an_answer_without_seg_has_no_mask(opened):
    """The head can no longer say [SEG]: the row of another token stands in its place."""
    with torch.no_grad():
        head = opened.model.mllm.lm_head.weight
        head[opened.processor.seg_id] = -head[opened.processor.seg_id]
    samples = cases()
    prompts = questions(opened.processor, samples)
    answers, output, image_index = answer(opened, prompts)
    assert all(opened.processor.seg_id not in spoken for spoken in answers)
    assert len(image_index) == len(output.mask_logits) == 0
    for sample, prediction in zip(
        samples,
        opened.processor.predictions(prompts, answers, output, image_index),
        strict=True,
    ):
        assert not prediction.seg_found
        assert "[SEG]" not in prediction.text
        assert prediction.mask.shape == sample.image.shape[:2]
        assert not prediction.mask.any()
        assert not prediction.prob.any()


def test_an_answer_of_several_seg_has_a_mask_each(opened):
    """The head says [SEG] whatever it has heard, until the longest answer is reached."""
    seg_id = opened.processor.seg_id
    samples = cases()[:2]
    prompts = questions(opened.processor, samples)
    _, single, _ = answer(opened, prompts)
    opened.model.mllm.lm_head = _Stuck(seg_id, vocab_size=320)
    answers, output, image_index = opened.model.generate(
        prompts, max_new_tokens=3, stop=opened.processor.stop
    )
    assert answers == [[seg_id] * 3] * 2
    assert image_index.tolist() == [0, 0, 0, 1, 1, 1]
    assert output.mask_logits.shape == (6, 32, 32)
    assert not torch.allclose(output.mask_logits[0], output.mask_logits[1], atol=1e-6)
    assert single.mask_logits.shape == (2, 32, 32)


class _Stuck(nn.Module):
    """A head that knows one word."""

    def __init__(self, token_id, vocab_size):
        super().__init__()
        self.scores = F.one_hot(torch.tensor(token_id), vocab_size).float()

    def forward(self, states):
        return self.scores.expand(*states.shape[:-1], -1)


def test_tokens_and_masks_must_agree_in_number(opened):
    batch = opened.processor.batch(cases())
    short = replace(batch, image_index=batch.image_index[:-1], targets=batch.targets[:-1])
    with pytest.raises(ValueError, match=r"one \[SEG\] a mask in xray0, .* 6 \[SEG\] for 5 masks"):
        opened.model(short)


def test_a_mask_reaches_every_block_on_its_way(opened):
    output = opened.model(opened.processor.batch(cases()))
    output.mask_logits.square().mean().backward()
    model = opened.model
    words = model.mllm.get_input_embeddings().weight
    for reached in (
        words,
        model.mllm.model.vision_tower.embeddings.patch_embeddings.projection.weight,
        model.mllm.model.multi_modal_projector.linear_1.weight,
        model.mllm.model.language_model.layers[0].self_attn.k_proj.weight,
        model.seg_projector[0].weight,
        model.seg_projector[2].weight,
        model.grounding.vision_encoder.backbone.patch_embed.projection.weight,
        model.grounding.mask_decoder.mask_tokens.weight,
    ):
        assert reached.grad is not None
        assert reached.grad.abs().max() > 0
    assert words.grad[opened.processor.seg_id].any()
    assert model.mllm.lm_head.weight.grad is None


def test_what_is_saved_comes_back_bit_for_bit(opened, tmp_path):
    opened.model.save_pretrained(tmp_path, dtype=torch.float32)
    again = Sa2VA.from_pretrained(tmp_path)
    assert not again.training
    assert again.settings == opened.model.settings
    state = opened.model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in again.state_dict().items())
    batch = opened.processor.batch(cases())
    assert torch.equal(again(batch).mask_logits, opened.model(batch).mask_logits)


def test_half_precision_files_are_opened_in_full(opened, tmp_path):
    opened.model.save_pretrained(tmp_path, dtype=torch.float16)
    state = load_file(tmp_path / "model.safetensors")
    assert {value.dtype for value in state.values()} == {torch.float16}
    again = Sa2VA.from_pretrained(tmp_path)
    assert {param.dtype for param in again.parameters()} == {torch.float32}


@pytest.fixture
def saved(opened, tmp_path):
    """A model's folder, to be damaged."""
    opened.model.save_pretrained(tmp_path, dtype=torch.float32)
    return tmp_path


def rewrite(path, change):
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def test_missing_and_foreign_configurations_are_told_apart(saved):
    config = saved / "config.json"
    rewrite(config, lambda settings: {"model_type": "llava"})
    with pytest.raises(ValueError, match=r"or 'vasculora_sa2va' .one of ours., got 'llava'. Give"):
        Sa2VA.from_pretrained(saved)
    rewrite(config, lambda settings: settings | {"auto_map": {"AutoModel": "model.Model"}})
    with pytest.raises(ValueError, match=r"asks for remote code .auto_map., which vasculora never"):
        Sa2VA.from_pretrained(saved)
    config.write_text("[]")
    with pytest.raises(ValueError, match=r"'vasculora_sa2va' .one of ours., got None"):
        Sa2VA.from_pretrained(saved)
    config.write_text("{")
    with pytest.raises(ValueError, match=r"config.json: not valid JSON .*rewrite the file"):
        Sa2VA.from_pretrained(saved)
    config.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"config.json: not valid JSON"):
        Sa2VA.from_pretrained(saved)
    config.unlink()
    with pytest.raises(FileNotFoundError, match=r"neither. Give `nano`, a base's folder or a run"):
        Sa2VA.from_pretrained(saved)


@pytest.mark.parametrize("key", ["family", "mllm", "grounding", "seg_token_id"])
def test_an_incomplete_configuration_names_what_is_missing(saved, key):
    rewrite(saved / "config.json", lambda s: {k: v for k, v in s.items() if k != key})
    with pytest.raises(ValueError, match=rf"config.json: .*{key}.*Copy the base again"):
        Sa2VA.from_pretrained(saved)


def test_damaged_weights_are_named(saved):
    weights = saved / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"model.safetensors: is damaged or cut off"):
        Sa2VA.from_pretrained(saved)
    weights.unlink()
    with pytest.raises(FileNotFoundError, match=r"holds no weights. Expected model.safetensors"):
        Sa2VA.from_pretrained(saved)


def test_weights_of_another_model_are_named(saved, opened):
    weights = saved / "model.safetensors"
    state = load_file(weights)
    kept = dict(state)
    kept["seg_projector.9.weight"] = kept.pop("seg_projector.0.weight")
    save_file(kept, weights)
    with pytest.raises(
        ValueError, match=r"(?s)missing: seg_projector.0.*unexpected: .*projector.9"
    ):
        Sa2VA.from_pretrained(saved)
    state["seg_projector.0.weight"] = torch.zeros(3, 3)
    save_file(state, weights)
    with pytest.raises(
        ValueError, match=r"(?s)do not fit.*shape: seg_projector.0.weight 3x3 .*Copy"
    ):
        Sa2VA.from_pretrained(saved)


def test_the_reference_projection_is_met(opened, shared_dir):
    """The projector's arithmetic, with the reference model's weights in it."""
    folder = shared_dir / "golden" / "internvl_qwen2"
    weights = load_file(folder / "checkpoint" / "model.safetensors")
    golden = load_file(folder / "golden.safetensors")
    arch = TINY.model_copy(update={"text_width": 64, "decoder_width": 128})
    projector = build_from_scratch(arch, opened.processor.tokenizer).seg_projector
    prefix = "text_hidden_fcs."
    state = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    projector.load_state_dict(state)
    torch.testing.assert_close(
        projector(golden["image/seg_hidden_states"]),
        golden["image/seg_embeddings"],
        atol=1e-4,
        rtol=0,
    )


def test_the_index_names_the_image(opened):
    batch = opened.processor.batch(cases()[:2])
    moved = replace(batch, image_index=torch.ones_like(batch.image_index))
    own, other = opened.model(batch).mask_logits, opened.model(moved).mask_logits
    assert torch.equal(own[3], other[3])
    assert not torch.allclose(own[0], other[0], atol=1e-5)
