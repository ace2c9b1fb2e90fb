"""Greedy decoding of answers, without a graph, and the two rules that end one.

An answer ends at a token (the tokenizer's end) or at a word: some checkpoints end their turns with
a mark that their vocabulary has no token for, so words are looked for in decoded text, as the
official model does (`phi3_chat` on a Qwen vocabulary).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
)

from vasculora.core.types import Batch
from vasculora.model.mllm import model_inputs

_WINDOW = 8
"""Tokens that are decoded beyond a word's length: pieces of one character, line breaks."""


@dataclass(frozen=True)
class Stop:
    """Where an answer ends.

    Attributes:
        ids: Tokens that end it.
        words: Texts that end it.
        pad_id: What stands after the end of a shorter answer.
        tokenizer: Turns tokens into the text that words are looked for in.
    """

    ids: tuple[int, ...]
    words: tuple[str, ...]
    pad_id: int
    tokenizer: PreTrainedTokenizerBase


@torch.no_grad()
def decode_greedily(
    mllm: PreTrainedModel, batch: Batch, *, max_new_tokens: int, stop: Stop
) -> list[Int[Tensor, " _"]]:
    """Return what the model answers to each prompt: new tokens only, what ended it included.

    Args:
        mllm: The language-vision model.
        batch: Prompts without answers, padded on the right.
        max_new_tokens: Longest answer.
        stop: Where an answer ends.
    """
    lengths = batch.attention_mask.sum(dim=1).tolist()
    longest = max(lengths)
    prompts = batch.input_ids.new_full((len(lengths), longest), stop.pad_id)
    mask = torch.zeros_like(prompts)
    for row, length in enumerate(lengths):
        # a decoder continues at the right, so padding moves to the left
        prompts[row, longest - length :] = batch.input_ids[row, :length]
        mask[row, longest - length :] = 1
    ending = _Ending(stop, prompt_length=longest, num_answers=len(lengths))
    sequences = mllm.generate(
        **model_inputs(mllm, batch, prompts, mask),
        max_new_tokens=max_new_tokens,
        do_sample=False,
        eos_token_id=list(stop.ids),
        pad_token_id=stop.pad_id,
        stopping_criteria=StoppingCriteriaList([ending]),
    )
    return [
        answer[:length]
        for answer, length in zip(sequences[:, longest:], ending.lengths, strict=True)
    ]


class _Ending(StoppingCriteria):  # type: ignore[misc]
    """Ends each answer of a batch by itself, and remembers how long it was."""

    def __init__(self, stop: Stop, *, prompt_length: int, num_answers: int) -> None:
        self.stop = stop
        self.prompt_length = prompt_length
        self.lengths: list[int | None] = [None] * num_answers
        self.window = max((len(word) for word in stop.words), default=0) + _WINDOW

    def __call__(
        self, input_ids: Int[Tensor, "s t"], scores: object, **kwargs: object
    ) -> Bool[Tensor, " s"]:
        answers = input_ids[:, self.prompt_length :].tolist()
        for row, answer in enumerate(answers):
            if self.lengths[row] is None and self._is_over(answer):
                self.lengths[row] = len(answer)
        return torch.tensor([length is not None for length in self.lengths]).to(input_ids.device)

    def _is_over(self, answer: list[int]) -> bool:
        if answer[-1] in self.stop.ids:
            return True
        if not self.stop.words:
            return False
        text = self.stop.tokenizer.decode(answer[-self.window :], skip_special_tokens=False)
        return str(text).replace("\r", "").replace("\n", "").endswith(self.stop.words)
