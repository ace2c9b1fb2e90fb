"""Moving the prompt: what changes, what must not, and that nothing is left behind."""

import copy
from dataclasses import replace

import pytest
import torch
from tests.conftest import draw

from vasculora.model.lora import LoraSettings, attach
from vasculora.model.sensitivity import measure_sensitivity


def asked(opened, *phrases):
    """One batch a phrase, all of the same two images."""
    samples = [draw("xray", index) for index in range(2)]
    samples = [replace(sample, masks=sample.masks[:1]) for sample in samples]
    return [opened.processor.batch([replace(s, phrases=(p,)) for s in samples]) for p in phrases]


def deafen(model):
    """Cut the mask decoder off from its prompt tokens."""
    for layer in model.grounding.mask_decoder.transformer.layers:
        for attention in (layer.self_attn, layer.cross_attn_image_to_token):
            for param in attention.o_proj.parameters():
                param.data.zero_()


def mute(model):
    """Let the projector say the same for every state."""
    model.seg_projector[2].weight.data.zero_()


def test_random_weights_hear_the_prompt(opened):
    found = measure_sensitivity(opened.model, *asked(opened, "blood vessel", "background"))
    assert found.replaced > 0.1
    assert found.nudged > 0.01
    assert found.other_state > found.other_logits > 0
    assert found.other_embedding > 0.01
    assert found.probs.shape == (2, 2, 32, 32)
    assert 0 <= found.probs.min() <= found.probs.max() <= 1


def test_the_same_phrase_changes_nothing(opened):
    found = measure_sensitivity(opened.model, *asked(opened, "blood vessel", "blood vessel"))
    assert found.other_state == found.other_embedding == found.other_logits == 0
    assert torch.equal(found.probs[:, 0], found.probs[:, 1])


def test_a_deaf_decoder_does_not_move_at_all(opened):
    deafen(opened.model)
    found = measure_sensitivity(opened.model, *asked(opened, "blood vessel", "background"))
    assert found.nudged == found.replaced == found.other_logits == 0
    assert found.other_embedding > 0.01


@pytest.mark.parametrize("bias", ["as it is", "zero"])
def test_a_mute_projector_is_not_taken_for_a_deaf_decoder(bias, opened):
    mute(opened.model)
    if bias == "zero":
        opened.model.seg_projector[2].bias.data.zero_()
    found = measure_sensitivity(opened.model, *asked(opened, "blood vessel", "background"))
    assert found.other_state > 0.01
    assert found.other_embedding == found.other_logits == 0
    assert found.replaced > 0.1


def test_changes_are_shares_of_what_was_there(opened):
    """With a decoder that passes one number of the prompt on, all shares can be worked out."""
    model = opened.model
    length = 12.0

    def forward(batch):
        embedding = model.seg_projector(torch.ones(1, 32))
        logits = embedding.norm() * torch.ones(1, 3, 2, 2)
        return type("Output", (), {"candidate_logits": logits, "mask_logits": logits[:, 0]})()

    model.forward = forward
    mute(model)
    model.seg_projector[2].bias.data.copy_(torch.full((32,), length / 32**0.5))
    found = measure_sensitivity(model, *asked(opened, "blood vessel", "background"))
    assert found.replaced < 1e-6  # another direction, the same length
    assert 0 < found.nudged < 1  # a tenth longer at most, so less than the whole of it


def test_nothing_is_left_behind(opened):
    model = attach(opened.model, LoraSettings(rank=4, alpha=8, dropout=0.5))
    model.train()
    batches = asked(opened, "blood vessel", "background")
    weights = copy.deepcopy(model.state_dict())
    modes, state = [module.training for module in model.modules()], torch.get_rng_state()
    first = measure_sensitivity(opened.model, *batches)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    assert measure_sensitivity(opened.model, *batches).replaced == first.replaced  # no dropout
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    assert all(param.grad is None for param in model.parameters())
    assert not opened.model.seg_projector._forward_hooks
