"""Fine-tune nano and train a U-Net on the same few images, for the same time, and test both."""

import argparse
import os
import resource
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import torch
from benchmarks.learning.learners import METHODS, NAMES, Task, case_scores
from benchmarks.learning.sets import SETS, draw, read_set

from vasculora.core.io import read_json, write_json
from vasculora.core.runtime import versions

RESULTS = Path(__file__).parent / "results"

Plan = tuple[int, int, str]
"""Fold, number of images and method of a run."""


def main() -> None:
    args = _arguments()
    torch.set_num_threads(args.threads)
    records = read_set(args.set, args.shared)
    # all are drawn before the first is trained, so that an impossible size is told now
    drawn = {
        (fold, num): draw(args.set, records, fold=fold, num=num, seed=args.seed)
        for fold, num, _ in plans(args)
    }
    for fold, num, method in plans(args):
        name = f"{args.set}_fold{fold}_n{num}_{method}_seed{args.seed}"
        path = RESULTS / args.label / "runs" / f"{name}.json"
        settings = settings_of(args, method)
        if is_done(path, settings):
            print(f"{name}: done before", flush=True)
            continue
        keep = args.dir / args.label / name
        task = Task(
            drawn=drawn[fold, num],
            seconds=args.minutes * 60,
            seed=args.seed,
            base=args.base,
            overrides=tuple(args.override),
            unet_augment=args.unet_augment,
            unet_lr=args.unet_lr,
            unet_batch=args.unet_batch,
            unet_side=args.unet_side or None,
            everything_lr=args.everything_lr,
            keep=keep,
        )
        result = run_one(task, method)
        told = {"set": args.set, "fold": fold, "n": num, "method": method, "seed": args.seed}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, told | {"settings": settings} | result)
        means = {key: sum(c[key] for c in result["cases"]) / len(result["cases"]) for key in NAMES}
        scores = ", ".join(f"{key} {value:.4f}" for key, value in means.items())
        pace = result["steps"] / result["minutes"]
        print(
            f"{name}: {scores}; {pace:.0f} steps/min, {result['images_seen']} images, "
            f"peak {result['peak_mb_so_far']} MB",
            flush=True,
        )


def plans(args: argparse.Namespace) -> Iterator[Plan]:
    """Yield the runs, so that wherever it is stopped the methods have had the same."""
    for fold in args.folds:
        for num in args.sizes:
            for method in args.methods:
                yield fold, num, method


def settings_of(args: argparse.Namespace, method: str) -> dict[str, object]:
    """Return what a method's result depends on, beside its images; no path of the machine."""
    told: dict[str, object] = {"minutes": args.minutes, "threads": args.threads}
    if method in ("nano", "everything"):
        told |= {"base": Path(args.base).name, "overrides": sorted(args.override)}
        return told | ({"lr": args.everything_lr} if method == "everything" else {})
    told |= {"augment": args.unet_augment, "lr": args.unet_lr}
    return told | {"batch": args.unet_batch, "side": args.unet_side}


def is_done(path: Path, settings: dict[str, object]) -> bool:
    """Return whether a run is finished.

    Raises:
        ValueError: If it was made with other settings.
    """
    if not path.is_file():
        return False
    found = read_json(path)["settings"]
    if found != settings:
        raise ValueError(
            f"{path.name} was made with {found}, but {settings} are asked for. Give them a --label "
            "of their own."
        )
    return True


def run_one(task: Task, method: str) -> dict[str, object]:
    """Return what a run comes to; the test images are opened once, at its end."""
    load = round(os.getloadavg()[0], 2)
    cpu, wall = time.process_time(), time.perf_counter()
    learnt = METHODS[method](task)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    course = learnt.course
    return {
        "cases": case_scores(learnt.answerer, task.drawn.test),
        "minutes": round(course.seconds / 60, 3),
        "steps": course.steps,
        "images_seen": course.images,
        "parameters_trained": learnt.trained,
        "file_kib": learnt.file_bytes // 1024,
        "curve": course.curve,
        "about": learnt.about,
        "train": [record.case_id for record in task.drawn.train],
        "watched": [record.case_id for record in task.drawn.watched],
        "load_before": load,
        "cores_used": round(cpu / wall, 2),
        "peak_mb_so_far": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "date": str(date.today()),
        "versions": versions(),
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, required=True, help="folder that holds data/")
    parser.add_argument("--set", choices=SETS, required=True)
    parser.add_argument("--sizes", type=int, nargs="+", required=True, help="images to learn from")
    parser.add_argument("--minutes", type=float, default=10, help="of training, a run")
    parser.add_argument("--folds", type=int, nargs="+", help="from 0 on; all unless given")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["nano", "unet"])
    parser.add_argument("--base", default="nano", help="nano, or a base's folder")
    parser.add_argument("--override", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--unet-augment", choices=("none", "light", "strong"), default="light")
    parser.add_argument("--unet-lr", type=float, default=3e-3)
    parser.add_argument("--unet-batch", type=int, default=4)
    parser.add_argument(
        "--unet-side", type=int, help="long side it is shown; 0 for the image's own"
    )
    parser.add_argument("--everything-lr", type=float, default=5e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dir", type=Path, required=True, help="scratch, for trained weights")
    parser.add_argument("--label", required=True, help="hardware and commit, as 2-core-cpu_1a2b3c4")
    args = parser.parse_args()
    if args.unet_side is None:
        args.unet_side = SETS[args.set].unet_side or 0
    if args.folds is None:
        args.folds = list(range(SETS[args.set].num_folds))
    return args


if __name__ == "__main__":
    main()
