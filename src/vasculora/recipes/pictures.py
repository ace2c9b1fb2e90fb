"""The pictures of a finished run: its curve, and its best, median and worst validation case."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from vasculora.core.io import write_image, write_json
from vasculora.core.report import Report
from vasculora.core.types import Sample
from vasculora.data.dataset import VesselDataset
from vasculora.engine.evaluator import CaseScore, Evaluation, questions
from vasculora.engine.tracker import Tracker
from vasculora.model.predictor import Predictor
from vasculora.recipes.evaluate import score, warn_if_deaf
from vasculora.recipes.run_folder import CURVE_NAME, EVALUATION_NAME, OVERLAYS_NAME
from vasculora.viz.curves import training_curve
from vasculora.viz.overlays import case_panel

_TOLERANCE = 2e-3


def draw_run(
    run_dir: Path, val_data: VesselDataset, tracker: Tracker, *, gpu: int | None, report: Report
) -> None:
    """Score the adapter as it was saved and draw the run.

    Args:
        run_dir: The run's folder; pictures and `evaluation.json` are written there.
        val_data: The validation samples.
        tracker: The run's scores.
        gpu: Index of the GPU the run was given.
        report: Warned if the saved adapter scores otherwise than it did in training, or heeds no
            phrase.
    """
    predictor = Predictor.from_pretrained(run_dir, gpu=gpu)
    evaluation = score(
        predictor, val_data, batch_size=8, report=report, title="Scoring the saved adapter"
    )
    dice = evaluation.mean()["dice"]
    if abs(dice - tracker.best["val_dice"]) > _TOLERANCE:
        report.warn(
            f"the saved adapter scores {dice:.4f}, but {tracker.best['val_dice']:.4f} in training."
        )
    warn_if_deaf(evaluation, report)
    threshold = predictor.processor.config.threshold
    write_json(run_dir / EVALUATION_NAME, evaluation.to_dict(split="val", threshold=threshold))
    training_curve(
        run_dir / CURVE_NAME,
        epochs=tracker.epochs,
        baseline=tracker.baseline["dice"],
        title="Fine-tuning",
    )
    draw_cases(run_dir / OVERLAYS_NAME, predictor, val_data, evaluation)


def draw_cases(
    out_dir: Path, predictor: Predictor, data: VesselDataset, evaluation: Evaluation
) -> None:
    """Write one panel each of the best, the median and the worst case."""
    ranked = evaluation.ranked()
    chosen = {"best": ranked[0], "median": ranked[len(ranked) // 2], "worst": ranked[-1]}
    for name, case in chosen.items():
        write_image(out_dir / f"{name}.png", _panel(predictor, data, case, name))


def _panel(
    predictor: Predictor, data: VesselDataset, case: CaseScore, name: str
) -> UInt8[np.ndarray, "h w 3"]:
    sample = _asked_for(data, case.case_id)
    prediction = predictor(sample.image, sample.phrases[0])
    caption = f"{name}: {case.case_id}, Dice {case.dice:.3f}"
    return case_panel(sample.image, sample.masks[0], prediction.mask, caption=caption)


def _asked_for(data: VesselDataset, case_id: str) -> Sample:
    """Return the sample of a scored case, with that case's phrase alone."""
    for index, record in enumerate(data.records):
        if case_id.startswith(record.case_id):
            for question in questions(data[index]):
                if question.case_id == case_id:
                    return question
    raise KeyError(case_id)
