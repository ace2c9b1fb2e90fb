"""Test-time augmentation: an image is asked in several views, and their logits are averaged.

    image -> views -> each asked -> turned back -> mean of logits -> one probability, one mask

`flips` are the image, its mirror images left-right and up-down, and both. `scales` are the image as
it is, 1.25 times as large and 0.8 times: the model pulls what it is shown to one size, so a scale
is how much of the image it is shown at once (`Predictor.predict_batch` with a zoom). `all` is the
union of both, not every pair, which would cost three times as much.

A view whose phrase would be false of it is left out: "left coronary artery" of a mirrored image,
while "the vessel on the left" is asked as "on the right". The image as it is decides whether there
is a mask: where that answer has no `[SEG]`, no other view is asked. Another view without `[SEG]`
has no logits and does not vote.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8

from vasculora.core.types import Prediction
from vasculora.data.transforms.sides import Flips, allowed_flips, rename_sides
from vasculora.model.predictor import Predictor

TTA = Literal["none", "flips", "scales", "all"]
"""Which views are averaged."""

_LEAST = 1e-6
"""Probability at which logits are cut off: one certain view must not outvote all others."""

_UPRIGHT = Flips(left_right=False, up_down=False, diagonal=False)


@dataclass(frozen=True, kw_only=True)
class View:
    """A way to show an image, beside showing it as it is.

    Attributes:
        flips: How it is mirrored.
        zoom: How many times as large it is shown.
    """

    flips: Flips = _UPRIGHT
    zoom: float = 1.0

    @property
    def axes(self) -> tuple[int, ...]:
        """Axes that are turned round."""
        return (*((0,) if self.flips.up_down else ()), *((1,) if self.flips.left_right else ()))

    def allowed(self, phrase: str) -> bool:
        """Return whether the phrase can be true of this view."""
        flips = allowed_flips([phrase])
        return flips.left_right >= self.flips.left_right and flips.up_down >= self.flips.up_down


class AveragedPredictor:
    """Asks a predictor in several views.

    Args:
        predictor: What is asked.
        tta: Which views.
    """

    def __init__(self, predictor: Predictor, tta: TTA) -> None:
        self.predictor = predictor
        self.views = VIEWS[tta]

    def predict_batch(
        self,
        case_ids: Sequence[str],
        images: Sequence[UInt8[np.ndarray, "_ _ 3"]],
        phrases: Sequence[str],
    ) -> list[Prediction]:
        """Return one prediction for each image and its phrase; its text is the plain view's.

        Args:
            case_ids: Names for messages.
            images: RGB, 0 to 255, of any sizes.
            phrases: One an image.
        """
        plain = self.predictor.predict_batch(case_ids, images, phrases)
        totals = [_logits(prediction.prob) for prediction in plain]
        votes = [1] * len(plain)
        for view in self.views:
            asked = [
                index
                for index, (prediction, phrase) in enumerate(zip(plain, phrases, strict=True))
                if prediction.seg_found and view.allowed(phrase)
            ]
            found = self.predictor.predict_batch(
                [case_ids[index] for index in asked],
                [np.ascontiguousarray(np.flip(images[index], view.axes)) for index in asked],
                [rename_sides(phrases[index], view.flips) for index in asked],
                zoom=view.zoom,
            )
            for index, prediction in zip(asked, found, strict=True):
                if prediction.seg_found:
                    totals[index] += np.flip(_logits(prediction.prob), view.axes)
                    votes[index] += 1
        threshold = self.predictor.processor.config.threshold
        return [
            prediction if num == 1 else _averaged(prediction, total / num, threshold)
            for prediction, total, num in zip(plain, totals, votes, strict=True)
        ]


def _logits(prob: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Return logits in double precision, so that the order of views does not show."""
    inside = np.clip(prob.astype(np.float64), _LEAST, 1 - _LEAST)
    return np.log(inside / (1 - inside))


def _averaged(plain: Prediction, logits: Float[np.ndarray, "h w"], threshold: float) -> Prediction:
    """Return the plain view's prediction with the mean of all views."""
    prob = (1 / (1 + np.exp(-logits))).astype(np.float32)
    return replace(plain, prob=prob, mask=prob > threshold)


_MIRRORED = tuple(
    View(flips=Flips(left_right=left_right, up_down=up_down, diagonal=False))
    for left_right, up_down in ((True, False), (False, True), (True, True))
)
_SCALED = (View(zoom=1.25), View(zoom=0.8))

VIEWS: Mapping[TTA, tuple[View, ...]] = {
    "none": (),
    "flips": _MIRRORED,
    "scales": _SCALED,
    "all": _MIRRORED + _SCALED,
}
"""The views beside the image as it is."""
