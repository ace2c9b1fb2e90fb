"""From a predictor to what is asked in use: several views of an image, and masks cleaned up."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from vasculora.core.types import Prediction
from vasculora.engine.tta import TTA, VIEWS, AveragedPredictor
from vasculora.model.postprocess import check_low, clean
from vasculora.model.predictor import Answerer, Predictor


def build_answerer(
    predictor: Predictor, *, tta: TTA, min_size: int, hysteresis: float | None
) -> Answerer:
    """Return what answers as the settings say; the predictor itself where they say nothing.

    Args:
        predictor: What is asked.
        tta: Which views are averaged.
        min_size: Pixels that a piece of a mask must have at least; 0 keeps all.
        hysteresis: Probability above which pixels count where they are joined to sure ones; None
            for none.

    Raises:
        ValueError: If `hysteresis` is not below the predictor's threshold.
    """
    threshold = predictor.processor.config.threshold
    if hysteresis is not None:
        check_low(hysteresis, threshold)
    asked = predictor if tta == "none" else AveragedPredictor(predictor, tta)
    if min_size == 0 and hysteresis is None:
        return asked
    return _Cleaned(asked=asked, threshold=threshold, min_size=min_size, hysteresis=hysteresis)


def refuse_idle_views(tta: TTA, phrases: Sequence[str]) -> None:
    """Raise ValueError if every phrase forbids every view, so that nothing would be averaged.

    Args:
        tta: Which views are averaged.
        phrases: What will be asked for.
    """
    views = VIEWS[tta]
    if views and not any(view.allowed(phrase) for view in views for phrase in phrases):
        raise ValueError(
            f"test-time augmentation by {tta} would change nothing: {phrases[0]!r} names a part of "
            "a body, which a mirrored image does not show. Use --tta scales, or leave it out."
        )


@dataclass(frozen=True, kw_only=True)
class _Cleaned:
    """Answers whose masks are cleaned up."""

    asked: Answerer
    threshold: float
    min_size: int
    hysteresis: float | None

    def predict_batch(
        self,
        case_ids: Sequence[str],
        images: Sequence[UInt8[np.ndarray, "_ _ 3"]],
        phrases: Sequence[str],
    ) -> list[Prediction]:
        """Return one prediction for each image and its phrase."""
        return [
            clean(
                prediction,
                threshold=self.threshold,
                min_size=self.min_size,
                hysteresis=self.hysteresis,
            )
            for prediction in self.asked.predict_batch(case_ids, images, phrases)
        ]
