"""Other people's models as they should be used, and losses that are closures of some kind."""

from functools import partial

import torch
import torch.nn.functional as F
from monai.inferers import sliding_window_inference
from monai.losses import DiceCELoss
from peft import LoraConfig, get_peft_model
from tests.engine.audit.zoo.carriers import Net, inputs, plain, truth
from tests.engine.audit.zoo.case import Case
from tests.engine.audit.zoo.others_models import IDS, clip, llama
from tests.engine.audit.zoo.others_monai import UNET, image, unet
from torch import Tensor
from torch.optim import LBFGS, AdamW

# --- other people's models


def monai_unet() -> Case:
    model, (x, y) = unet().train(), image()
    loss = DiceCELoss(softmax=True, to_onehot_y=True)
    return Case(model, lambda: loss(model(x), y), AdamW(model.parameters()), UNET)


def monai_windows() -> Case:
    model, (x, y) = unet(), image()
    loss = DiceCELoss(softmax=True, to_onehot_y=True)
    windows = partial(sliding_window_inference, roi_size=(8, 8), sw_batch_size=2, overlap=0.25)
    return Case(model, lambda: loss(windows(inputs=x, predictor=model), y), groups=UNET)


def clip_pairs() -> Case:
    model, x = clip(), torch.randn(2, 3, 8, 8)
    return Case(model, lambda: model(input_ids=IDS, pixel_values=x, return_loss=True).loss)


def lora_case(**more: object) -> Case:
    config = LoraConfig(r=2, target_modules=["q_proj", "down_proj"], lora_dropout=0.1, **more)
    model = get_peft_model(llama(), config).train()
    optimizer = AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    return Case(model, lambda: model(input_ids=IDS, labels=IDS).loss, optimizer)


def lora_rank_stabilised() -> Case:
    return lora_case(use_rslora=True, modules_to_save=["lm_head"])


def lora_decomposed() -> Case:
    return lora_case(use_dora=True)


def lora_under_checkpoints() -> Case:
    case = lora_case()
    case.model.gradient_checkpointing_enable({"use_reentrant": False})
    return case


# --- closures


def closure_that_clears() -> Case:
    model, x, y = Net(), inputs(), truth()

    def loss() -> Tensor:
        model.zero_grad()
        return F.mse_loss(model(x), y)

    return Case(model, loss)


def closure_that_draws() -> Case:
    model, x, y = Net(), inputs(), truth()

    def loss() -> Tensor:
        rows = torch.randperm(len(x))[:3]
        return F.mse_loss(model(x[rows]), y[rows])

    return Case(model, loss)


def closure_that_counts() -> Case:
    model, x, y, calls = Net(), inputs(), truth(), []

    def loss() -> Tensor:
        calls.append(len(calls))
        return F.mse_loss(model(x), y) * (1 + len(calls))

    return Case(model, loss)


def closure_of_two_batches() -> Case:
    """An iterator that ends: the first passes must do."""
    model = Net()
    batches = iter([(inputs(), truth())] * 2)

    def loss() -> Tensor:
        x, y = next(batches)
        return F.mse_loss(model(x), y)

    return Case(model, loss)


def closure_of_lbfgs() -> Case:
    """This optimizer's step wants the closure."""
    case = plain(Net())
    return Case(case.model, case.loss_fn, LBFGS(case.model.parameters(), lr=0.1, max_iter=2))


OTHER_WORKING = (
    monai_unet,
    monai_windows,
    clip_pairs,
    lora_rank_stabilised,
    lora_decomposed,
    lora_under_checkpoints,
    closure_that_clears,
    closure_that_draws,
    closure_that_counts,
    closure_of_two_batches,
    closure_of_lbfgs,
)
