"""Score runs on their validation images with every choice of views, specks and faint ends."""

import argparse
import time
from itertools import product
from pathlib import Path

from benchmarks.results import write_result

from vasculora.core.types import Prediction, Sample
from vasculora.data.dataset import load_sample
from vasculora.data.sources import read_source
from vasculora.data.splits import read_split, select
from vasculora.engine.tta import VIEWS, AveragedPredictor, View
from vasculora.metrics.panel import METRICS, score_case
from vasculora.metrics.statistics import paired
from vasculora.model.postprocess import clean
from vasculora.model.predictor import Answerer, Predictor

CHOICES = {**VIEWS, "larger": (View(zoom=1.25),), "smaller": (View(zoom=0.8),)}
"""What can be chosen, and each scale alone."""
NAMES = ("dice", "cldice", "sensitivity", "precision", "betti0_error")
MIN_SIZES = (0, 20, 50)
LOW_SHARES = (None, 0.6)
"""Lower threshold of hysteresis, as a share of the run's own threshold: 0.3 of 0.5."""
BATCH = 4

Scores = dict[str, list[float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", nargs="+", required=True, metavar="RUN=DATA", help="with its set")
    parser.add_argument("--label", default="2-core-cpu", help="hardware, for the file")
    args = parser.parse_args()
    found = {Path(run).name: measure(run, data) for run, data in (r.split("=") for r in args.runs)}
    write_result(__file__, args.label, found)


def measure(run: str, data: str) -> dict[str, object]:
    """Return what every choice comes to on a run's validation images, beside the plain answers."""
    split = read_split(Path(run) / "split.json")
    records = select(read_source(Path(data)).records, split, "val")
    predictor = Predictor.from_pretrained(run)
    phrase = predictor.processor.prompt.phrase
    samples = [load_sample(record, phrase=phrase) for record in records]
    threshold = predictor.processor.config.threshold
    seconds: dict[str, float] = {}
    lows = [None if share is None else share * threshold for share in LOW_SHARES]
    rows: dict[tuple[str, int, float | None], Scores] = {}
    for tta, views in CHOICES.items():
        asked = AveragedPredictor(predictor, "none")
        asked.views = views
        start = time.process_time()
        answers = answer(asked, samples)
        seconds[tta] = round((time.process_time() - start) / len(samples), 3)
        for min_size, low in product(MIN_SIZES, lows):
            masks = [
                clean(a, threshold=threshold, min_size=min_size, hysteresis=low) for a in answers
            ]
            rows[tta, min_size, low] = score(masks, samples)
        print(run, tta, seconds[tta], flush=True)
    plain = rows["none", 0, None]
    groups = [sample.group for sample in samples]
    return {
        "images": len(samples),
        "groups": len(set(groups)),
        "threshold": threshold,
        "cpu_seconds_an_image": seconds,
        "rows": [
            {"tta": tta, "min_size": min_size, "hysteresis": low, **beside(scores, plain, groups)}
            for (tta, min_size, low), scores in rows.items()
        ],
    }


def answer(asked: Answerer, samples: list[Sample]) -> list[Prediction]:
    """Return the answers to all samples' only phrase."""
    answers = []
    for first in range(0, len(samples), BATCH):
        batch = samples[first : first + BATCH]
        answers += asked.predict_batch(
            [sample.case_id for sample in batch],
            [sample.image for sample in batch],
            [sample.phrases[0] for sample in batch],
        )
    return answers


def score(masks: list[Prediction], samples: list[Sample]) -> Scores:
    """Return the scores of all cases."""
    cases = [
        score_case(found.mask, sample.masks[0], fov=sample.fov, names=NAMES)
        for found, sample in zip(masks, samples, strict=True)
    ]
    return {name: [case[name] for case in cases] for name in NAMES}


def beside(scores: Scores, plain: Scores, groups: list[str]) -> dict[str, object]:
    """Return means, and what lies between them and the plain answers'."""
    told: dict[str, object] = {}
    for name in NAMES:
        found = paired(scores[name], plain[name], groups, better=METRICS[name].better)
        difference = found.difference
        told[name] = {
            "mean": round(sum(scores[name]) / len(groups), 4),
            "difference": round(difference.mean, 4),
            "low": None if difference.low is None else round(difference.low, 4),
            "high": None if difference.high is None else round(difference.high, 4),
            "improved": found.num_improved,
            "verdict": found.verdict,
        }
    return told


if __name__ == "__main__":
    main()
