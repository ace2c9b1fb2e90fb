import pytest
import torch
from pydantic import ValidationError
from tests.conftest import TINY, draw

from vasculora.core.runtime import set_seed
from vasculora.data.synthetic.styles import all_phrases
from vasculora.model.grounding import decode_masks, encode_image
from vasculora.model.processor import Processor
from vasculora.model.prompts import PromptConfig
from vasculora.model.scratch import (
    ArchitectureConfig,
    build_from_scratch,
    processor_config,
    train_tokenizer,
)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(all_phrases(), PromptConfig(), vocab_size=320)


def test_marks_are_one_token_each(tokenizer):
    marks = ["[SEG]", "<img>", "</img>", "<IMG_CONTEXT>", "<|im_start|>", "<|im_end|>"]
    ids = tokenizer.encode("".join(marks), add_special_tokens=False)
    assert tokenizer.convert_ids_to_tokens(ids) == marks
    assert tokenizer.pad_token == "<|endoftext|>"
    assert len(tokenizer) == 320


@pytest.mark.parametrize(
    "text", ["blood vessel", "Gefäß", "冠状动脉", "💉 <3 {x}", " two  blanks\n"]
)
def test_any_text_comes_back(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_the_prompts_own_words_are_short():
    tokenizer = train_tokenizer(all_phrases(), PromptConfig(), vocab_size=512)
    assert len(tokenizer.encode("blood vessel", add_special_tokens=False)) <= 4
    assert len(tokenizer.encode("zygomatic", add_special_tokens=False)) > 4


def test_the_same_phrases_make_the_same_tokenizer(tokenizer):
    again = train_tokenizer(all_phrases(), PromptConfig(), vocab_size=320)
    assert again.get_vocab() == tokenizer.get_vocab()


def test_the_same_seed_makes_the_same_model(tokenizer):
    models = []
    for _ in range(2):
        set_seed(5)
        models.append(build_from_scratch(TINY, tokenizer).state_dict())
    assert all(torch.equal(value, models[1][name]) for name, value in models[0].items())


def test_sizes_are_the_settings_own(tokenizer):
    model = build_from_scratch(TINY, tokenizer)
    assert model.sam_size == 64
    assert model.seg_token_id == tokenizer.convert_tokens_to_ids("[SEG]")
    assert [linear.weight.shape for linear in (model.seg_projector[0], model.seg_projector[2])] == [
        (32, 32),
        (32, 32),
    ]
    assert len(model.mllm.model.language_model.layers) == 2
    assert model.mllm.get_input_embeddings().weight.shape == (320, 32)


@pytest.mark.parametrize(
    "sizes", [{}, {"tile_size": 96, "sam_size": 128, "sam_blocks": (1, 1, 3, 1)}]
)
def test_processor_and_model_fit_each_other(tokenizer, sizes):
    arch = TINY.model_copy(update=sizes)
    set_seed(0)
    model = build_from_scratch(arch, tokenizer)
    processor = Processor(tokenizer, processor_config(arch), PromptConfig())
    output = model(processor.batch([draw("xray", 0)]))
    side = processor.config.mask_size
    assert side == arch.sam_size // 2
    assert output.mask_logits.shape[1:] == (side, side)


def test_fresh_masks_are_undecided_and_hear_the_prompt(tokenizer):
    set_seed(0)
    model = build_from_scratch(TINY, tokenizer).eval()
    states = torch.randn(8, 32)
    with torch.no_grad():
        features = encode_image(model.grounding, torch.randn(1, 3, 64, 64))
        masks, _ = decode_masks(
            model.grounding, features, torch.zeros(8, dtype=torch.long), model.seg_projector(states)
        )
    assert masks.abs().max() < 1.5
    spread = masks.std(dim=(2, 3)).mean()
    heard = (masks - masks.mean(dim=0)).std(dim=(2, 3)).mean()
    assert heard > 0.08 * spread


def test_fresh_image_features_tell_left_from_right(tokenizer):
    set_seed(0)
    grounding = build_from_scratch(TINY, tokenizer).grounding
    with torch.no_grad():
        coarse = encode_image(grounding, torch.zeros(1, 3, 64, 64))[-1][0]
    left, right = coarse.chunk(2, dim=-1)
    apart = (left.mean(dim=(1, 2)) - right.mean(dim=(1, 2))).norm() / coarse.norm(dim=0).mean()
    assert apart > 0.3  # 0 where positions start at zero: a blank picture is the same everywhere


def test_both_uses_of_the_position_encoding_agree(tokenizer):
    grounding = build_from_scratch(TINY, tokenizer).grounding
    own = grounding.prompt_encoder.shared_embedding.positional_embedding
    assert torch.equal(own, grounding.shared_image_embedding.positional_embedding)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"sam_blocks": (1, 1, 1, 1)}, "third stage needs two blocks or more, got 1"),
        ({"decoder_width": 40}, "multiple of 32"),
        ({"vocab_size": 100}, "greater than or equal to 300"),
        ({"layers": 3}, "Extra inputs"),
    ],
)
def test_sizes_that_cannot_be_are_refused(setting, message):
    with pytest.raises(ValidationError, match=message):
        ArchitectureConfig(**setting)
