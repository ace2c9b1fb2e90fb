"""Whether the sentence counts: who is called deaf, who is not, and who may be."""

import pytest
from tests.model.test_sensitivity import asked, deafen, mute

from vasculora.engine.audit.sentence import audit_sentence
from vasculora.model.pretrained import open_model

EVERYTHING = ("mllm_lora", "projector", "mask_decoder", "grounding_lora")
NUMBERS = [
    "used",
    "logit_change_of_another_embedding",
    "logit_change_per_embedding_change",
    "embedding_change_of_another_phrase",
    "prompt_sensitivity",
]


def ask(opened, trainable=EVERYTHING):
    batches = asked(opened, "blood vessel", "background")
    return audit_sentence(opened.model, *batches, trainable=trainable)


@pytest.mark.parametrize("base", ["tiny", "nano"])
def test_a_base_that_listens_is_left_in_peace(base, opened):
    numbers, cuts = ask(opened if base == "tiny" else open_model("nano"))
    assert list(numbers) == NUMBERS
    assert numbers["used"] == 1
    assert cuts == ()
    least = {"tiny": 0.1, "nano": 0.15}[base]
    assert numbers["logit_change_of_another_embedding"] > least
    if base == "nano":
        assert numbers["prompt_sensitivity"] > 0.9


@pytest.mark.parametrize("base", ["tiny", "nano"])
@pytest.mark.parametrize(
    ("fault", "module"), [(deafen, "grounding.mask_decoder"), (mute, "seg_projector")]
)
def test_a_base_that_does_not_is_named_with_its_place(base, fault, module, opened):
    opened = opened if base == "tiny" else open_model("nano")
    fault(opened.model)
    numbers, (cut,) = ask(opened)
    assert numbers["used"] == numbers["prompt_sensitivity"] == 0
    assert (cut.kind, cut.module) == ("ignored_prompt", module)
    assert cut.groups == ("mllm_lora", "projector")
    assert "--trainable grounding_lora,mask_decoder" in cut.cure
    assert "by 0.00% only" in cut.explanation


def test_a_language_model_that_does_not_read_is_named_too(opened):
    for layer in opened.model.mllm.model.language_model.layers:
        layer.self_attn.o_proj.weight.data.zero_()  # [SEG] hears nothing but itself
    _, (cut,) = ask(opened)
    assert cut.module == "mllm"


def test_what_lies_behind_the_prompt_may_learn_on(opened):
    deafen(opened.model)
    numbers, cuts = ask(opened, trainable=("grounding_lora", "mask_decoder"))
    assert numbers["used"] == 0
    assert cuts == ()


def test_what_is_not_finite_is_left_out(opened):
    opened.model.seg_projector[2].bias.data.fill_(float("nan"))
    numbers, cuts = ask(opened)
    assert list(numbers) == ["used"]
    assert cuts == ()
