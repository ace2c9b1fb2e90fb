"""Answers to scores: what a model says of each case, or given masks, against the truth.

Pictures are scored by threads while the model is busy with the next ones. Where an image has
several phrases, it is also seen whether the masks heed them. A model that gives one mask to all of
them scores better with every epoch, as far as one mask can: Dice does not tell.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby, islice

import numpy as np
from jaxtyping import Bool, Float, UInt8

from vasculora.core.runtime import num_cores
from vasculora.core.types import Prediction, Sample
from vasculora.engine.scores import CaseScore, Evaluation
from vasculora.metrics.mask import SWEEP, dice_by_threshold, prompt_sensitivity
from vasculora.metrics.panel import (
    COUNT_METRICS,
    DEFAULT_RULES,
    Comparison,
    Rules,
    score,
    score_case,
)
from vasculora.model.predictor import Answerer, Predictor

HALF = 0.5
"""The threshold of a model that nobody has chosen another one for."""
_WAITING = 4
"""Answers a thread that may wait for their scores, so that few pictures are held."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A mask for one phrase of one image, beside its truth.

    Attributes:
        number: Which image.
        question: The image with that phrase's true mask alone.
        mask: True where vessel was said to be.
        prob: Probability of each pixel; None for masks without.
        seg_found: Whether the model said `[SEG]`; None where no model was asked.
        as_trained: Whether the answer was the trained one; None where it was not looked at.
        forced: The mask under the trained answer; None where not asked for.
    """

    number: int
    question: Sample
    mask: Bool[np.ndarray, "h w"]
    prob: Float[np.ndarray, "h w"] | None = None
    seg_found: bool | None = None
    as_trained: bool | None = None
    forced: Bool[np.ndarray, "h w"] | None = None


def evaluate(
    answerer: Answerer,
    samples: Iterable[Sample],
    *,
    batch_size: int,
    names: Sequence[str] = COUNT_METRICS,
    rules: Rules = DEFAULT_RULES,
    forced_by: Predictor | None = None,
    on_case: Callable[[CaseScore], None] = lambda _: None,
) -> Evaluation:
    """Return the scores of a model on its own answers, at every image's own size.

    Args:
        answerer: What is evaluated.
        samples: Images with their truth; every phrase of an image is a case.
        batch_size: Cases predicted together.
        names: Metrics to compute; the cheap ones unless told otherwise.
        rules: How they are computed.
        forced_by: The model that is also given the trained answer, which only changes the mask
            where its own answer is another one.
        on_case: Called after every case.

    Raises:
        ValueError: If there are no samples.
    """
    answers = answers_of(answerer, samples, batch_size=batch_size, forced_by=forced_by)
    return score_answers(answers, names=names, rules=rules, on_case=on_case)


def answers_of(
    answerer: Answerer,
    samples: Iterable[Sample],
    *,
    batch_size: int,
    forced_by: Predictor | None = None,
) -> Iterator[Answer]:
    """Yield a model's own answer to every phrase of every image, in order.

    Args:
        answerer: The model.
        samples: Images with their truth.
        batch_size: Cases predicted together.
        forced_by: See `evaluate`.
    """
    asked = (
        (number, question)
        for number, sample in enumerate(samples)
        for question in questions(sample)
    )
    while batch := list(islice(asked, batch_size)):
        found = answerer.predict_batch(*_asked([question for _, question in batch]))
        answers = [
            Answer(
                number=number,
                question=question,
                mask=prediction.mask,
                prob=prediction.prob,
                seg_found=prediction.seg_found,
            )
            for (number, question), prediction in zip(batch, found, strict=True)
        ]
        yield from answers if forced_by is None else _forced(forced_by, answers, found)


def given_answers(
    pairs: Iterable[tuple[Sample, Bool[np.ndarray, "_ _"]]],
) -> Iterator[Answer]:
    """Yield masks that somebody drew, or another program made, as answers to the only phrase.

    Args:
        pairs: Images with their truth, one phrase each, and the mask of each.
    """
    for number, (sample, mask) in enumerate(pairs):
        (question,) = questions(sample)
        yield Answer(number=number, question=question, mask=mask)


def score_answers(
    answers: Iterable[Answer],
    *,
    names: Sequence[str] = COUNT_METRICS,
    rules: Rules = DEFAULT_RULES,
    on_case: Callable[[CaseScore], None] = lambda _: None,
) -> Evaluation:
    """Return the scores of answers; those of one image follow each other.

    Args:
        answers: What was said, beside the truth.
        names: Metrics to compute.
        rules: How they are computed.
        on_case: Called after every case.

    Raises:
        ValueError: If there are no answers.
    """
    moved: list[tuple[float, float]] = []
    cases: list[CaseScore] = []
    for case in _in_threads(_watched(answers, moved), names, rules):
        cases.append(case)
        on_case(case)
    if not cases:
        raise ValueError("there is nothing to evaluate: this part of the data holds no images.")
    pred, truth = np.mean(moved, axis=0).tolist() if moved else (None, None)
    return Evaluation(cases=tuple(cases), prompt_sensitivity=pred, truth_sensitivity=truth)


def questions(sample: Sample) -> Iterator[Sample]:
    """Yield the sample once a phrase, as it is scored: with that phrase's mask alone."""
    several = len(sample.phrases) > 1
    for phrase, mask in zip(sample.phrases, sample.masks, strict=True):
        yield replace(
            sample,
            case_id=f"{sample.case_id}: {phrase}" if several else sample.case_id,
            masks=mask[None],
            phrases=(phrase,),
        )


def _asked(
    batch: Sequence[Sample],
) -> tuple[list[str], list[UInt8[np.ndarray, "_ _ 3"]], list[str]]:
    return (
        [sample.case_id for sample in batch],
        [sample.image for sample in batch],
        [sample.phrases[0] for sample in batch],
    )


def _forced(
    model: Predictor, answers: Sequence[Answer], found: Sequence[Prediction]
) -> Iterator[Answer]:
    """Yield the answers with the masks that the trained answer would have given.

    They are the same where the model said the trained answer by itself, so only the others are
    asked again.
    """
    as_trained = [model.answers_as_trained(prediction) for prediction in found]
    others = [a.question for a, same in zip(answers, as_trained, strict=True) if not same]
    anew = iter(model.teacher_forced(*_asked(others)) if others else ())
    for answer, same in zip(answers, as_trained, strict=True):
        yield replace(answer, as_trained=same, forced=answer.mask if same else next(anew).mask)


def _watched(answers: Iterable[Answer], moved: list[tuple[float, float]]) -> Iterator[Answer]:
    """Yield the answers as they come, and note how far masks move between an image's phrases."""
    for _, answered in groupby(answers, key=lambda answer: answer.number):
        of_image = []
        for answer in answered:
            of_image.append(answer)
            yield answer
        if len(of_image) > 1:
            moved.append(_moved(of_image))


def _moved(answers: Sequence[Answer]) -> tuple[float, float]:
    """Return how far the masks of one image move from phrase to phrase, and the true ones."""
    said = [answer.mask if answer.prob is None else answer.prob for answer in answers]
    truth = [answer.question.masks[0] for answer in answers]
    return (
        prompt_sensitivity(np.stack(said).astype(np.float32)),
        prompt_sensitivity(np.stack(truth).astype(np.float32)),
    )


def _in_threads(
    answers: Iterable[Answer], names: Sequence[str], rules: Rules
) -> Iterator[CaseScore]:
    """Yield the scores in order, made beside whatever makes the answers."""
    num_threads = num_cores()
    waiting: deque[Future[CaseScore]] = deque()
    with ThreadPoolExecutor(num_threads) as threads:
        for answer in answers:
            waiting.append(threads.submit(_score, answer, names, rules))
            while len(waiting) > _WAITING * num_threads or (waiting and waiting[0].done()):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _score(answer: Answer, names: Sequence[str], rules: Rules) -> CaseScore:
    question, prob = answer.question, answer.prob
    truth, fov = question.masks[0], question.fov
    case = Comparison(
        pred=answer.mask, mask=truth, prob=prob, fov=fov, spacing=question.spacing, rules=rules
    )
    return CaseScore(
        case_id=question.case_id,
        group=question.group,
        scores=score(case, names),
        seg_found=answer.seg_found,
        as_trained=answer.as_trained,
        absent=not case.truth.any(),
        empty=not case.found.any(),
        mean_prob=0.0 if prob is None else float(prob.mean(dtype=np.float64)),
        at_half=None if prob is None else _counted(prob > HALF, question),
        forced=None if answer.forced is None else _counted(answer.forced, question),
        sweep=() if prob is None else tuple(dice_by_threshold(prob, truth, SWEEP, fov).tolist()),
        reliability=case.reliability if "ece" in names else None,
    )


def _counted(mask: Bool[np.ndarray, "h w"], question: Sample) -> dict[str, float]:
    scores = score_case(mask, question.masks[0], fov=question.fov, names=COUNT_METRICS)
    return {name: value for name, value in scores.items() if value is not None}
