"""The official model's `predict_forward`: its arguments, its keys, and a gradient it cannot give.

The official one decodes under `generate`, which is `no_grad` in transformers whatever is done to
the model's own method; so a mask made there can teach SAM 2 and never the language model. Here the
answer is decoded without a graph and then read once more in one teacher-forced pass, from which
every mask has its gradient.
"""

from typing import Protocol, TypedDict, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from vasculora.core.runtime import autocast
from vasculora.core.types import Batch, Output
from vasculora.model.decoding import Stop
from vasculora.model.images import Picture, to_rgb
from vasculora.model.processor import Processor

MAX_NEW_TOKENS = 2048
"""Longest answer, as in the official model: a text may be asked for, not only a mask."""


class Answer(TypedDict):
    """What `predict_forward` returns.

    Attributes:
        prediction: The answer, its end mark included.
        prediction_masks: One mask a `[SEG]`, in the answer's order.
        probability_maps: Their probabilities: float32 arrays, or tensors where asked for.
    """

    prediction: str
    prediction_masks: list[Bool[np.ndarray, "1 h w"]]
    probability_maps: list[Float[np.ndarray, "1 h w"]] | list[Float[Tensor, "1 h w"]]


@runtime_checkable
class Answering(Protocol):
    """A model that answers prompts and reads what it has answered."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""

    def answer(self, prompts: Batch, *, max_new_tokens: int, stop: Stop) -> list[Tensor]:
        """Return each prompt's answer, without a graph."""

    def answered(self, prompts: Batch, answers: list[Tensor], pad_id: int) -> Batch:
        """Return the batch that holds each prompt followed by its answer."""

    def __call__(self, batch: Batch) -> Output:
        """Return the masks of a batch."""


def predict_forward(
    model: Answering,
    processor: Processor,
    *,
    image: Picture | None,
    video: object,
    text: str | None,
    past_text: str,
    mask_prompts: object,
    return_tensors: bool,
) -> Answer:
    """Return what a model says of an image or a text, and the masks of what it says.

    Args:
        model: The model.
        processor: Its door.
        image: What is looked at, or None to talk.
        video: Not supported.
        text: What is asked; `<image>` stands for the image.
        past_text: What was said before, formatted.
        mask_prompts: Not supported.
        return_tensors: Leave probabilities tensors, with a graph if gradients are enabled.

    Raises:
        ValueError: If the arguments do not go together.
    """
    _refuse(video, mask_prompts, text)
    pixels = None if image is None else to_rgb(image)
    if pixels is not None:
        _refuse_windows(pixels, processor.config.window)
    prompts = processor.chat(text or "", pixels, past=past_text).to(model.device)
    with autocast(model.device):
        answers = model.answer(prompts, max_new_tokens=MAX_NEW_TOKENS, stop=processor.stop)
        said = processor.tokenizer.decode(answers[0].tolist(), skip_special_tokens=False).strip()
        if pixels is None:
            return Answer(prediction=said, prediction_masks=[], probability_maps=[])
        batch = model.answered(prompts, answers, processor.stop.pad_id)
        with torch.set_grad_enabled(return_tensors and torch.is_grad_enabled()):
            logits = model(batch).mask_logits
    probs = [processor.upsample(one[None], prompts.sizes[0]).sigmoid() for one in logits]
    masks = [(one.detach() > processor.config.threshold).cpu().numpy() for one in probs]
    if return_tensors:
        return Answer(prediction=said, prediction_masks=masks, probability_maps=probs)
    arrays = [one.cpu().numpy() for one in probs]
    return Answer(prediction=said, prediction_masks=masks, probability_maps=arrays)


def _refuse(video: object, mask_prompts: object, text: str | None) -> None:
    if video is not None:
        raise ValueError("video is not supported yet. Give its frames as images, one by one.")
    if mask_prompts is not None:
        raise ValueError("mask_prompts are not supported yet. Name the region in text instead.")
    if not text:
        raise ValueError("text is empty. Ask something: '<image>Please segment the vessel.'")


def _refuse_windows(image: UInt8[np.ndarray, "h w 3"], window: int | None) -> None:
    """Refuse an image that this model has only ever seen in parts."""
    height, width = image.shape[:2]
    if window is not None and max(height, width) > window:
        raise ValueError(
            f"the image is {width}x{height}, but this model was trained on windows of {window} "
            "pixels, and predict_forward shows whole images. Use vasculora.Predictor, which cuts "
            "and blends, or give it a part of the image."
        )
