"""Open a synthetic official checkpoint in fresh processes: peak memory and time, beside the limits.

Each opening is a process of its own, started by this program with --open.
"""

import argparse
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from benchmarks.results import write_result
from safetensors.torch import load_file
from tests.model.official import exporting
from tests.model.weights.memory import watch_memory
from torch import Tensor

from vasculora.model.base import read_base
from vasculora.model.official.config import OfficialConfig, Sam2Geometry
from vasculora.model.sa2va import Sa2VA
from vasculora.model.weights.files import weight_files

GB = 1e9
MAX_SHARD = 500_000_000
PIECE = 2**20
BAR = 1.15
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
VISION = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "image_size": 448,
    "qkv_bias": True,
    "qk_normalization": False,
    "norm_type": "layer_norm",
}
LANGUAGE = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "vocab_size": 64_000,
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, required=True, help="scratch folder, made and removed")
    parser.add_argument("--keep", action="store_true", help="leave the checkpoint there")
    parser.add_argument("--layers", type=int, default=9, help="of the language model")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--label", default="2-core-cpu", help="hardware, for the file")
    parser.add_argument("--open", choices=OPENERS, help="open it once in this process")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="with --open")
    args = parser.parse_args()
    if args.open:
        print(json.dumps(open_once(args.open, args.dir, DTYPES[args.dtype])))
        return
    args.dir.mkdir(parents=True)
    try:
        result = measure(args)
    finally:
        if not args.keep:
            shutil.rmtree(args.dir)
    write_result(__file__, args.label, result)


# The checkpoint.


def write_checkpoint(folder: Path, *, layers: int) -> list[Path]:
    """Write a folder like Sa2VA-InternVL's, of random float32 weights, and return its shards."""
    language = LANGUAGE | {"num_hidden_layers": layers}
    config = exporting.internvl_config(language, VISION) | {"force_image_size": 448}
    exporting.write_config(folder, config)
    exporting.write_tokenizer(folder)
    described = exporting.describe(folder, sam2=Sam2Geometry())
    files = exporting.write_shards(folder, described, max_bytes=MAX_SHARD)
    for file in files:  # only what is on the disk can be dropped from memory
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
    return files


def prepare_cache(files: Sequence[Path], cache: str) -> None:
    """Have the system hold none of the files in memory (cold) or all of them (warm)."""
    for file in files:
        with file.open("rb", buffering=0) as opened:
            if cache == "cold":
                os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            else:
                while opened.read(PIECE):
                    pass


# Ways to open it, each in a process of its own.


def open_ours(folder: Path, dtype: torch.dtype) -> list[Tensor]:
    model = Sa2VA.from_pretrained(folder, dtype=dtype, device="cpu")
    return [*model.parameters(), *model.buffers()]


def open_naively(folder: Path, dtype: torch.dtype) -> list[Tensor]:
    """Read every shard into one dict, build the model, copy, convert."""
    stored = {}
    for file in weight_files(folder):
        stored |= load_file(file)
    base = read_base(folder, OfficialConfig())
    model = Sa2VA(**base.settings)
    origins = base.origins(model.state_dict(), stored)
    model.load_state_dict(
        {ours: o.take([stored[name] for name in o.names]) for ours, o in origins.items()}
    )
    model = model.to(dtype)
    return [*model.parameters(), *model.buffers()]


def read_plainly(folder: Path, dtype: torch.dtype) -> list[Tensor]:
    """Do what no opening can do without: read every byte, fill as much memory as the model takes.

    The files hold float32.
    """
    spare, filled = bytearray(PIECE), []
    for file in weight_files(folder):
        with file.open("rb", buffering=0) as opened:
            while opened.readinto(spare):
                pass
        filled.append(torch.ones(file.stat().st_size * dtype.itemsize // 4, dtype=torch.uint8))
    return filled


OPENERS: dict[str, Callable[[Path, torch.dtype], list[Tensor]]] = {
    "limit": read_plainly,
    "ours": open_ours,
    "naive": open_naively,
}

CASES = [
    (dtype, cache, opener)
    for dtype, cache, opener in itertools.product(DTYPES, ("cold", "warm"), OPENERS)
    if (cache, opener) != ("cold", "naive")
]


def open_once(opener: str, folder: Path, dtype: torch.dtype) -> dict[str, float]:
    with watch_memory() as memory:
        starts = time.perf_counter(), time.process_time()
        tensors = OPENERS[opener](folder, dtype)
        seconds = time.perf_counter() - starts[0], time.process_time() - starts[1]
    return {
        "wall_seconds": seconds[0],
        "cpu_seconds": seconds[1],
        "model_gb": sum(tensor.numel() * tensor.element_size() for tensor in tensors) / GB,
        "anonymous_before_gb": memory.before["RssAnon"] / GB,
        "anonymous_growth_gb": memory.anonymous / GB,
        "mapped_files_growth_gb": memory.mapped / GB,
        "longest_ms_between_looks": 1e3 * memory.longest_gap,
    }


# What is measured.


def measure(args: argparse.Namespace) -> dict[str, object]:
    files = write_checkpoint(args.dir, layers=args.layers)
    shard = max(file.stat().st_size for file in files) / GB
    runs: dict[tuple[str, ...], list[dict[str, float]]] = {}
    for _ in range(args.repeats):  # by turns, so that a busy minute meets every kind
        for case in CASES:
            dtype, cache, opener = case
            prepare_cache(files, cache)
            runs.setdefault(case, []).append(open_apart(args.dir, opener, dtype))
            print(*case, runs[case][-1], flush=True)
    return {
        "layers": args.layers,
        "threads": torch.get_num_threads(),
        "checkpoint_gb": sum(file.stat().st_size for file in files) / GB,
        "num_shards": len(files),
        "largest_shard_gb": shard,
        "repeats": args.repeats,
        **{", ".join(case): summary(found, shard) for case, found in runs.items()},
    }


def open_apart(folder: Path, opener: str, dtype: str) -> dict[str, float]:
    """Return what a fresh process measures that opens the checkpoint once."""
    command = [sys.executable, "-m", "benchmarks.opening.run", "--dir", str(folder)]
    command += ["--open", opener, "--dtype", dtype]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def summary(runs: list[dict[str, float]], shard_gb: float) -> dict[str, object]:
    model_gb = runs[0]["model_gb"]
    most = max(run["anonymous_growth_gb"] for run in runs)
    bar = BAR * model_gb + shard_gb
    told = {"bar_gb": round(bar, 4), "within_bar": most <= bar, "peak_to_model": most / model_gb}
    return told | {name: spread([run[name] for run in runs]) for name in runs[0]}


def spread(values: list[float]) -> dict[str, float]:
    found = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: round(value, 4) for name, value in found.items()}


if __name__ == "__main__":
    main()
