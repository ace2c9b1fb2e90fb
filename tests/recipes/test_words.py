"""A fresh language model learns to tell phrases apart, and to answer, before it meets a mask."""

from dataclasses import replace

import pytest
import torch
from tests.conftest import TINY, draw
from torch.utils.data import Dataset

from vasculora.model.mllm import token_states
from vasculora.model.predictor import Predictor
from vasculora.recipes.words import teach_words

PHRASES = ("blood vessel", "dark vessel", "bright vessel", "background", "red circle", "red ring")


class Pictures(Dataset):
    def __getitem__(self, index):
        return draw("tubes", index, size=TINY.sam_size)


def spread(opened):
    """Return how far [SEG]'s states differ by phrase on one image, as a share of their length."""
    sample = draw("xray", 1000, size=TINY.sam_size)
    masks = sample.masks[:1].repeat(len(PHRASES), axis=0)
    sample = replace(sample, masks=masks, phrases=PHRASES)
    batch = opened.processor.batch([sample])
    with torch.no_grad():
        states, _ = token_states(opened.model.mllm, opened.model.family, batch)
    states = states[batch.labels == opened.model.seg_token_id]
    return float((states - states.mean(0)).norm(dim=1).mean() / states.norm(dim=1).mean())


@pytest.fixture
def taught(opened, recorder):
    before = spread(opened)
    for module in opened.model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()  # the tiny base already answers
    teach_words(
        opened.model, opened.processor, PHRASES, Pictures(), steps=100, seed=0, report=recorder
    )
    return opened, before, recorder


@pytest.mark.slow
def test_words_are_told_apart_and_answers_are_said(taught):
    opened, before, report = taught
    assert spread(opened) > 5 * before
    sample = draw("xray", 1000, size=TINY.sam_size)
    (answer,) = Predictor.of(opened).predict_batch(["one"], [sample.image], ["red ring"])
    assert answer.text.startswith("Sure, it is [SEG].")
    assert report.counts["Words"] == (100, 100)
    assert report.lines[-1].startswith("Words - Loss: ")
