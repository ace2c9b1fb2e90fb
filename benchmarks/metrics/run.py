"""Time the whole panel on drawn 512 x 512 cases, share by share, alone and two at a time."""

import argparse
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from benchmarks.results import write_result
from scipy.ndimage import distance_transform_edt, gaussian_filter

from vasculora.data.synthetic.styles import draw_case
from vasculora.metrics.panel import METRICS, Comparison, score, score_case

STYLES = ("xray", "fundus")
LIMIT_MS = 150


class Case(NamedTuple):
    pred: np.ndarray
    mask: np.ndarray
    prob: np.ndarray
    fov: np.ndarray | None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--cases", type=int, default=8, help="of each style")
    parser.add_argument("--repeats", type=int, default=5, help="of each case")
    parser.add_argument("--label", default="2-core-cpu", help="hardware, for the file")
    args = parser.parse_args()
    result: dict = {"size": args.size, "limit_ms": LIMIT_MS}
    result |= {"load_average": [round(load, 1) for load in os.getloadavg()]}
    sets = {}
    for style in STYLES:
        cases = [noisy_case(style, args.size, seed) for seed in range(args.cases)]
        sets[style] = cases
        sets[f"{style}, in a disc of view"] = [c._replace(fov=disc(args.size)) for c in cases]
    for title, cases in sets.items():
        result[title] = of_set(cases, args.repeats)
        print(title, json.dumps(result[title]), flush=True)
    result["two at a time"] = together([*sets["xray"], *sets["fundus"]], args.repeats)
    print("two at a time", json.dumps(result["two at a time"]), flush=True)
    write_result(__file__, args.label, result)


def noisy_case(style: str, size: int, seed: int) -> Case:
    """Return a drawn tree, and a prediction that misses parts, invents others and is unsure."""
    rng = np.random.default_rng(seed)
    mask = draw_case(style, size=size, rng=rng, case_id=f"{seed}").masks[0]
    depth = distance_transform_edt(mask) - distance_transform_edt(~mask)
    fine, coarse = (smooth(rng, size, radius) for radius in (3, 20))
    logits = 0.9 * depth - 0.5 + 1.2 * fine + 0.8 * coarse + 0.3 * rng.standard_normal((size, size))
    prob = (1 / (1 + np.exp(-np.clip(logits, -30, 30)))).astype(np.float32)
    return Case(prob > 0.5, mask, prob, None)


def smooth(rng: np.random.Generator, size: int, radius: float) -> np.ndarray:
    """Return a smooth random field of mean 0 and spread 1."""
    field = gaussian_filter(rng.standard_normal((size, size)), radius)
    return field / field.std()


def disc(size: int) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size] - (size - 1) / 2
    return rows**2 + columns**2 < (0.49 * size) ** 2


def of_set(cases: Sequence[Case], repeats: int) -> dict:
    """Return the time of all scores, and of each when they are found in the table's order."""
    run(cases[0])  # imports are late
    wall, cpu = timed([lambda c=case: run(c) for case in cases for _ in range(repeats)])
    shares: dict[str, list[float]] = {name: [] for name in METRICS}
    for case in [case for case in cases for _ in range(repeats)]:
        comparison = Comparison(**case._asdict())
        for name in METRICS:
            shares[name] += timed([lambda c=comparison, n=name: score(c, [n])])[1]
    scores = [run(case) for case in cases]
    return {
        "cases": len(cases),
        "foreground": round(float(np.mean([case.mask.mean() for case in cases])), 4),
        "dice": round(float(np.mean([found["dice"] for found in scores])), 3),
        "wall_ms": told(wall),
        "cpu_ms": told(cpu),
        "share_cpu_ms": {name: round(statistics.median(ms), 2) for name, ms in shares.items()},
    }


def run(case: Case) -> dict[str, float | None]:
    return score_case(case.pred, case.mask, prob=case.prob, fov=case.fov)


def together(cases: Sequence[Case], repeats: int) -> dict:
    """Return milliseconds a case of one thread, two threads and two processes."""
    context = multiprocessing.get_context("fork")
    found = {"one": [], "two threads": [], "two processes": []}
    with (
        ThreadPoolExecutor(1) as one,
        ThreadPoolExecutor(2) as threads,
        ProcessPoolExecutor(2, mp_context=context) as processes,
    ):
        pools: dict[str, Executor] = {
            "one": one,
            "two threads": threads,
            "two processes": processes,
        }
        for _ in range(repeats):  # in turn, so that a busy moment falls on all alike
            for name, pool in pools.items():
                wall, _ = timed([lambda p=pool: list(p.map(run, cases))])
                found[name].append(wall[0] / len(cases))
    return {name: told(values) for name, values in found.items()}


def timed(calls: Sequence[Callable[[], object]]) -> tuple[list[float], list[float]]:
    """Return the milliseconds of each call, on the wall and of this process's CPU."""
    wall, cpu = [], []
    for call in calls:
        starts = time.perf_counter(), time.process_time()
        call()
        wall.append(1e3 * (time.perf_counter() - starts[0]))
        cpu.append(1e3 * (time.process_time() - starts[1]))
    return wall, cpu


def told(milliseconds: Sequence[float]) -> dict:
    low, high = np.percentile(milliseconds, [5, 95])
    return {
        "median": round(statistics.median(milliseconds), 1),
        "from_5_to_95": [round(float(low), 1), round(float(high), 1)],
    }


if __name__ == "__main__":
    main()
