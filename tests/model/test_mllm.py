from dataclasses import replace

import pytest
import torch
from tests.model.conftest import alone

from vasculora.model.mllm import (
    build_mllm,
    find_family,
    token_states,
)


def test_the_unknown_family_is_refused_with_the_known_ones():
    with pytest.raises(
        ValueError, match=r"unknown model family 'llava'. Known: internvl, qwen2_5_vl, qwen3_vl"
    ):
        find_family("llava")
    with pytest.raises(ValueError, match="unknown model family"):
        build_mllm("llava", {})


def test_states_do_not_depend_on_padding_or_neighbours(opened, prompts):
    states, _ = token_states(opened.model.mllm, opened.model.family, prompts)
    for row in range(3):
        own = alone(prompts, row)
        expected, _ = token_states(opened.model.mllm, opened.model.family, own)
        length = own.input_ids.shape[1]
        torch.testing.assert_close(states[row, :length], expected[0], atol=1e-5, rtol=1e-5)


def test_the_state_after_the_norm_predicts_tokens(opened, prompts):
    mllm = opened.model.mllm
    prompt_states, text_states = token_states(mllm, opened.model.family, prompts)
    assert prompt_states is text_states
    scores = mllm(
        input_ids=prompts.input_ids,
        attention_mask=prompts.attention_mask,
        pixel_values=prompts.mllm_pixels,
    ).logits
    torch.testing.assert_close(mllm.lm_head(text_states), scores)


def test_a_family_may_read_the_state_before_the_norm(opened, prompts):
    mllm, family = opened.model.mllm, replace(opened.model.family, state_before_norm=True)
    before, after = token_states(mllm, family, prompts)
    torch.testing.assert_close(mllm.model.language_model.norm(before), after)
    assert not torch.allclose(before, after)
    assert not mllm.model.language_model.norm._forward_pre_hooks
