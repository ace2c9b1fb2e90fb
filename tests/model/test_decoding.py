from dataclasses import replace

import pytest
import torch
from tests.model.conftest import alone

from vasculora.model.decoding import Stop, decode_greedily


@pytest.fixture
def babbling(opened):
    """A language model whose words depend on everything it has read, as an untrained one's do."""
    mllm = opened.model.mllm
    with torch.no_grad():
        mllm.lm_head.weight.normal_(generator=torch.Generator().manual_seed(0))
    return mllm


@pytest.fixture
def at(opened):
    """Stop at one token and at no word."""
    tokenizer = opened.processor.tokenizer
    return lambda stop_id: Stop(ids=(stop_id,), words=(), pad_id=0, tokenizer=tokenizer)


def test_a_batch_is_answered_as_its_questions_alone(babbling, prompts, at):
    together = decode_greedily(babbling, prompts, max_new_tokens=12, stop=at(2))
    assert len({tuple(answer.tolist()) for answer in together}) == 3
    for row, answer in enumerate(together):
        (own,) = decode_greedily(babbling, alone(prompts, row), max_new_tokens=12, stop=at(2))
        assert answer.tolist() == own.tolist()


def test_the_picture_is_read(babbling, prompts, at):
    answers = decode_greedily(babbling, prompts, max_new_tokens=12, stop=at(2))
    blank = replace(prompts, mllm_pixels=torch.zeros_like(prompts.mllm_pixels))
    blind = decode_greedily(babbling, blank, max_new_tokens=12, stop=at(2))
    assert [a.tolist() for a in answers] != [a.tolist() for a in blind]


def test_an_answer_ends_with_its_stop_token_or_at_its_longest(babbling, prompts, at):
    free = decode_greedily(babbling, prompts, max_new_tokens=12, stop=at(2))
    stop_id = int(free[0][4])
    first = free[0].tolist().index(stop_id)
    stopped = decode_greedily(babbling, prompts, max_new_tokens=12, stop=at(stop_id))
    assert stopped[0].tolist() == free[0][: first + 1].tolist()
    for answer, unstopped in zip(stopped[1:], free[1:], strict=True):
        if stop_id not in unstopped:
            assert answer.tolist() == unstopped.tolist()
            assert len(answer) == 12


def test_a_word_of_several_tokens_ends_an_answer_of_its_own_row_only(opened, babbling, prompts):
    """The official `phi3_chat` on a Qwen vocabulary: the end mark is ordinary text there."""
    tokenizer = opened.processor.tokenizer
    nowhere = Stop(ids=(2,), words=(), pad_id=0, tokenizer=tokenizer)
    free = decode_greedily(babbling, prompts, max_new_tokens=12, stop=nowhere)
    texts = [tokenizer.decode(answer[:5].tolist()) for answer in free]
    word = texts[0].replace("\n", "")[-4:]
    assert len(word) == 4
    stop = replace(nowhere, words=("never said", word))
    stopped = decode_greedily(babbling, prompts, max_new_tokens=12, stop=stop)
    assert stopped[0].tolist() == free[0][:5].tolist()
    for answer, unstopped in zip(stopped[1:], free[1:], strict=True):
        assert answer.tolist() == unstopped[: len(answer)].tolist()
        if word not in tokenizer.decode(unstopped.tolist()).replace("\n", ""):
            assert len(answer) == 12


def test_line_breaks_do_not_hide_a_word(opened, babbling, prompts):
    tokenizer = opened.processor.tokenizer
    seen = [tokenizer.encode("ab"), tokenizer.encode("\r\n"), tokenizer.encode("c")]
    spoken = [token for part in seen for token in part]
    opened.model.mllm.lm_head = _Spelling(spoken, vocab_size=320)
    stop = Stop(ids=(2,), words=("abc",), pad_id=0, tokenizer=tokenizer)
    for answer in decode_greedily(babbling, prompts, max_new_tokens=12, stop=stop):
        assert answer.tolist() == spoken


class _Spelling(torch.nn.Module):
    """A head that says one token after the other, whatever it has heard."""

    def __init__(self, tokens, vocab_size):
        super().__init__()
        self.rows = iter(torch.nn.functional.one_hot(torch.tensor(tokens), vocab_size).float())

    def forward(self, states):
        return next(self.rows).expand(*states.shape[:-1], -1)
