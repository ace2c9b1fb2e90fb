"""What a finished run shows: its report and model card, its curve, its best and worst cases.

The adapter is opened as a user would open it and scored with every metric, at the threshold that
was stored with it. Whether training helped is judged at 0.5 on both sides: the untouched model had
no threshold chosen for it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from vasculora.core.config import load_config
from vasculora.core.io import write_image
from vasculora.core.report import Report
from vasculora.data.dataset import VesselDataset
from vasculora.data.splits import Part
from vasculora.engine.evaluator import HALF
from vasculora.engine.scores import Evaluation
from vasculora.engine.tracker import Tracker
from vasculora.metrics.panel import METRICS
from vasculora.model.predictor import Predictor
from vasculora.model.pretrained import ADAPTER_NAME
from vasculora.recipes.config import AnswerConfig, FinetuneConfig
from vasculora.recipes.evaluate import mask_of, score, second_observer, warn_if_deaf
from vasculora.recipes.reporting.card import write_card
from vasculora.recipes.reporting.gallery import pick_gallery
from vasculora.recipes.reporting.report import GalleryCase, read_run_facts, write_report
from vasculora.recipes.reporting.scorecard import (
    About,
    compared,
    scorecard,
    show_scorecard,
    write_scorecard,
)
from vasculora.recipes.reporting.summary import summarise
from vasculora.recipes.run_folder import (
    CONFIG_NAME,
    CURVE_NAME,
    OVERLAYS_NAME,
    REPORT_DIR,
)
from vasculora.recipes.split import Looks
from vasculora.viz.curves import training_curve
from vasculora.viz.overlays import case_panel

_GALLERY = 12
_TOLERANCE = 2e-3


def show_results(
    run_dir: Path,
    config: FinetuneConfig,
    tracker: Tracker,
    data: Mapping[Part, VesselDataset],
    *,
    looks: Looks,
    report: Report,
) -> Path:
    """Score the adapter as it was saved, show what it came to, and return the report's path.

    Args:
        run_dir: The run's folder.
        config: Its settings.
        tracker: Its scores.
        data: The samples of its parts; `val` is scored.
        looks: What was seen while all images were open.
        report: Warned if the saved adapter scores otherwise than it did in training, or heeds no
            phrase.
    """
    told = load_config(FinetuneConfig, run_dir / CONFIG_NAME)  # without what must not be written
    predictor = Predictor.from_pretrained(run_dir, gpu=config.gpu)
    val = data["val"]
    evaluation = score(
        predictor,
        val,
        batch_size=config.eval_batch_size,
        report=report,
        title="Scoring the saved adapter",
        names=tuple(METRICS),
        forced_by=predictor,
    )
    at_half = _at_half(evaluation)
    _check_saved(at_half, tracker, report)
    warn_if_deaf(evaluation, report)
    about = About(
        model=str(run_dir),
        data=str(told.data.path),
        split="val",
        threshold=predictor.processor.config.threshold,
        options=AnswerConfig().model_dump(),
    )
    comparisons = second_observer(val, report=report)
    if tracker.untouched is not None:
        untouched = tracker.untouched
        comparisons.insert(
            0, compared("untouched model", "untouched", at_half, untouched, threshold=HALF)
        )
    card = scorecard(evaluation, about, comparisons)
    show_scorecard(card, report)
    write_scorecard(run_dir / REPORT_DIR, card)
    training_curve(
        run_dir / CURVE_NAME,
        epochs=tracker.epochs,
        baseline=tracker.baseline["dice"],
        title="Fine-tuning",
    )
    gallery = pick_gallery(evaluation, val, mask_of(predictor), num=_GALLERY)
    _draw_cases(run_dir / OVERLAYS_NAME, gallery)
    summary = summarise(
        {part: list(samples.records) for part, samples in data.items()},
        predictor.processor.config,
        scored="val",
        phrase=val.phrase,
        looks=looks,
    )
    run = read_run_facts(run_dir)
    write_card(
        run_dir / ADAPTER_NAME,
        config=told,
        evaluation=card,
        audit=None if run is None else run.audit,
        summary=summary,
        metrics=tracker.metrics,
    )
    command = "" if told.provenance is None else told.provenance.command
    return write_report(
        run_dir / REPORT_DIR,
        card,
        gallery,
        run=run,
        command=command,
        data=summary,
    )


def _at_half(evaluation: Evaluation) -> Evaluation:
    """Return the same answers, scored at threshold 0.5."""
    cases = [
        replace(case, scores=case.at_half) for case in evaluation.cases if case.at_half is not None
    ]
    return replace(evaluation, cases=tuple(cases))


def _check_saved(at_half: Evaluation, tracker: Tracker, report: Report) -> None:
    dice = at_half.mean_counted()["dice"]
    if abs(dice - tracker.best["val_dice"]) > _TOLERANCE:
        report.warn(
            f"the saved adapter scores {dice:.4f}, but {tracker.best['val_dice']:.4f} in training."
        )


def _draw_cases(out_dir: Path, gallery: Sequence[GalleryCase]) -> None:
    """Write one panel each of the best, the median and the worst case."""
    chosen = {"best": gallery[0], "median": gallery[len(gallery) // 2], "worst": gallery[-1]}
    for name, case in chosen.items():
        caption = f"{name}: {case.case_id}, Dice {case.dice:.3f}"
        panel = case_panel(case.image, case.mask, case.pred, caption=caption)
        write_image(out_dir / f"{name}.png", panel)
