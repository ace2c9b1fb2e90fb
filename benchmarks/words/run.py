"""Train a small base on pictures for words and look where the words are lost."""

import argparse
import time
from dataclasses import replace

import numpy as np
import torch
from benchmarks.results import write_result
from torch import Tensor, nn

from vasculora.core.report import Silent
from vasculora.core.runtime import set_seed
from vasculora.core.types import Sample
from vasculora.data.synthetic.choice import choose
from vasculora.data.synthetic.drawn import DrawnDataset
from vasculora.data.synthetic.probes import PROBES, draw_probe
from vasculora.data.synthetic.shapes import draw_shapes
from vasculora.data.synthetic.styles import all_phrases, draw_case
from vasculora.engine.optim import build_optimizer, build_schedule
from vasculora.losses.objective import Objective
from vasculora.model.mllm import token_states
from vasculora.model.processor import Processor
from vasculora.model.prompts import PromptConfig
from vasculora.model.sa2va import Sa2VA
from vasculora.model.scratch import (
    ArchitectureConfig,
    build_from_scratch,
    processor_config,
    train_tokenizer,
)
from vasculora.recipes.pretrain import PretrainConfig
from vasculora.recipes.words import teach_words

STYLES = ("sides", "tubes", "mixed")
ASKED = ("red circle", "blue ring", "left shape", "right shape", "dark vessel", "bright vessel")
NUM_PROBES = 24


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--words", choices=("first", "together"), required=True)
    parser.add_argument("--rate", type=float, required=True, help="language model's share of it")
    parser.add_argument("--side", type=int, default=128, help="of the images, in pixels")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--every", type=int, default=100, help="steps between two looks")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--label", default="2-core-cpu", help="hardware, for the file")
    args = parser.parse_args()
    set_seed(args.seed)
    model, processor = build(args.side)
    if args.words == "first":
        pictures = DrawnDataset(
            400, size=args.side, seed=args.seed, shapes_share=0.2, max_phrases=1
        )
        teach_words(
            model, processor, all_phrases(), pictures, steps=400, seed=args.seed, report=Silent()
        )
    looks = train(model, processor, args)
    told = {"settings": vars(args), "looks": looks}
    suffix = f"_{args.words}_{args.rate:g}_{args.seed}"
    write_result(__file__, args.label, told, suffix=suffix)


def build(side: int) -> tuple[Sa2VA, Processor]:
    """Return a fresh small base and its door, with the targets that pretraining has."""
    arch, prompt = ArchitectureConfig(sam_size=side), PromptConfig()
    tokenizer = train_tokenizer(all_phrases(), prompt, vocab_size=arch.vocab_size)
    config = processor_config(arch).model_copy(update={"target": "area"})
    return build_from_scratch(arch, tokenizer), Processor(tokenizer, config, prompt)


def train(model: Sa2VA, processor: Processor, args: argparse.Namespace) -> list[dict[str, float]]:
    """Train on pictures for words and return what was seen at each look."""
    config = PretrainConfig()
    objective = Objective(config.objective, sam_size=args.side)
    language = list(model.mllm.parameters())
    rest = [param for name, param in model.named_parameters() if not name.startswith("mllm.")]
    optimizers = [
        build_optimizer(params, lr=rate * config.optim.lr, weight_decay=config.optim.weight_decay)
        for params, rate in ((language, args.rate), (rest, 1.0))
    ]
    schedules = [build_schedule(each, num_steps=10**6, warmup=150e-6) for each in optimizers]
    looks, start = [], time.perf_counter()
    for step in range(args.steps + 1):
        if step % args.every == 0:
            look = {"step": step, "seconds": round(time.perf_counter() - start, 1)}
            looks.append(look | heard(model, processor, args.side))
            print(looks[-1], flush=True)
        batch = processor.batch([draw(args, 4 * step + index) for index in range(4)])
        loss = objective(model.train()(batch), batch).total()
        model.zero_grad()
        torch.autograd.backward([loss])
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for each in (*optimizers, *schedules):
            each.step()
    return looks


def draw(args: argparse.Namespace, index: int) -> Sample:
    """Return a picture in which words set things apart: shapes or vessels, half and half."""
    rng = np.random.default_rng([args.seed, index])
    if rng.random() < 0.5:
        sample = draw_shapes(size=args.side, rng=rng, case_id=str(index))
    else:
        style = str(rng.choice(STYLES))
        sample = draw_case(style, size=args.side, rng=rng, case_id=str(index))
    return choose(sample, rng, most=4)


@torch.no_grad()
def heard(model: Sa2VA, processor: Processor, side: int) -> dict[str, float]:
    """Return how far states at `[SEG]` differ by phrase, and each probe's share on the right thing.

    The former is the mean distance from the mean state over the mean length; the latter the
    probability on what was asked over that on all of a picture's things.
    """
    model.eval()
    picture = draw_shapes(size=side, rng=np.random.default_rng(3), case_id="words")
    masks = np.repeat(picture.masks[:1], len(ASKED), axis=0)
    batch = processor.batch([replace(picture, phrases=ASKED, masks=masks)])
    states = token_states(model.mllm, model.family, batch)[0][batch.labels == model.seg_token_id]
    found = {"states differ by": _spread(states)}
    for name in PROBES:
        shares = []
        for index in range(NUM_PROBES):
            sample = draw_probe(name, np.random.default_rng([2**31, index]), side)
            logits = model(processor.batch([sample])).mask_logits[:, None].float()
            size = sample.masks.shape[1:]
            probs = nn.functional.interpolate(logits, size=size, mode="bilinear").sigmoid()
            any_of_them = sample.masks.any(axis=0)
            for prob, mask in zip(probs[:, 0].numpy(), sample.masks, strict=True):
                shares.append(prob[mask].sum() / prob[any_of_them].sum())
        found[name] = round(float(np.mean(shares)), 3)
    return found


def _spread(states: Tensor) -> float:
    apart = (states - states.mean(dim=0)).norm(dim=1).mean()
    return round(float(apart / states.norm(dim=1).mean()), 3)


if __name__ == "__main__":
    main()
