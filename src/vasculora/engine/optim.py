"""Optimizer and learning-rate schedule: AdamW, linear warm-up, cosine to zero."""

import math
from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, Field
from torch.nn import Parameter
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR


class OptimConfig(BaseModel):
    """How big a step is, over time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lr: float = Field(default=1e-4, ge=0)
    """Highest learning rate."""
    weight_decay: float = Field(default=0.01, ge=0)
    """AdamW's decoupled weight decay."""
    warmup: float = Field(default=0.1, ge=0, lt=1)
    """Share of all steps over which the rate rises from zero."""


def build_optimizer(params: Iterable[Parameter], *, lr: float, weight_decay: float) -> Optimizer:
    """Return AdamW over the trainable parameters (Loshchilov and Hutter 2019).

    Biases and norms do not decay.
    """
    decayed: list[Parameter] = []
    kept: list[Parameter] = []
    for param in params:
        (decayed if param.ndim > 1 else kept).append(param)
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]
    return AdamW([group for group in groups if group["params"]], lr=lr)


def build_schedule(optimizer: Optimizer, *, num_steps: int, warmup: float) -> LambdaLR:
    """Return a schedule that rises linearly at first and then falls to zero as a cosine."""
    num_warmup = round(num_steps * warmup)

    def factor(step: int) -> float:
        if step < num_warmup:
            return (step + 1) / num_warmup
        done = (step - num_warmup) / max(num_steps - num_warmup, 1)
        return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))

    return LambdaLR(optimizer, factor)
