"""Train one step of LoRA in SAM 2's Hiera-large, random weights, and write what it takes."""

import argparse
import json
import multiprocessing
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from statistics import median
from typing import Any, cast

import numpy as np
import torch
from benchmarks.results import write_result

from vasculora.core.config import load_config
from vasculora.data.synthetic.styles import all_phrases, draw_case
from vasculora.engine.audit.probe import audit_gradients
from vasculora.losses.objective import Objective, ObjectiveConfig
from vasculora.model.groups import GROUPS
from vasculora.model.lora import attach
from vasculora.model.official.config import Sam2Geometry, grounding_config
from vasculora.model.processor import Processor
from vasculora.model.prompts import SEG_TOKEN, PromptConfig
from vasculora.model.sa2va import Sa2VA
from vasculora.model.scratch import (
    ArchitectureConfig,
    build_from_scratch,
    processor_config,
    train_tokenizer,
)
from vasculora.recipes.config import PRESETS_DIR, FinetuneConfig

PRESETS = ("light", "grounding_lora")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=2, help="timed steps")
    parser.add_argument("--side", type=int, default=1024, help="of the square SAM 2 sees")
    parser.add_argument("--label", default="2-core-cpu", help="hardware, for the file")
    args = parser.parse_args()
    rows = []
    for preset in PRESETS:
        # peak memory is a process's own, so each preset gets a fresh one
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            rows.append(pool.submit(one_preset, preset, args.repeats, args.side).result())
        print(json.dumps(rows[-1], indent=2), flush=True)
    write_result(__file__, args.label, rows)


def one_preset(preset: str, repeats: int, side: int) -> dict[str, Any]:
    torch.manual_seed(0)
    model, processor = build(side)
    settings = load_config(
        FinetuneConfig, PRESETS_DIR / f"{preset}.yaml", overrides=(), values={"data.path": "."}
    )
    peft = attach(model, settings.lora)
    sample = draw_case("cine", size=512, rng=np.random.default_rng(0), case_id="0")
    batch = processor.batch([sample])
    objective = Objective(ObjectiveConfig(), sam_size=side)
    before = peak_gb()

    def loss() -> torch.Tensor:
        return objective(peft(batch), batch).total()

    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        loss().backward()
        seconds.append(time.perf_counter() - start)
        peft.zero_grad(set_to_none=True)
    peak = peak_gb()
    groups = {name: GROUPS[name] for name in settings.lora.trainable}
    learning = audit_gradients(peft, loss, groups=groups).groups
    return {
        "preset": preset,
        "side": side,
        "threads": torch.get_num_threads(),
        "weights": sum(p.numel() for p in peft.parameters()),
        "trainable": {group.name: group.num_parameters for group in learning},
        "reached": {group.name: group.num_touched for group in learning},
        "states": {group.name: group.state for group in learning},
        "peak_gb_with_weights": round(before, 2),
        "peak_gb_with_a_step": round(peak, 2),
        "seconds_a_step": round(median(seconds), 1),
    }


def build(side: int) -> tuple[Sa2VA, Processor]:
    """Return Hiera-large under a tiny language model, all random, and its processor."""
    arch, prompt = ArchitectureConfig(), PromptConfig()
    tokenizer = train_tokenizer(all_phrases(), prompt, vocab_size=arch.vocab_size)
    small = build_from_scratch(arch, tokenizer)
    model = Sa2VA(
        family="internvl",
        mllm=cast(dict[str, Any], small.settings["mllm"]),
        grounding=grounding_config(Sam2Geometry(image_size=side)),
        seg_token_id=int(tokenizer.convert_tokens_to_ids(SEG_TOKEN)),
    )
    config = processor_config(arch).model_copy(update={"sam_size": side, "mask_size": side // 4})
    return model, Processor(tokenizer, config, prompt)


def peak_gb() -> float:
    """Return the most memory this process has held, in GB of 10^9 bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


if __name__ == "__main__":
    main()
