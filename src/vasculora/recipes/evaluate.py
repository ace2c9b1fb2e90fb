"""Score a model on a folder of images and masks, from its own answers."""

from pathlib import Path

from vasculora.core.io import write_json
from vasculora.core.report import Report
from vasculora.data.dataset import VesselDataset
from vasculora.data.sources import Catalog
from vasculora.data.splits import Part, Split, read_split, select
from vasculora.engine.evaluator import Evaluation, evaluate
from vasculora.model.predictor import Predictor
from vasculora.recipes.config import DataConfig, EvaluateConfig
from vasculora.recipes.predict import open_predictor
from vasculora.recipes.run_folder import EVALUATION_NAME, SPLIT_NAME, read_data, refuse_inside


def evaluate_model(config: EvaluateConfig, out: Path, *, report: Report) -> Evaluation:
    """Return a model's scores on a part of a data folder, and write them to `evaluation.json`.

    Args:
        config: All settings.
        out: Folder for `evaluation.json`; one that is there already is replaced.
        report: Where progress goes.

    Raises:
        ValueError: If settings, data or model are not usable.
        FileNotFoundError: If one of them is not there.
    """
    refuse_inside(config.data, out)
    predictor = open_predictor(
        config.model,
        official=config.official,
        phrase=config.phrase,
        threshold=config.threshold,
        window=config.window,
        gpu=config.gpu,
    )
    phrase = predictor.processor.prompt.phrase
    catalog = read_data(
        DataConfig(path=config.data, group_regex=config.group_regex), phrase=phrase, report=report
    )
    split, part = _choose_part(config, catalog, report)
    data = VesselDataset(select(catalog.records, split, part), phrase=phrase)
    evaluation = score(predictor, data, batch_size=config.batch_size, report=report)
    threshold = predictor.processor.config.threshold
    write_json(out / EVALUATION_NAME, evaluation.to_dict(split=part, threshold=threshold))
    names = ("dice", "iou", "sensitivity", "precision")
    mean = evaluation.mean()
    report.table(
        f"{config.model} on {part} ({len(evaluation.cases)} cases, threshold {threshold:g})",
        ("Dice", "IoU", "sensitivity", "precision", "answers with [SEG]"),
        [[*(f"{mean[name]:.4f}" for name in names), f"{evaluation.seg_rate:.1%}"]],
    )
    warn_if_deaf(evaluation, report)
    return evaluation


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


def score(
    predictor: Predictor,
    data: VesselDataset,
    *,
    batch_size: int,
    report: Report,
    title: str = "Scoring",
) -> Evaluation:
    """Return the scores of a predictor on every sample of a data set, with a bar."""
    num_cases = sum(len(record.targets) for record in data.records)
    with report.progress(num_cases, title, unit="cases") as bar:
        return evaluate(
            predictor,
            (data[index] for index in range(len(data))),
            batch_size=batch_size,
            on_case=lambda _: bar.advance(),
        )


def _choose_part(config: EvaluateConfig, catalog: Catalog, report: Report) -> tuple[Split, Part]:
    """Return the split to go by and the part to score.

    The data's own split counts first, then the one the run was trained with.
    """
    split = catalog.split
    if split is None and config.split not in (None, "all"):
        split = _run_split(Path(config.model) / SPLIT_NAME, catalog, report)
    if split is None:
        if config.split != "all":
            report.note("The data has no split.json, so all of it is scored.")
        return Split(train=(), val=()), "all"
    # Sets given out as train and test alone have no val.
    return split, config.split or ("val" if split.val else "test")


def _run_split(path: Path, catalog: Catalog, report: Report) -> Split | None:
    """Return the split a run was trained with, if it is one of this very data."""
    if not path.is_file():
        return None
    split = read_split(path)
    named = {case_id for case_ids in split.to_dict().values() for case_id in case_ids}
    if not named & {record.case_id for record in catalog.records}:
        report.note("The run was trained on other images, so its split does not count here.")
        return None
    report.note(f"Split: the one the run was trained with ({path}).")
    return split
