"""Score a model's own answers, or masks from elsewhere, on a folder of images and masks.

    open data and model -> answers -> scores -> the same for what it is compared with ->
    evaluation.json, cases.csv, report.html

What it is compared with: a baseline model, the model without averaging and cleaning where these
were asked for, and a second observer's masks where the data has them.
"""

import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from vasculora.core.report import Report
from vasculora.core.types import Sample
from vasculora.data.answers import find_answers, read_answer
from vasculora.data.dataset import VesselDataset
from vasculora.data.sources import Catalog
from vasculora.data.splits import Part, read_split, select
from vasculora.engine.evaluator import evaluate, given_answers, score_answers
from vasculora.engine.scores import Evaluation
from vasculora.metrics.panel import COUNT_METRICS, DEFAULT_RULES, METRICS, Rules
from vasculora.model.predictor import Answerer, Predictor
from vasculora.model.prompts import PromptConfig
from vasculora.recipes.answering import build_answerer, refuse_idle_views
from vasculora.recipes.config import AnswerConfig, DataConfig, EvaluateConfig
from vasculora.recipes.predict import open_predictor
from vasculora.recipes.reporting.gallery import Ask, pick_gallery
from vasculora.recipes.reporting.report import REPORT_NAME, read_run_facts, write_report
from vasculora.recipes.reporting.scorecard import (
    CASES_NAME,
    EVALUATION_NAME,
    About,
    beside,
    compared,
    scorecard,
    show_scorecard,
    write_scorecard,
)
from vasculora.recipes.reporting.summary import summarise
from vasculora.recipes.run_folder import (
    HIDDEN,
    SPLIT_NAME,
    hidden_command,
    read_data,
    refuse_inside,
    refuse_loss,
    refuse_report_of_run,
)
from vasculora.recipes.split import choose_part

MASK_METRICS = tuple(name for name, metric in METRICS.items() if not metric.needs_prob)
"""What can be said of masks without probabilities."""


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What was scored.

    Attributes:
        evaluation: Its cases.
        about: What it is, and how it was asked.
        ask: Gives its mask of a sample once more.
        comparisons: What it is compared with.
    """

    evaluation: Evaluation
    about: About
    ask: Ask
    comparisons: list[dict[str, Any]] = field(default_factory=list)


def evaluate_model(
    config: EvaluateConfig, out: Path, *, report: Report, command: Sequence[str] = ()
) -> dict[str, Any]:
    """Return what `evaluation.json` says of a model or of masks, and write it with its report.

    Args:
        config: All settings.
        out: Folder for `evaluation.json`, `cases.csv` and `report.html`; older ones are replaced.
        report: Where progress goes.
        command: What the user typed, to be shown in the report.

    Raises:
        ValueError: If settings, data or model are not usable, or files of another origin would be
            written over.
        FileNotFoundError: If one of them is not there.
    """
    refuse_inside(config.data, out)
    refuse_report_of_run(out)
    refuse_loss(out / name for name in (EVALUATION_NAME, CASES_NAME, REPORT_NAME))
    predictor = None if config.model is None else _open(config, config.model)
    words = PromptConfig() if predictor is None else predictor.processor.prompt
    phrase = words.phrase
    catalog = read_data(
        DataConfig(path=config.data, group_regex=config.group_regex), phrase=phrase, report=report
    )
    split, part = choose_part(config, catalog, report)
    data = VesselDataset(select(catalog.records, split, part), phrase=phrase)
    name = HIDDEN if catalog.secret else str(config.data)
    if predictor is None:
        against = HIDDEN if catalog.secret else str(config.against)
        found = _masks(config, data, name, part, report, against=against)
    else:
        found = _model(config, predictor, data, name, part, report)
    for row in second_observer(data, rules=_rules(config), report=report):
        if row["mean"] != found.evaluation.mean():  # else it is what was scored itself
            found.comparisons.append(row)
    card = scorecard(found.evaluation, found.about, found.comparisons)
    show_scorecard(card, report)
    warn_if_deaf(found.evaluation, report)
    write_scorecard(out, card)
    page = write_report(
        out,
        card,
        pick_gallery(found.evaluation, data, found.ask, num=config.gallery),
        run=None if config.model is None else read_run_facts(Path(config.model)),
        command=_told(command, config, catalog),
        data=summarise(
            {part: list(data.records)},
            None if predictor is None else predictor.processor.config,
            scored=part,
            phrase=phrase,
        ),
    )
    report.note(f"Report: {page}")
    return card


def score(
    answerer: Answerer,
    data: VesselDataset,
    *,
    batch_size: int,
    report: Report,
    title: str = "Scoring",
    names: Sequence[str] = COUNT_METRICS,
    rules: Rules = DEFAULT_RULES,
    forced_by: Predictor | None = None,
) -> Evaluation:
    """Return the scores of a model on every sample of a data set, with a bar."""
    num_cases = sum(len(record.targets) for record in data.records)
    with report.progress(num_cases, title, unit="cases") as bar:
        return evaluate(
            answerer,
            data_in_order(data),
            batch_size=batch_size,
            names=names,
            rules=rules,
            forced_by=forced_by,
            on_case=lambda _: bar.advance(),
        )


def data_in_order(data: VesselDataset) -> Iterator[Sample]:
    """Yield every sample once."""
    return (data[index] for index in range(len(data)))


def mask_of(answerer: Answerer) -> Ask:
    """Return what gives a model's mask of one sample."""

    def ask(sample: Sample) -> Bool[np.ndarray, "_ _"]:
        (found,) = answerer.predict_batch([sample.case_id], [sample.image], [sample.phrases[0]])
        return found.mask

    return ask


def warn_if_deaf(evaluation: Evaluation, report: Report) -> None:
    """Say so where a model gives the same mask whatever it is asked, however good that mask is."""
    if evaluation.is_deaf:
        report.warn(
            "whatever phrase is asked, the mask of an image is the same: prompt sensitivity "
            f"{evaluation.prompt_sensitivity:.3f}, but {evaluation.truth_sensitivity:.3f} between "
            "the true masks. The phrases have not been learnt. Let more of the language model "
            "learn (--set lora.linears=all --set lora.rank=64), train longer, or with more images "
            "of each phrase."
        )


def _told(command: Sequence[str], config: EvaluateConfig, catalog: Catalog) -> str:
    if not catalog.secret:
        return shlex.join(command)
    # masks may lie beside the data, in a folder that is called by the patient as well
    words = [
        word.removesuffix(config.against) + HIDDEN
        if config.against and (word == config.against or word.endswith(f"={config.against}"))
        else word
        for word in command
    ]
    return hidden_command(words, config.data)


def _open(config: EvaluateConfig, model: str) -> Predictor:
    return open_predictor(
        model,
        official=config.official,
        phrase=config.phrase,
        threshold=config.threshold,
        window=config.window,
        gpu=config.gpu,
    )


def _open_beside(predictor: Predictor, config: EvaluateConfig, model: str) -> Predictor:
    """Return another model, which waits in memory: a GPU may not hold two at once."""
    device = predictor.model.device
    predictor.model.to("cpu")
    other = _open(config, model)
    other.model.to("cpu")
    predictor.model.to(device)
    return other


def _model(
    config: EvaluateConfig,
    predictor: Predictor,
    data: VesselDataset,
    name: str,
    part: Part,
    report: Report,
) -> _Found:
    """Return the scores of a model, compared with a baseline and with itself without options."""
    full = partial(
        score,
        data=data,
        batch_size=config.batch_size,
        report=report,
        names=tuple(METRICS),
        rules=_rules(config),
    )
    refuse_idle_views(config.answer.tta, _phrases(data))
    answerer = _asked(predictor, config.answer)
    num_trained_on = _num_trained_on(config.model, data, report)
    _num_trained_on(config.baseline, data, report)
    # before anything is scored: what is wrong with it should not be told after an hour
    base = None if config.baseline is None else _open_beside(predictor, config, config.baseline)
    rival = None if base is None else _asked(base, config.answer)
    plain = config.answer == AnswerConfig()
    evaluation = full(answerer, forced_by=predictor if plain else None)
    threshold = predictor.processor.config.threshold
    comparisons = []
    if not plain:
        other = full(predictor, title="Scoring without options")
        comparisons.append(
            compared(_without(config.answer), "plain", evaluation, other, threshold=threshold)
        )
    if config.baseline is not None and base is not None and rival is not None:
        device = predictor.model.device
        predictor.model.to("cpu")
        base.model.to(device)
        other = full(rival, title="Scoring the baseline")
        base.model.to("cpu")
        predictor.model.to(device)
        comparisons.append(
            compared(
                config.baseline,
                "baseline",
                evaluation,
                other,
                threshold=base.processor.config.threshold,
            )
        )
    about = About(
        model=config.model,
        data=name,
        split=part,
        threshold=threshold,
        options=config.answer.model_dump(),
        num_trained_on=num_trained_on,
    )
    return _Found(
        evaluation=evaluation, about=about, ask=mask_of(answerer), comparisons=comparisons
    )


def _num_trained_on(model: str | None, data: VesselDataset, report: Report) -> int:
    """Return how many cases are called as those that a run was trained on, and warn of them."""
    path = None if model is None else Path(model) / SPLIT_NAME
    if path is None or not path.is_file():
        return 0
    learnt = set(read_split(path).train)
    num = sum(record.case_id in learnt for record in data.records)
    if num:
        report.warn(
            f"{num} of {len(data)} images are called as images that {model} was trained on. If "
            "they are the same ones, its score tells what it remembers, not what it can do."
        )
    return num


def _rules(config: EvaluateConfig) -> Rules:
    chosen = config.metrics
    return Rules(small_width=chosen.small_width, tolerance=chosen.tolerance)


def _asked(predictor: Predictor, answer: AnswerConfig) -> Answerer:
    return build_answerer(
        predictor, tta=answer.tta, min_size=answer.min_size, hysteresis=answer.hysteresis
    )


def _phrases(data: VesselDataset) -> list[str]:
    return [target.phrase or data.phrase for record in data.records for target in record.targets]


def _without(answer: AnswerConfig) -> str:
    """Return what a model is called that is asked without the options."""
    parts = []
    if answer.tta != "none":
        parts.append("test-time augmentation")
    if answer.min_size or answer.hysteresis is not None:
        parts.append("post-processing")
    return f"without {' and '.join(parts)}"


def _masks(
    config: EvaluateConfig,
    data: VesselDataset,
    name: str,
    part: Part,
    report: Report,
    *,
    against: str,
) -> _Found:
    """Return the scores of masks that lie in a folder, which is told as `against`."""
    assert config.against is not None
    answers = find_answers(config.against, list(data.records))

    def ask(sample: Sample) -> Bool[np.ndarray, "_ _"]:
        return read_answer(answers[sample.case_id], sample.image)

    evaluation = _score_given(
        ((sample, ask(sample)) for sample in data_in_order(data)), data, _rules(config), report
    )
    about = About(
        model=None,
        against=against,
        data=name,
        split=part,
        threshold=None,
        options=AnswerConfig().model_dump(),
    )
    return _Found(evaluation=evaluation, about=about, ask=ask)


def second_observer(
    data: VesselDataset, *, rules: Rules = DEFAULT_RULES, report: Report
) -> list[dict[str, Any]]:
    """Return the scores of a second observer, where all cases have one, for a line beside."""
    if not all(record.second_path and len(record.targets) == 1 for record in data.records):
        return []
    pairs = ((s, s.second) for s in data_in_order(data) if s.second is not None)
    evaluation = _score_given(pairs, data, rules, report, title="Scoring the second observer")
    return [beside("second observer", "observer", evaluation)]


def _score_given(
    pairs: Iterable[tuple[Sample, Bool[np.ndarray, "_ _"]]],
    data: VesselDataset,
    rules: Rules,
    report: Report,
    title: str = "Scoring",
) -> Evaluation:
    with report.progress(len(data), title, unit="cases") as bar:
        return score_answers(
            given_answers(pairs),
            names=MASK_METRICS,
            rules=rules,
            on_case=lambda _: bar.advance(),
        )
