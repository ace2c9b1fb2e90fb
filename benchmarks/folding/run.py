"""Time LoRA forth and back, folded and as peft has it: a step of nano, and layers by width."""

import argparse
import statistics
import time

import torch
from benchmarks.audit.run import prepare
from benchmarks.results import write_result
from peft import LoraConfig
from peft.tuners import lora
from torch import nn

from vasculora.model import folding
from vasculora.model.folding import FoldedLinear

LAYERS = (
    (24, 72, 32768),
    (24, 96, 32768),
    (96, 24, 32768),
    (48, 192, 8192),
    (96, 288, 2048),
    (96, 384, 2048),
    (384, 96, 2048),
    (192, 768, 512),
    (144, 432, 16384),
    (288, 864, 4096),
    (576, 1728, 4096),
    (576, 2304, 4096),
    (1152, 3456, 1024),
)
"""In, out and tokens: nano's encoder with two images, and that of SAM 2 Hiera-large."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--label", default="2-core-cpu", help="hardware, for the file")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    step = step_of(args)
    folding.BREAK_EVEN = float("inf")  # every width is tried
    rows = [row_of(*layer, args) for layer in LAYERS]
    write_result(__file__, args.label, {"settings": vars(args), "step": step, "layers": rows})


def step_of(args: argparse.Namespace) -> dict[str, object]:
    """Return the ratio of a step of nano, two images, folded where training folds and nowhere."""
    trainer, batch, _ = prepare("nano", 2)
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(args.repeats):
        for name, break_even in WAYS.items():
            folding.BREAK_EVEN = break_even
            trainer.run_epoch([batch] * 2, lambda *_: None)
            start = time.perf_counter()
            trainer.run_epoch([batch] * 4, lambda *_: None)
            seconds[name].append((time.perf_counter() - start) / 4)
    row: dict[str, object] = {
        "peft ms": round(1e3 * statistics.median(seconds["peft"])),
        "folded to peft": ratio(seconds["folded"], seconds["peft"]),
    }
    print(row, flush=True)
    return row


WAYS = {"peft": 0.0, "folded": folding.BREAK_EVEN}
"""Weights of W to those of A and B up to which layers are folded."""


def row_of(width: int, out: int, tokens: int, args: argparse.Namespace) -> dict[str, object]:
    """Return the ratio of both times for one layer, timed in turns."""
    kinds = {"peft": lora.Linear, "folded": FoldedLinear}
    layers = {name: build(kind, width, out, args.rank) for name, kind in kinds.items()}
    x = torch.randn(1, tokens, width, requires_grad=True)
    grad = torch.randn(1, tokens, out)
    seconds: dict[str, list[float]] = {name: [] for name in layers}
    for _ in range(args.repeats):
        for name, layer in layers.items():
            start = time.perf_counter()
            layer(x).backward(grad)
            seconds[name].append(time.perf_counter() - start)
    row = {
        "in": width,
        "out": out,
        "tokens": tokens,
        "weights of W to A and B": round(width * out / (args.rank * (width + out)), 2),
        "peft ms": round(1e3 * statistics.median(seconds["peft"]), 2),
        "folded to peft": ratio(seconds["folded"], seconds["peft"]),
    }
    print(row, flush=True)
    return row


def ratio(times: list[float], others: list[float]) -> dict[str, float]:
    """Return the median ratio of times taken in turns, and where the middle 90 % of them lie."""
    cuts = statistics.quantiles([t / o for t, o in zip(times, others, strict=True)], n=20)
    return {name: round(cuts[i], 3) for name, i in (("median", 9), ("5 %", 0), ("95 %", 18))}


def build(kind: type[lora.Linear], width: int, out: int, rank: int) -> nn.Module:
    """Return a frozen linear layer with LoRA of one kind on it."""
    base = nn.Linear(width, out).requires_grad_(False)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0)
    layer = kind(base, "default", config=config, r=rank, lora_alpha=2 * rank)
    nn.init.normal_(layer.lora_B["default"].weight)
    return layer


if __name__ == "__main__":
    main()
