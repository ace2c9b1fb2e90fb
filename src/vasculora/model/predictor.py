"""Prediction as a user calls it: an image and a phrase in, a mask out.

An image larger than the windows the model was trained on is asked window by window.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from vasculora.core.runtime import autocast, pick_device, pick_dtype
from vasculora.core.types import Prediction
from vasculora.model.images import Picture, to_rgb
from vasculora.model.modes import in_mode
from vasculora.model.pretrained import OpenedModel, open_model
from vasculora.model.processor import Processor
from vasculora.model.sa2va import Sa2VA
from vasculora.model.tiles import blend, cut_windows

_WINDOWS_AT_ONCE = 4
"""Windows asked together where fewer images than that are."""

_Question = tuple[str, UInt8[np.ndarray, "_ _ 3"], str]
"""Case, picture and phrase."""


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
    ) -> list[Prediction]:
        """Return one prediction for each image and its phrase.

        Args:
            case_ids: Names for messages.
            images: RGB, 0 to 255, of any sizes.
            phrases: One an image.
        """
        config = self.processor.config
        cuts = [
            cut_windows(
                (image.shape[0], image.shape[1]),
                window=config.window,
                overlap=config.window_overlap,
            )
            for image in images
        ]
        asked = [
            (case_id, image[window], phrase)
            for case_id, image, phrase, windows in zip(case_ids, images, phrases, cuts, strict=True)
            for window in windows
        ]
        answers = self._answers(asked, at_once=max(len(images), _WINDOWS_AT_ONCE))
        return [
            blend(
                (image.shape[0], image.shape[1]),
                windows,
                list(islice(answers, len(windows))),
                threshold=config.threshold,
            )
            for image, windows in zip(images, cuts, strict=True)
        ]

    def _answers(self, asked: Sequence[_Question], *, at_once: int) -> Iterator[Prediction]:
        """Yield the prediction of each question, few of which are held at a time."""
        for first in range(0, len(asked), at_once):
            case_ids, images, phrases = zip(*asked[first : first + at_once], strict=True)
            prompts = self.processor.prompts(case_ids, images, phrases).to(self.model.device)
            with in_mode(self.model, training=False), autocast(self.model.device):
                answers, output, image_index = self.model.generate(
                    prompts,
                    max_new_tokens=self.processor.config.max_new_tokens,
                    stop=self.processor.stop,
                )
            yield from self.processor.predictions(prompts, answers, output, image_index)
