"""Prediction as a user calls it: an image and a phrase in, a mask out.

An image larger than the windows the model was trained on is asked window by window.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import UInt8

from vasculora.core.runtime import autocast, pick_device, pick_dtype
from vasculora.core.types import Prediction
from vasculora.model.images import Picture, to_rgb
from vasculora.model.modes import in_mode
from vasculora.model.pretrained import OpenedModel, open_model
from vasculora.model.processor import IGNORED, Processor
from vasculora.model.sa2va import Sa2VA
from vasculora.model.tiles import blend, cut_windows, widen

_WINDOWS_AT_ONCE = 4
"""Windows asked together where fewer images than that are."""

_Question = tuple[str, UInt8[np.ndarray, "_ _ 3"], str]
"""Case, picture and phrase."""
_Ask = Callable[
    [Sequence[str], Sequence[UInt8[np.ndarray, "_ _ 3"]], Sequence[str]], list[Prediction]
]
"""Answers questions, given as cases, pictures and phrases."""


@runtime_checkable
class Answerer(Protocol):
    """What can be asked for masks: a predictor, or something that makes more of its answers."""

    def predict_batch(
        self,
        case_ids: Sequence[str],
        images: Sequence[UInt8[np.ndarray, "_ _ 3"]],
        phrases: Sequence[str],
    ) -> list[Prediction]:
        """Return one prediction for each image and its phrase."""


class Predictor:
    """Segments what a phrase names.

    Args:
        model: The model.
        processor: Its door.
    """

    def __init__(self, model: Sa2VA, processor: Processor) -> None:
        self.model = model
        self.processor = processor

    @classmethod
    def from_pretrained(cls, model: str | Path, *, gpu: int | None = None) -> "Predictor":
        """Return a predictor for `nano`, a base's folder or a run's folder.

        Args:
            model: Which model.
            gpu: Index of a GPU; None takes the first one, or the CPU where there is none.

        Raises:
            FileNotFoundError: If there is no such model.
            ValueError: If its files are damaged or the GPU is not there.
        """
        device = pick_device(gpu)
        return cls.of(open_model(model, device=device, dtype=pick_dtype(device)))

    @classmethod
    def of(cls, opened: OpenedModel) -> "Predictor":
        """Return a predictor for an opened model."""
        return cls(opened.model, opened.processor)

    def __call__(self, image: Picture, phrase: str | None = None) -> Prediction:
        """Return the mask of what `phrase` names in `image`.

        Args:
            image: A PIL image, a path, or an array (h, w), (h, w, 3) of uint8.
            phrase: What to segment; None takes the phrase the model was trained on.

        Returns:
            The answer, the probability in [0, 1] and the mask, both at the image's own size.
        """
        name = str(image) if isinstance(image, Path | str) else "image"
        phrase = self.processor.prompt.phrase if phrase is None else phrase
        return self.predict_batch([name], [to_rgb(image)], [phrase])[0]

    @torch.inference_mode()
    def predict_batch(
        self,
        case_ids: Sequence[str],
        images: Sequence[UInt8[np.ndarray, "_ _ 3"]],
        phrases: Sequence[str],
        *,
        zoom: float = 1.0,
    ) -> list[Prediction]:
        """Return one prediction for each image and its phrase, from the model's own answers.

        Args:
            case_ids: Names for messages.
            images: RGB, 0 to 255, of any sizes.
            phrases: One an image.
            zoom: How many times as large as in training things are shown, by windows that are so
                many times smaller.
        """
        return self._by_windows(self._free, case_ids, images, phrases, zoom=zoom)

    @torch.inference_mode()
    def teacher_forced(
        self,
        case_ids: Sequence[str],
        images: Sequence[UInt8[np.ndarray, "_ _ 3"]],
        phrases: Sequence[str],
    ) -> list[Prediction]:
        """Return what `predict_batch` would, had the model answered as it was trained to.

        It is asked as in training: the answer is given, and one forward pass reads it.

        Args:
            case_ids: Names for messages.
            images: RGB, 0 to 255, of any sizes.
            phrases: One an image.
        """
        return self._by_windows(self._forced, case_ids, images, phrases, zoom=1.0)

    def answers_as_trained(self, prediction: Prediction) -> bool:
        """Return whether the model said, word for word and in every window, what it was trained on.

        Then `teacher_forced` would give the same mask.
        """
        return prediction.text == self.processor.trained_answer

    def _by_windows(
        self,
        ask: _Ask,
        case_ids: Sequence[str],
        images: Sequence[UInt8[np.ndarray, "_ _ 3"]],
        phrases: Sequence[str],
        *,
        zoom: float,
    ) -> list[Prediction]:
        """Return one prediction an image, made of its windows'."""
        config = self.processor.config
        cuts = [
            cut_windows(
                (image.shape[0], image.shape[1]),
                window=config.window,
                overlap=config.window_overlap,
                zoom=zoom,
            )
            for image in images
        ]
        wide = [widen(image, windows) for image, windows in zip(images, cuts, strict=True)]
        asked = [
            (case_id, image[window], phrase)
            for case_id, image, phrase, windows in zip(case_ids, wide, phrases, cuts, strict=True)
            for window in windows
        ]
        answers = self._answers(ask, asked, at_once=max(len(images), _WINDOWS_AT_ONCE))
        return [
            blend(
                (image.shape[0], image.shape[1]),
                windows,
                list(islice(answers, len(windows))),
                threshold=config.threshold,
            )
            for image, windows in zip(images, cuts, strict=True)
        ]

    def _answers(
        self, ask: _Ask, asked: Sequence[_Question], *, at_once: int
    ) -> Iterator[Prediction]:
        """Yield the prediction of each question, few of which are held at a time."""
        for first in range(0, len(asked), at_once):
            case_ids, images, phrases = zip(*asked[first : first + at_once], strict=True)
            with in_mode(self.model, training=False), autocast(self.model.device):
                found = ask(case_ids, images, phrases)
            yield from found

    def _free(
        self,
        case_ids: Sequence[str],
        images: Sequence[UInt8[np.ndarray, "_ _ 3"]],
        phrases: Sequence[str],
    ) -> list[Prediction]:
        """Return the predictions of the model's own answers."""
        prompts = self.processor.prompts(case_ids, images, phrases).to(self.model.device)
        answers, output, image_index = self.model.generate(
            prompts,
            max_new_tokens=self.processor.config.max_new_tokens,
            stop=self.processor.stop,
        )
        return self.processor.predictions(prompts, answers, output, image_index)

    def _forced(
        self,
        case_ids: Sequence[str],
        images: Sequence[UInt8[np.ndarray, "_ _ 3"]],
        phrases: Sequence[str],
    ) -> list[Prediction]:
        """Return the predictions of the answers that are trained on."""
        batch = self.processor.answered(case_ids, images, phrases).to(self.model.device)
        answers = [row[row != IGNORED].tolist() for row in batch.labels]
        return self.processor.predictions(batch, answers, self.model(batch), batch.image_index)
