"""Score a run's masks with the right phrase against those with another phrase of the same image."""

import argparse
from itertools import permutations
from pathlib import Path

import numpy as np
from benchmarks.results import write_result

from vasculora.core.types import Sample
from vasculora.data.dataset import load_sample
from vasculora.data.sources import read_source
from vasculora.data.splits import select
from vasculora.metrics.mask import count, dice
from vasculora.model.predictor import Predictor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="with a split, phrases of its own")
    parser.add_argument("--runs", nargs="+", required=True, help="nano, or folders of runs")
    parser.add_argument("--label", default="2-core-cpu", help="hardware, for the file")
    args = parser.parse_args()
    catalog = read_source(args.data)
    records = [r for r in select(catalog.records, catalog.split, "val") if len(r.targets) > 1]
    samples = [load_sample(record, phrase="blood vessel") for record in records]
    rows = []
    for run in args.runs:
        rows.append({"run": Path(run).name, **score(Predictor.from_pretrained(run), samples)})
        print(rows[-1], flush=True)
    write_result(__file__, args.label, rows)


def score(predictor: Predictor, samples: list[Sample]) -> dict[str, float]:
    """Return means over images of what phrase and truth of the same and of other segments share."""
    found = np.array([score_image(predictor, sample) for sample in samples])
    right, other, same_mask, union = found.mean(axis=0)
    apart = found[:, 0] - found[:, 1]
    draws = np.random.default_rng(0).choice(apart, (10_000, len(apart))).mean(axis=1)
    low, high = np.quantile(draws, (0.025, 0.975))
    return {
        "images": len(samples),
        "phrases": sum(len(sample.phrases) for sample in samples),
        "right": round(float(right), 4),
        "other": round(float(other), 4),
        "apart": round(float(apart.mean()), 4),
        "apart_low": round(float(low), 4),
        "apart_high": round(float(high), 4),
        "masks_of_two_phrases": round(float(same_mask), 4),
        "union": round(float(union), 4),
    }


def score_image(predictor: Predictor, sample: Sample) -> tuple[float, float, float, float]:
    """Return mean Dice of right pairs, of wrong pairs, of two phrases' masks, and of the unions."""
    num = len(sample.phrases)
    answers = predictor.predict_batch(
        [sample.case_id] * num, [sample.image] * num, list(sample.phrases)
    )
    masks = [answer.mask for answer in answers]
    pairs = list(permutations(range(num), 2))
    right = np.mean([overlap(masks[i], sample.masks[i]) for i in range(num)])
    other = np.mean([overlap(masks[i], sample.masks[j]) for i, j in pairs])
    same = np.mean([overlap(masks[i], masks[j]) for i, j in pairs])
    union = overlap(np.any(masks, axis=0), sample.masks.any(axis=0))
    return float(right), float(other), float(same), union


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return dice(count(a, b))


if __name__ == "__main__":
    main()
