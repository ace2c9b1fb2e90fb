"""Teach a fresh language model words before it meets a mask.

The state at `[SEG]` has to say which phrase was asked. Beside a mask decoder that knows nothing
yet, a language model soon says the same whatever is asked: within forty steps states of different
phrases differed by a sixth of what they had, no mask ever followed a word, and nothing brought the
words back. So the words come first, from text beside a picture that does not matter, and are then
kept as they are.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset

from vasculora.core.report import Report
from vasculora.core.types import Sample
from vasculora.engine.optim import build_optimizer, build_schedule
from vasculora.model.mllm import token_states
from vasculora.model.processor import Processor
from vasculora.model.sa2va import Sa2VA

_PHRASES_A_STEP = 32
_LR = 1.5e-3
_WARMUP = 0.1


def teach_words(
    model: Sa2VA,
    processor: Processor,
    phrases: Sequence[str],
    pictures: Dataset[Sample],
    *,
    steps: int,
    seed: int,
    report: Report,
) -> None:
    """Teach the language model to answer, and to hold the phrase's tokens in the state at `[SEG]`.

    Whether they are there is asked by a linear layer that is thrown away: it is to give each token
    of the phrase the same probability.

    Args:
        model: A fresh model, trained in place.
        processor: Makes batches for it.
        phrases: All phrases it is to tell apart.
        pictures: One a step; several of the phrases are asked of it, whatever it shows.
        steps: Steps in all.
        seed: Seed of everything random.
        report: Where progress goes.
    """
    rng = np.random.default_rng(seed)
    language = model.mllm
    num_tokens = len(processor.tokenizer)
    probe = nn.Linear(language.config.get_text_config().hidden_size, num_tokens).to(model.device)
    params = [*language.parameters(), *probe.parameters()]
    optimizer = build_optimizer(params, lr=_LR, weight_decay=0.0)
    schedule = build_schedule(optimizer, num_steps=steps, warmup=_WARMUP)
    language.train()
    loss = torch.zeros(())
    with report.progress(steps, "Words") as bar:
        for step in range(steps):
            few = min(_PHRASES_A_STEP, len(phrases))
            asked = [phrases[int(index)] for index in rng.permutation(len(phrases))[:few]]
            loss = _loss(model, processor, probe, pictures[step], asked)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(params, 1.0)
            optimizer.step()
            schedule.step()
            bar.advance(1)
    report.line(f"Words - Loss: {loss.item():.4f}")


def _loss(
    model: Sa2VA, processor: Processor, probe: nn.Linear, picture: Sample, asked: list[str]
) -> Float[Tensor, ""]:
    """Return how badly the answers are said, and how badly `[SEG]` tells what was asked."""
    side = picture.image.shape[:2]
    sample = replace(
        picture, phrases=tuple(asked), masks=np.zeros((len(asked), *side), dtype=np.bool_)
    )
    batch = processor.batch([sample]).to(model.device)
    seg_states, text_states = token_states(model.mllm, model.family, batch)
    heard = probe(seg_states[batch.labels == model.seg_token_id])
    truth = torch.zeros_like(heard)
    for row, phrase in enumerate(asked):
        tokens = processor.tokenizer.encode(f" {phrase}")
        truth[row, tokens] = 1.0
    truth = truth / truth.sum(dim=1, keepdim=True)
    said = batch.labels[:, 1:] != -100
    text_logits = model.mllm.lm_head(text_states[:, :-1][said])
    return cross_entropy(heard, truth) + cross_entropy(text_logits, batch.labels[:, 1:][said])
