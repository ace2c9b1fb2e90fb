"""What holds for every family of language-vision models, on tiny ones with random weights."""

import json
from dataclasses import replace

import pytest
import torch
from tests.conftest import FAMILY_CONFIGS, TINY, draw, keep

from vasculora import audit_gradients
from vasculora.data.synthetic.styles import all_phrases
from vasculora.model.decoding import Stop, decode_greedily
from vasculora.model.groups import GROUPS
from vasculora.model.images import PatchConfig
from vasculora.model.lora import LoraSettings, attach
from vasculora.model.mllm import FAMILIES, find_family
from vasculora.model.processor import Processor
from vasculora.model.prompts import SEG_TOKEN, PromptConfig
from vasculora.model.sa2va import Sa2VA
from vasculora.model.scratch import processor_config, train_tokenizer


@pytest.fixture(scope="module", params=FAMILIES)
def model(request, tiny_base):
    """A tiny model of a family with its door."""
    family, config = find_family(request.param), FAMILY_CONFIGS[request.param]
    tokenizer = train_tokenizer(all_phrases(), PromptConfig(), vocab_size=TINY.vocab_size)
    marks = [family.image_token, family.image_open, family.image_close]
    tokenizer.add_special_tokens({"additional_special_tokens": marks})
    words = config["text_config"] | {"vocab_size": len(tokenizer)}
    image_id = tokenizer.convert_tokens_to_ids(family.image_token)
    made = Sa2VA(
        family=request.param,
        mllm=config | {"text_config": words, "image_token_id": image_id},
        grounding=json.loads((tiny_base / "config.json").read_text())["grounding"],
        seg_token_id=tokenizer.convert_tokens_to_ids(SEG_TOKEN),
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in made.parameters():
            if weight.ndim > 1:
                size = weight[0].numel() ** 0.5
                weight.copy_(torch.randn(weight.shape, generator=generator) / size)
    patches = PatchConfig(patch_size=14, min_pixels=28**2, max_pixels=64**2)
    settings = {"family": request.param, "turns": "joined"}
    settings |= {"patches": patches if family.image_first else None}
    door = processor_config(TINY).model_copy(update=settings)
    made.processor = Processor(tokenizer, door, PromptConfig())
    return made.eval()


def cases():
    """Three pictures of different shapes with two, one and two things to segment."""
    first, second, third = draw("xray", 0), draw("octa", 1, size=96), draw("fundus", 2, size=80)
    return [
        keep(first, "blood vessel", "background"),
        replace(
            second, image=second.image[:48], masks=second.masks[:1, :48], phrases=("background",)
        ),
        keep(third, "dark vessel", "blood vessel"),
    ]


def test_every_family_has_a_tiny_configuration():
    assert FAMILY_CONFIGS.keys() == FAMILIES.keys()


def test_a_batch_is_one_by_one(model):
    """Pictures of other shapes have other numbers of tokens, so rows are padded."""
    door = model.processor
    together = model(door.batch(cases()))
    parts = [model(door.batch([case])) for case in cases()]
    for name in ("mask_logits", "iou_scores", "text_logits"):
        expected = torch.cat([getattr(part, name) for part in parts])
        torch.testing.assert_close(getattr(together, name), expected, atol=1e-4, rtol=1e-4)
    assert together.mask_logits.std() > 0.01


def test_an_answer_does_not_depend_on_its_neighbours(model):
    door = model.processor
    stop = Stop(ids=(2,), words=(), pad_id=0, tokenizer=door.tokenizer)
    samples = cases()

    def ask(chosen):
        prompts = door.prompts(
            [c.case_id for c in chosen], [c.image for c in chosen], [c.phrases[0] for c in chosen]
        )
        return decode_greedily(model.mllm, prompts, max_new_tokens=8, stop=stop)

    together = ask(samples)
    for row, sample in enumerate(samples):
        assert ask([sample])[0].tolist() == together[row].tolist()


def test_the_mask_in_use_is_the_mask_in_training(model):
    door = model.processor
    samples = [replace(c, masks=c.masks[:1], phrases=c.phrases[:1]) for c in cases()]
    batch = door.batch(samples)
    prompts = door.prompts(
        [c.case_id for c in samples], [c.image for c in samples], [c.phrases[0] for c in samples]
    )
    answers = [row[row != -100] for row in batch.labels]
    used = model(model.answered(prompts, answers, door.stop.pad_id))
    torch.testing.assert_close(used.mask_logits, model(batch).mask_logits, atol=1e-5, rtol=1e-5)


def test_a_quoted_seg_is_no_answer(model):
    door = model.processor
    image = cases()[0].image
    prompts = door.chat("<image>You said [SEG]. Again?", image, past="")
    assert (prompts.input_ids == door.seg_id).sum() == 1
    answer = torch.tensor([door.seg_id, *door.stop.ids])
    batch = model.answered(prompts, [answer], door.stop.pad_id)
    assert batch.image_index.tolist() == [0]
    assert model(batch).mask_logits.shape[0] == 1


def test_pictures_and_words_are_both_heard(model):
    door = model.processor
    case = keep(draw("xray", 0), "blood vessel")
    plain = model(door.batch([case])).mask_logits
    batch = door.batch([case])
    blind = model(replace(batch, mllm_pixels=torch.zeros_like(batch.mllm_pixels))).mask_logits
    other = model(door.batch([replace(case, phrases=("background",))])).mask_logits
    for changed in (blind, other):
        assert (plain - changed).abs().max() > 1e-4


def test_the_gradient_reaches_every_lora_matrix(model):
    settings = LoraSettings(trainable=("mllm_lora",), rank=2, linears="all", dropout=0.0)
    peft_model = attach(model, settings)
    batch = model.processor.batch(cases())
    try:
        report = audit_gradients(
            peft_model,
            lambda: model(batch).mask_logits.square().mean(),
            groups={"mllm_lora": GROUPS["mllm_lora"]},
        )
    finally:
        peft_model.unload()
    (group,) = report.groups
    assert report.ok
    assert (
        group.num_touched
        == group.num_parameters
        == 2
        * sum(
            module.in_features + module.out_features
            for name, module in model.mllm.model.language_model.layers.named_modules()
            if name.endswith("_proj")
        )
    )
