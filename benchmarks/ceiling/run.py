"""Measure the best Dice and clDice a perfect model could reach on real sets of vessels."""

import argparse
import time
from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path

import numpy as np
import torch
from benchmarks.results import write_result

from vasculora.core.io import read_mask_image
from vasculora.core.types import Record
from vasculora.data.dataset import load_sample
from vasculora.data.sources import read_source
from vasculora.metrics.ceiling import ceiling
from vasculora.metrics.thinning import centreline

HERE = Path(__file__).parent
RULES = ("nearest", "area", "full")
OCTA = "octa500_3m/OCTA-500/*/*labels/*.bmp"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "../shared/data")
    parser.add_argument("--num", type=int, default=12, help="masks of each set, drawn by the seed")
    parser.add_argument("--grids", type=int, nargs="+", default=[128, 256])
    parser.add_argument("--sides", type=int, nargs="+", default=[256, 512, 1024])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--label", default="2-core-cpu", help="hardware, for the file")
    args = parser.parse_args()
    result = {"num": args.num, "seed": args.seed, "threads": torch.get_num_threads(), "sets": {}}
    for name, masks in sets(args.data, args.num, args.seed).items():
        start = time.perf_counter()
        found = list(measure(list(masks), args.grids, args.sides))
        seconds = round(time.perf_counter() - start, 1)
        result["sets"][name] = {"rows": found, "seconds": seconds}
        for row in found:
            print(name, *row.values(), flush=True)
    write_result(__file__, args.label, result)


def sets(data: Path, num: int, seed: int) -> dict[str, Iterable[np.ndarray]]:
    """Return the masks of each set, opened when they are needed."""
    cimat = read_source(data / "cimat_angios").records
    arcade = read_source(data / "arcade" / "syntax").records
    chase = read_source(data / "chase_db1").records
    octa = sorted(data.glob(OCTA))
    return {
        "cimat_angios": whole(drawn(cimat, num, seed)),
        "arcade, all segments": whole(drawn(arcade, num, seed)),
        "arcade, one segment": single(drawn(arcade, num, seed), seed),
        "chase_db1": whole(drawn(chase, num, seed)),
        "octa500_3m": (read_mask_image(path) for path in drawn(octa, num, seed)),
    }


def drawn(items, num, seed):
    chosen = np.random.default_rng(seed).permutation(len(items))[:num]
    return [items[index] for index in sorted(chosen)]


def whole(records: Iterable[Record]) -> Iterator[np.ndarray]:
    for record in records:
        yield load_sample(record, phrase="vessel").masks.any(axis=0)


def single(records: Iterable[Record], seed: int) -> Iterator[np.ndarray]:
    """Yield the mask of one phrase of each image, drawn by the seed."""
    rng = np.random.default_rng(seed)
    for record in records:
        masks = load_sample(record, phrase="vessel").masks
        yield masks[rng.integers(len(masks))]


def measure(masks: list[np.ndarray], grids: list[int], sides: list[int]) -> Iterator[dict]:
    lines = [centreline(mask) for mask in masks]
    for grid, side in product(grids, sides):
        for rule in RULES:
            found = [
                ceiling(mask, rule, grid=grid, sam_size=side, line=line)
                for mask, line in zip(masks, lines, strict=True)
            ]
            row: dict = {"grid": grid, "side": side, "rule": rule, "num": len(found)}
            for name in ("dice", "cldice"):
                values = [getattr(one, name) for one in found]
                row |= {name: round(float(np.mean(values)), 4)}
                row |= {f"{name}_std": round(float(np.std(values)), 4)}
                row |= {f"{name}_min": round(min(values), 4)}
            yield row


if __name__ == "__main__":
    main()
