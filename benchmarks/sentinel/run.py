"""Time training steps with and without the sentinel, interleaved, and write ratio and spread."""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from benchmarks.results import write_result

from vasculora.core.report import Silent
from vasculora.core.runtime import build_accelerator, pick_device
from vasculora.core.types import Batch
from vasculora.data.sources import read_source
from vasculora.data.synthetic.export import write_dataset
from vasculora.engine.sentinel import checksums
from vasculora.engine.trainer import Trainer
from vasculora.model.groups import trainable_groups
from vasculora.recipes.config import finetune_settings
from vasculora.recipes.setup import build_trainer, open_base, samples_of
from vasculora.recipes.watch import build_sentinel

Pair = tuple[list[float], list[float]]

NUM_WARM_UP = 5
NUM_DRAWS = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--steps", type=int, default=200, help="timed steps of each kind")
    parser.add_argument("--label", default="2-core-cpu", help="hardware, for the file")
    args = parser.parse_args()
    trainer, batches, watch = build(args.model, args.batch_size, num_steps=args.steps)
    wall, cpu = time_steps(trainer, batches, watch, num_steps=args.steps)
    row = {
        "model": args.model,
        "batch_size": args.batch_size,
        "steps_each": args.steps,
        "threads": torch.get_num_threads(),
        "trainable": sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
        "one_look_ms": round(1e3 * time_look(trainer), 3),
        "wall": compare(*wall),
        "cpu": compare(*cpu),
    }
    print(json.dumps(row, indent=2))
    write_result(__file__, args.label, row)


def build(
    model: str, batch_size: int, *, num_steps: int
) -> tuple[Trainer, list[Batch], Callable[[bool], None]]:
    """Return a trainer as `finetune` makes it, real batches, and a switch for its sentinel."""
    with tempfile.TemporaryDirectory() as folder:
        write_dataset(Path(folder, "set"), style="xray", num=8, size=256, seed=0)
        values = {"model": model, "data.path": f"{folder}/set", "trainer.batch_size": batch_size}
        values |= {"trainer.epochs": 2 * num_steps}  # so the rate never falls to zero
        config = finetune_settings(config_path=None, preset=None, overrides=(), values=values)
        accelerator = build_accelerator(pick_device())
        opened = open_base(config, accelerator.device, Silent())
        records = read_source(config.data.path).records
        data = samples_of(config, opened, records, augment="none")
        trainer, loader = build_trainer(config, opened, data, accelerator)
        batches = list(loader.epoch(0))
        sentinel = build_sentinel(config, opened, data, trainer.optimizer, warn=print)

    def watch(on: bool) -> None:
        trainer.sentinel = sentinel if on else None

    return trainer, batches, watch


def time_steps(
    trainer: Trainer, batches: list[Batch], watch: Callable[[bool], None], *, num_steps: int
) -> tuple[Pair, Pair]:
    """Return the seconds of steps without and with the sentinel, in the order on off off on.

    By the clock on the wall and, since a busy machine disturbs that one, by the process's own.
    """
    wall: Pair = ([], [])
    cpu: Pair = ([], [])

    def stream() -> Iterator[Batch]:
        for index in range(NUM_WARM_UP):
            yield batches[index % len(batches)]
        for pair in range(num_steps):
            for on in (False, True) if pair % 2 else (True, False):
                watch(on)
                starts = time.perf_counter(), time.process_time()
                yield batches[pair % len(batches)]
                wall[on].append(time.perf_counter() - starts[0])
                cpu[on].append(time.process_time() - starts[1])

    watch(True)
    trainer.run_epoch(stream(), lambda num_images, terms: None)
    return wall, cpu


def compare(without: list[float], watched: list[float]) -> dict[str, object]:
    """Return medians and quartiles of both, and how they compare."""
    return {
        "median_without_ms": round(1e3 * statistics.median(without), 3),
        "median_with_ms": round(1e3 * statistics.median(watched), 3),
        "quartiles_without_ms": [round(1e3 * q, 3) for q in statistics.quantiles(without)],
        "quartiles_with_ms": [round(1e3 * q, 3) for q in statistics.quantiles(watched)],
        "ratio_of_medians": round(statistics.median(watched) / statistics.median(without), 4),
        "ratio_95_percent": [round(bound, 4) for bound in spread(without, watched)],
        "ratio_of_sums": round(sum(watched) / sum(without), 4),
    }


def spread(without: list[float], watched: list[float]) -> tuple[float, float]:
    """Return the bootstrap's 95 % interval of the ratio of medians, drawing pairs."""
    pairs = np.array([without, watched])
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, pairs.shape[1], (NUM_DRAWS, pairs.shape[1]))
    medians = np.median(pairs[:, drawn], axis=2)
    low, high = np.quantile(medians[1] / medians[0], [0.025, 0.975])
    return float(low), float(high)


def time_look(trainer: Trainer) -> float:
    """Return the median seconds of one look at all trainable weights."""
    groups = trainable_groups(trainer.model)
    seconds = []
    for _ in range(50):
        start = time.perf_counter()
        checksums(groups)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


if __name__ == "__main__":
    main()
