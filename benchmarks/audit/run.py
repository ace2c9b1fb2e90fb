"""Time the gradient audit of nano, healthy and dead, beside one training pass."""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from benchmarks.results import write_result
from torch import Tensor

from vasculora.core.report import Silent
from vasculora.core.runtime import build_accelerator, pick_device
from vasculora.data.sources import read_source
from vasculora.data.synthetic.export import write_dataset
from vasculora.engine.audit.probe import audit_gradients
from vasculora.losses.objective import Objective
from vasculora.model.groups import GROUPS
from vasculora.recipes.config import finetune_settings
from vasculora.recipes.setup import build_trainer, open_base, samples_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--label", default="2-core-cpu", help="hardware, for the file")
    args = parser.parse_args()
    trainer, batch, groups = prepare(args.model, args.batch_size)
    text = Objective(
        trainer.objective.config.model_copy(update={"dice": 0.0, "focal": 0.0, "bce": 0.0}),
        sam_size=trainer.objective.sam_size,
    )
    losses: dict[str, Callable[[], Tensor]] = {
        "healthy": lambda: trainer.loss(batch),
        "text loss only": lambda: text(trainer.model(batch), batch).total(),
    }
    single = seconds(lambda: trainer.loss(batch).backward(), args.repeats)
    result = {"model": args.model, "batch_size": args.batch_size, "repeats": args.repeats}
    result |= {"threads": torch.get_num_threads(), "one pass": single}
    for name, loss in losses.items():
        work = partial(audit_gradients, trainer.model, loss, trainer.optimizer, groups)
        audit = seconds(work, args.repeats)
        result[name] = audit | {"passes": audit["median"] / single["median"]}
    print(json.dumps(result, indent=2))
    write_result(__file__, args.label, result)


def prepare(model: str, batch_size: int):
    """Return trainer, one batch and the groups, as a fine-tuning would make them."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        write_dataset(data, style="xray", num=10, size=256, seed=0)
        values = {"model": model, "data.path": str(data), "trainer.batch_size": batch_size}
        config = finetune_settings(config_path=None, preset=None, overrides=(), values=values)
        accelerator = build_accelerator(pick_device())
        opened = open_base(config, accelerator.device, Silent())
        records = read_source(config.data.path).records
        samples = samples_of(config, opened, records, augment="none")
        trainer, loader = build_trainer(config, opened, samples, accelerator)
        batch = next(iter(loader.epoch(0)))
    trainer.model.train()
    return trainer, batch, {name: GROUPS[name] for name in config.lora.trainable}


def seconds(work: Callable[[], object], repeats: int) -> dict[str, float]:
    """Return median, least and most of several runs, after one that does not count."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return {"median": statistics.median(times[1:]), "min": min(times[1:]), "max": max(times[1:])}


if __name__ == "__main__":
    main()
