"""Time the scoring of an evaluation against its prediction, apart and together."""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from benchmarks.results import write_result

from vasculora.core.runtime import num_cores
from vasculora.core.types import Sample
from vasculora.data.synthetic.styles import draw_case
from vasculora.engine.evaluator import Answer, answers_of, evaluate, score_answers
from vasculora.metrics.panel import METRICS
from vasculora.model.predictor import Predictor

NAMES = tuple(METRICS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--cases", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--label", default="2-core-cpu", help="hardware, for the file")
    args = parser.parse_args()
    load = [round(one, 1) for one in os.getloadavg()]
    predictor = Predictor.from_pretrained(args.model)
    samples = [drawn(number) for number in range(args.cases)]
    ways = {
        "predict": lambda: list(answers_of(predictor, samples, batch_size=8)),
        "evaluate": lambda: evaluate(predictor, samples, batch_size=8, names=NAMES),
    }
    answers = ways["predict"]()  # also warms up
    ways["score, one thread"] = partial(one_by_one, answers)
    ways["score, all cores"] = lambda: score_answers(iter(answers), names=NAMES)
    times = {name: [] for name in ways}
    for _ in range(args.repeats):  # in turn, so that a busy minute falls on all of them
        for name, way in ways.items():
            times[name].append(seconds(way) * 1000 / args.cases)
    result: dict = {"model": args.model, "cases": args.cases, "size": 512, "cores": num_cores()}
    result |= {"threads": torch.get_num_threads(), "load_average": load}
    for name, found in times.items():
        result[name] = {
            "ms_a_case": round(statistics.median(found), 1),
            "least": round(min(found), 1),
            "most": round(max(found), 1),
        }
    apart = result["predict"]["ms_a_case"] + result["score, one thread"]["ms_a_case"]
    result["evaluate_over_one_after_the_other"] = round(result["evaluate"]["ms_a_case"] / apart, 2)
    print(json.dumps(result, indent=2))
    write_result(__file__, args.label, result)


def drawn(number: int) -> Sample:
    """Return an image with its first phrase, blood vessel, alone."""
    case = draw_case("xray", size=512, rng=np.random.default_rng(number), case_id=str(number))
    return replace(case, masks=case.masks[:1], phrases=case.phrases[:1])


def one_by_one(answers: list[Answer]) -> None:
    """Score one case after the other, so that one core at a time is busy."""
    for answer in answers:
        score_answers([answer], names=NAMES)


def seconds(way: Callable[[], object]) -> float:
    start = time.perf_counter()
    way()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
