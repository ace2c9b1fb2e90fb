"""`predict_forward` as scripts for the official model call it, and the gradient they never had."""

import inspect

import numpy as np
import pytest
import torch
from tests.model.official.parity import FOLDERS, Golden

from vasculora import Sa2VA, audit_gradients
from vasculora.core.runtime import set_seed
from vasculora.model.grounding import best_candidate, decode_masks, encode_image
from vasculora.model.groups import GROUPS
from vasculora.model.lora import LoraSettings, attach
from vasculora.model.mllm import model_inputs

LANGUAGE_LORA = {"mllm_lora": GROUPS["mllm_lora"], "mask_decoder_lora": GROUPS["mask_decoder_lora"]}


@pytest.fixture(scope="module", params=FOLDERS)
def golden(request, shared_dir):
    return Golden(shared_dir, request.param)


@pytest.fixture
def model(golden):
    return golden.open()


def adapted(model):
    """Return the model with the seed's LoRA, some of it trained a little."""
    set_seed(0)
    settings = LoraSettings(
        trainable=("mllm_lora", "mask_decoder_lora"), frozen=("memory_lora",), rank=4, dropout=0.1
    )
    return attach(model, settings)


def test_arguments_stand_in_the_official_order():
    names = list(inspect.signature(Sa2VA.predict_forward).parameters)
    assert names[1:6] == ["image", "video", "text", "past_text", "mask_prompts"]
    assert names[6:] == ["tokenizer", "processor", "return_tensors"]


def test_what_comes_back_without_a_graph(golden, model):
    answer = model.predict_forward(golden.image, None, golden.text("image"))
    assert list(answer) == ["prediction", "prediction_masks", "probability_maps"]
    assert len(answer["prediction_masks"]) == len(answer["probability_maps"]) == 2
    for mask, prob in zip(answer["prediction_masks"], answer["probability_maps"], strict=True):
        assert mask.shape == prob.shape == (1, 160, 240)
        assert (mask.dtype, prob.dtype) == (np.bool_, np.float32)
        assert np.array_equal(mask, prob > 0.5)


def test_the_callers_own_tokenizer_and_processor_are_taken(golden, model):
    class Bundle:
        tokenizer = model.processor.tokenizer

    expected = model.predict_forward(golden.image, text=golden.text("image"))
    for given in ({"tokenizer": Bundle.tokenizer}, {"processor": Bundle()}):
        again = model.predict_forward(golden.image, text=golden.text("image"), **given)
        assert again["prediction"] == expected["prediction"]
        assert np.array_equal(again["prediction_masks"], expected["prediction_masks"])


def test_gradients_only_where_they_are_asked_for(golden, model):
    text = golden.text("image")
    with torch.no_grad():
        quiet = model.predict_forward(golden.image, text=text, return_tensors=True)
    live = model.predict_forward(golden.image, text=text, return_tensors=True)
    assert not quiet["probability_maps"][0].requires_grad
    assert live["probability_maps"][0].requires_grad
    torch.testing.assert_close(quiet["probability_maps"], live["probability_maps"])


def test_every_lora_matrix_of_the_language_model_receives_the_gradient(golden, model):
    """The promise that the seed's repair could not keep."""
    peft_model = adapted(model).train()

    def loss():
        answer = peft_model.predict_forward(
            golden.image, text=golden.text("image"), return_tensors=True
        )
        return torch.stack(answer["probability_maps"]).square().mean()

    report = audit_gradients(peft_model, loss, groups=LANGUAGE_LORA)
    found = {group.name: group for group in report.groups}
    assert report.ok, str(report)
    assert found["mllm_lora"].num_touched == found["mllm_lora"].num_parameters > 0
    assert "(100.0%)" in str(report)


@pytest.mark.slow
def test_states_from_generate_never_reach_the_language_model(golden, model):
    """The seed's second situation: the own decorator is gone, transformers' is still there."""
    peft_model = adapted(model)
    prompts = model.processor.chat(golden.text("image"), np.asarray(golden.image), past="")

    def loss():
        answer = model.mllm.generate(
            **model_inputs(model.mllm, prompts, prompts.input_ids, prompts.attention_mask),
            max_new_tokens=32,
            do_sample=False,
            eos_token_id=int(golden.tensors["image/generated_ids"][-1]),
            pad_token_id=model.processor.stop.pad_id,
            output_hidden_states=True,
            return_dict_in_generate=True,
        )
        states = torch.cat([step[-1] for step in answer.hidden_states], dim=1)
        is_seg = answer.sequences[:, : states.shape[1]] == model.seg_token_id
        features = encode_image(model.grounding, prompts.sam_pixels)
        index = is_seg.nonzero()[:, 0]
        prompt = model.seg_projector(states[is_seg])
        masks, scores = decode_masks(model.grounding, features, index, prompt)
        assert len(masks) == 2
        return best_candidate(masks, scores).square().mean()

    report = audit_gradients(peft_model, loss, groups=LANGUAGE_LORA)
    found = {group.name: group for group in report.groups}
    assert not report.ok
    assert found["mllm_lora"].num_touched == 0
    assert found["mask_decoder_lora"].num_touched == found["mask_decoder_lora"].num_parameters
    assert any(cut.kind == "no_grad" and "generation/utils.py" in str(cut) for cut in report.cuts)


def test_a_second_turn_hears_the_first(golden, model):
    """History is handed over as it was formatted, with the image's tokens in it."""
    first = golden.text("image")
    prompts = model.processor.chat(first, np.asarray(golden.image), past="")
    answer = model.predict_forward(golden.image, text=first)
    shown = model.processor.tokenizer.decode(prompts.input_ids[0], skip_special_tokens=False)
    past = shown.replace("<s>", "") + answer["prediction"] + "\n"
    again = model.processor.chat("And the other?", np.asarray(golden.image), past=past)
    assert (again.input_ids == model.processor.image_id).sum() == (
        prompts.input_ids == model.processor.image_id
    ).sum()
    second = model.predict_forward(golden.image, text="And the other?", past_text=past)
    num_seg = second["prediction"].count("[SEG]")
    assert len(second["prediction_masks"]) == num_seg  # those of the first turn are no answers


def test_talk_without_an_image_has_no_mask(golden, model):
    answer = model.predict_forward(text=golden.text("text"), return_tensors=True)
    assert answer["prediction_masks"] == answer["probability_maps"] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"video": ["frame"], "text": "<image>Segment."}, "video is not supported yet. Give its"),
        ({"mask_prompts": [1], "text": "<image>Segment."}, "mask_prompts are not supported yet"),
        ({"text": ""}, "text is empty. Ask something"),
        ({"text": None}, "text is empty"),
    ],
)
def test_what_cannot_be_done_is_said(golden, model, arguments, message):
    with pytest.raises(ValueError, match=message):
        model.predict_forward(**arguments)


def test_an_image_must_be_placed_once(shared_dir):
    golden = Golden(shared_dir, "internvl_qwen2")
    model = golden.open()
    for text in ("Please segment it.", "<image><image>Please segment it."):
        with pytest.raises(ValueError, match=r"the image has 112. Put <image> into text once"):
            model.predict_forward(golden.image, text=text)


def test_a_model_made_in_memory_has_no_door(opened):
    opened.model.processor = None
    with pytest.raises(ValueError, match=r"has no tokenizer. Load it with Sa2VA.from_pretrained"):
        opened.model.predict_forward(text="Hello")
