"""Time the loader of a fine-tuning against its model step, and weigh 100,000 records."""

import argparse
import io
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from accelerate import Accelerator
from benchmarks.results import write_result
from PIL import Image

from vasculora.core.report import Silent
from vasculora.core.runtime import build_accelerator, pick_device
from vasculora.core.types import Record, Target
from vasculora.data.packed import PackedRecords
from vasculora.data.sources import read_source
from vasculora.engine.loader import EpochLoader
from vasculora.recipes.config import FinetuneConfig, finetune_settings
from vasculora.recipes.setup import build_trainer, open_base, samples_of

HERE = Path(__file__).parent
SETS = {
    "arcade 512x512 PNG, rings": "arcade/syntax",
    "cimat 300x300 PNG": "cimat_angios",
    "chase 999x960 JPEG": "chase_db1/CHASEDB1",
}
LEVELS = ("none", "light", "strong")
WORKERS = (0, 1, 2)
MB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "../shared/data")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--images", type=int, default=16, help="of each set")
    parser.add_argument("--steps", type=int, default=8, help="timed training steps of each set")
    parser.add_argument("--repeats", type=int, default=3, help="epochs from the cache")
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--label", default="2-core-cpu", help="hardware, for the file")
    args = parser.parse_args()
    result: dict = {"model": args.model, "threads": torch.get_num_threads()}
    result |= {"load_average": [round(load, 1) for load in os.getloadavg()]}
    result["records"] = weigh(args.records)
    accelerator = build_accelerator(pick_device())
    for title, folder in SETS.items():
        result[title] = of_set(args, args.data / folder, accelerator)
        print(title, json.dumps(result[title]), flush=True)
    print(json.dumps(result, indent=2))
    write_result(__file__, args.label, result)


def of_set(args: argparse.Namespace, folder: Path, accelerator: Accelerator) -> dict:
    """Return the seconds of a step, of the limit and of every way to load, an image."""
    values = {"model": args.model, "data.path": str(folder), "data.allow_empty": True}
    config = finetune_settings(config_path=None, preset=None, overrides=(), values=values)
    records = read_source(folder).records[: args.images]
    found: dict = {"images": len(records), "limit": limit(records)}
    step, collate = model_step(config, records, accelerator, num_steps=args.steps)
    found["step"] = step
    for level in LEVELS:
        for num_workers in WORKERS:

            def build(level: str = level, num_workers: int = num_workers) -> EpochLoader:
                opened = open_base(config, accelerator.device, Silent())
                data = samples_of(config, opened, records, augment=level, cache_share=1.0)
                return EpochLoader(
                    data,
                    collate,
                    batch_size=config.trainer.batch_size,
                    seed=0,
                    num_workers=num_workers,
                    accelerator=accelerator,
                )

            key = f"{level}, {num_workers} workers"
            found[key] = load(build(), len(records), repeats=args.repeats)
            found[key]["step_over_load"] = ratio(step, found[key]["cached"], num_workers)
    return found


def limit(records: Sequence[Record]) -> dict:
    """Return what reading and decoding each image file takes, and nothing else."""

    def decode(record: Record) -> None:
        Image.open(io.BytesIO(record.image_path.read_bytes())).load()

    return told(*timed([lambda r=r: decode(r) for r in records]), 1)


def model_step(
    config: FinetuneConfig, records: Sequence[Record], accelerator: Accelerator, *, num_steps: int
) -> tuple[dict, Callable]:
    """Return what training steps take an image, and what makes batches."""
    opened = open_base(config, accelerator.device, Silent())
    trainer, loader = build_trainer(
        config, opened, samples_of(config, opened, records, augment="none"), accelerator
    )
    batches = list(loader.epoch(0))  # all of one size, where the images divide by it

    def step(index: int) -> None:
        trainer.run_epoch([batches[index % len(batches)]], lambda num_images, terms: None)

    step(0)
    seconds = timed([lambda i=i: step(i) for i in range(num_steps)])
    return told(*seconds, config.trainer.batch_size), opened.processor.batch


def load(loader: EpochLoader, num_images: int, *, repeats: int) -> dict:
    """Return what an epoch takes an image: the first, which decodes, and those from the cache."""

    def epoch(number: int) -> None:
        for _ in loader.epoch(number):
            pass

    next(iter(loader.epoch(0)))  # workers are started here; it decodes a few images
    first, again = timed([lambda: epoch(1)]), [lambda i=i: epoch(2 + i) for i in range(repeats)]
    return {"first": told(*first, num_images), "cached": told(*timed(again), num_images)}


def timed(calls: Sequence[Callable[[], None]]) -> tuple[list[float], list[float]]:
    """Return the seconds of each call, on the wall and of this process's CPU."""
    wall, cpu = [], []
    for call in calls:
        starts = time.perf_counter(), time.process_time()
        call()
        wall.append(time.perf_counter() - starts[0])
        cpu.append(time.process_time() - starts[1])
    return wall, cpu


def told(wall: Sequence[float], cpu: Sequence[float], num_images: int) -> dict:
    """Return median and range in milliseconds an image, and images a second."""
    milliseconds = [1e3 * seconds / num_images for seconds in wall]
    return {
        "wall_ms": round(statistics.median(milliseconds), 2),
        "range_ms": [round(min(milliseconds), 2), round(max(milliseconds), 2)],
        "cpu_ms": round(1e3 * statistics.median(cpu) / num_images, 2),
        "images_per_second": round(1e3 / statistics.median(milliseconds), 1),
    }


def ratio(step: dict, loading: dict, num_workers: int) -> float:
    """Return how many images are loaded while one is learnt from.

    By CPU time where one process does both, which a busy machine disturbs least; else on the wall.
    """
    clock = "wall_ms" if num_workers else "cpu_ms"
    return round(step[clock] / loading[clock], 1)


def weigh(num: int) -> dict:
    """Return what so many records take, as objects and packed, and what looking at them adds."""
    found = {}
    for kind, targets in KINDS.items():
        for how, keep in (("objects", tuple), ("packed", PackedRecords)):
            found[f"{kind}, {how}"] = in_fork(lambda k=keep, t=targets: weigh_one(k, t, num))
    return found


def weigh_one(keep: Callable, targets: Callable, num: int) -> dict:
    before = private_mb()
    kept = keep(
        Record(
            case_id=f"{i:06}",
            group=f"{i:06}",
            image_path=Path(f"/data/some/where/set/images/{i:06}.png"),
            targets=targets(i),
        )
        for i in range(num)
    )
    held = private_mb() - before
    return {"held_mb": round(held, 1), "worker_mb_by_epoch": in_fork(lambda: look(kept))}


def look(kept: Sequence[Record]) -> list[float]:
    """Return by how much a worker grows that looks at every record, after each of two epochs."""
    before, grown = private_mb(), []
    for _ in range(2):
        for index in range(len(kept)):
            _ = kept[index].case_id
        grown.append(round(private_mb() - before, 1))
    return grown


def in_fork(work: Callable) -> object:
    """Return what a forked process finds."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    process = context.Process(target=lambda: there.send(work()))
    process.start()
    found = here.recv()
    process.join()
    return found


def private_mb() -> float:
    """Return the memory that this process shares with no other."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) * 1024 / MB


def rings(i: int) -> tuple[Target, ...]:
    return tuple(
        Target(phrase=f"phrase {k}", polygons=(tuple(i + k + j / 4 for j in range(120)),))
        for k in range(3)
    )


KINDS = {
    "a mask file": lambda i: (Target(mask_path=Path(f"/data/some/where/set/masks/{i:06}.png")),),
    "three rings of 60 points": rings,
}


if __name__ == "__main__":
    main()
