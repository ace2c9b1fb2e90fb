"""A predictor over samples: one scored case each, from the model's own answers.

Where an image has several phrases, it is also seen whether the masks heed them. A model that gives
one mask to all of them scores better with every epoch, as far as one mask can: Dice does not tell.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby, islice
from operator import itemgetter

import numpy as np

from vasculora.core.types import Prediction, Sample
from vasculora.metrics.mask import METRICS, prompt_sensitivity, score
from vasculora.model.predictor import Predictor

_DEAF = 0.05
"""Share of the truth's own difference between phrases below which masks do not heed them."""


@dataclass(frozen=True)
class CaseScore:
    """The scores of one case, at its own size, each in [0, 1].

    Attributes:
        case_id: Name of the case; of an image with several phrases, with the phrase behind it.
        group: Patient, eye or run.
        dice: Overlap; 1 where mask and prediction are both empty.
        iou: Overlap over union.
        sensitivity: Share of the vessel that was found.
        precision: Share of what was found that is vessel.
        seg_found: Whether the model said `[SEG]`; if not, its mask is empty.
    """

    case_id: str
    group: str
    dice: float
    iou: float
    sensitivity: float
    precision: float
    seg_found: bool


@dataclass(frozen=True)
class Evaluation:
    """All cases of an evaluation.

    Attributes:
        cases: Their scores.
        mean_probs: Mean probability of each, in double precision: tells whether a prediction has
            moved where its scores have not.
        prompt_sensitivity: How far masks move from phrase to phrase on one image, in [0, 1]; None
            where no image has two phrases.
        truth_sensitivity: The same of the true masks.
    """

    cases: tuple[CaseScore, ...]
    mean_probs: tuple[float, ...]
    prompt_sensitivity: float | None = None
    truth_sensitivity: float | None = None

    @property
    def is_deaf(self) -> bool:
        """Whether the phrases of an image get the same mask although they mean different ones."""
        if self.prompt_sensitivity is None or self.truth_sensitivity is None:
            return False
        return self.prompt_sensitivity < _DEAF * self.truth_sensitivity

    @property
    def seg_rate(self) -> float:
        """Share of answers with `[SEG]`."""
        return sum(case.seg_found for case in self.cases) / len(self.cases)

    def mean(self) -> dict[str, float]:
        """Return the mean of each score over the cases."""
        return {n: sum(getattr(c, n) for c in self.cases) / len(self.cases) for n in METRICS}

    def ranked(self) -> tuple[CaseScore, ...]:
        """Return the cases by falling Dice."""
        return tuple(sorted(self.cases, key=lambda case: (-case.dice, case.case_id)))

    def to_dict(self, *, split: str, threshold: float) -> dict[str, object]:
        """Return what `evaluation.json` holds."""
        return {
            "split": split,
            "num_cases": len(self.cases),
            "seg_rate": self.seg_rate,
            "threshold": threshold,
            "prompt_sensitivity": self.prompt_sensitivity,
            "truth_sensitivity": self.truth_sensitivity,
            "mean": self.mean(),
            "cases": [asdict(case) for case in self.cases],
        }


def evaluate(
    predictor: Predictor,
    samples: Iterable[Sample],
    *,
    batch_size: int,
    on_case: Callable[[CaseScore], None] = lambda _: None,
) -> Evaluation:
    """Return the scores of a predictor on its own answers, at every image's own size.

    Args:
        predictor: What is evaluated.
        samples: Images with their truth; every phrase of an image is a case.
        batch_size: Cases predicted together.
        on_case: Called after every case.

    Raises:
        ValueError: If there are no samples.
    """
    scores: list[CaseScore] = []
    mean_probs: list[float] = []
    moved: list[tuple[float, float]] = []
    for _, answered in groupby(_answers(predictor, samples, batch_size), key=itemgetter(0)):
        asked = [(question, prediction) for _, question, prediction in answered]
        for question, prediction in asked:
            scores.append(_score(question, prediction))
            mean_probs.append(float(prediction.prob.mean(dtype=np.float64)))
            on_case(scores[-1])
        if len(asked) > 1:
            moved.append(_moved(asked))
    if not scores:
        raise ValueError("there is nothing to evaluate: this part of the data holds no images.")
    pred, truth = np.mean(moved, axis=0).tolist() if moved else (None, None)
    return Evaluation(
        cases=tuple(scores),
        mean_probs=tuple(mean_probs),
        prompt_sensitivity=pred,
        truth_sensitivity=truth,
    )


def _answers(
    predictor: Predictor, samples: Iterable[Sample], batch_size: int
) -> Iterator[tuple[int, Sample, Prediction]]:
    """Yield the number of an image, one of its phrases with its truth, and the answer to it."""
    asked = (
        (number, question)
        for number, sample in enumerate(samples)
        for question in questions(sample)
    )
    while batch := list(islice(asked, batch_size)):
        found = _predict(predictor, [question for _, question in batch])
        for (number, question), prediction in zip(batch, found, strict=True):
            yield number, question, prediction


def _moved(asked: Sequence[tuple[Sample, Prediction]]) -> tuple[float, float]:
    """Return how far the masks of one image move from phrase to phrase, and the true ones."""
    truth = np.stack([question.masks[0] for question, _ in asked]).astype(np.float32)
    return (
        prompt_sensitivity(np.stack([prediction.prob for _, prediction in asked])),
        prompt_sensitivity(truth),
    )


def _predict(predictor: Predictor, batch: Sequence[Sample]) -> list[Prediction]:
    return predictor.predict_batch(
        [sample.case_id for sample in batch],
        [sample.image for sample in batch],
        [sample.phrases[0] for sample in batch],
    )


def questions(sample: Sample) -> Iterator[Sample]:
    """Yield the sample once a phrase, as it is scored: with that phrase's mask alone."""
    several = len(sample.phrases) > 1
    for phrase, mask in zip(sample.phrases, sample.masks, strict=True):
        yield Sample(
            case_id=f"{sample.case_id}: {phrase}" if several else sample.case_id,
            group=sample.group,
            image=sample.image,
            masks=mask[None],
            phrases=(phrase,),
        )


def _score(sample: Sample, prediction: Prediction) -> CaseScore:
    return CaseScore(
        case_id=sample.case_id,
        group=sample.group,
        seg_found=prediction.seg_found,
        **score(prediction.mask, sample.masks[0]),
    )
