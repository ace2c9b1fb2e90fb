"""Fine-tune one base on the same images with different trainable sets, and write a table."""

import argparse
import shutil
import tempfile
import time
from pathlib import Path

from benchmarks.results import write_result

from vasculora.core.report import Silent
from vasculora.data.sources import read_source
from vasculora.recipes.config import finetune_settings
from vasculora.recipes.finetune import finetune

SETS = (
    "mllm_lora",
    "mllm_lora,projector",
    "mask_decoder",
    "mllm_lora,projector,mask_decoder",
    "mllm_lora,projector,grounding_lora",
    "grounding_lora",
    "mllm_lora,projector,mask_decoder,grounding_lora",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--same", action="append", default=[], help="case ids of one group: 2,3")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--train-share", type=float, default=0.6)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--label", default="2-core-cpu", help="hardware, for the file")
    parser.add_argument("--sets", nargs="+", default=SETS)
    args = parser.parse_args()
    rows = []
    for seed in args.seeds:
        for trainable in args.sets:
            rows.append(run_one(args, trainable, seed))
            print(rows[-1], flush=True)
    write_result(__file__, args.label, rows)


def run_one(args: argparse.Namespace, trainable: str, seed: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "data")
        shutil.copytree(args.data, data)
        write_groups(data, args.same)
        settings = finetune_settings(
            config_path=None,
            preset=None,
            overrides=(),
            values={
                "model": args.model,
                "data.path": str(data),
                "data.train_share": args.train_share,
                "trainer.epochs": args.epochs,
                "lora.trainable": trainable.split(","),
                "seed": seed,
            },
        )
        start = time.perf_counter()
        tracker = finetune(settings, Path(folder, "run"), report=Silent())
        minutes = (time.perf_counter() - start) / 60
        adapter = Path(folder, "run", "adapter", "adapter_model.safetensors")
        return {
            "trainable": trainable,
            "seed": seed,
            "baseline": round(tracker.baseline["dice"], 4),
            "best": round(tracker.best["val_dice"], 4),
            "last": round(tracker.epochs[-1]["val_dice"], 4),
            "adapter_kib": adapter.stat().st_size // 1024,
            "minutes": round(minutes, 2),
        }


def write_groups(data: Path, same: list[str]) -> None:
    """Keep images of one run together; every other image is its own group."""
    first = {case: names.split(",")[0] for names in same for case in names.split(",")}
    lines = [f"{r.case_id},{first.get(r.case_id, r.case_id)}" for r in read_source(data).records]
    (data / "groups.csv").write_text("\n".join(["image,group", *lines]) + "\n")


if __name__ == "__main__":
    main()
