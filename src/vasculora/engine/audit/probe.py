"""Run a loss once, see which weights its gradient reaches, and put everything back."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from vasculora.core.runtime import restore_rng_state, rng_state
from vasculora.engine.audit.report import AuditReport, GroupReport

NOISE_FLOOR = 1e-10
"""Gradients below this share of the largest one are float noise: softmax cannot see a key's
bias."""


def audit_gradients(
    model: nn.Module,
    loss_fn: Callable[[], Tensor],
    groups: Mapping[str, Mapping[str, Parameter]],
) -> AuditReport:
    """Return, group by group, which trainable weights the loss can move.

    LoRA's `lora_A` gets an exactly zero gradient as long as `lora_B` is zero, as it is at the
    start. So every all-zero `lora_B` is nudged for the probe; a path that is cut stays cut.
    Weights, gradients, random numbers and training mode are put back.

    Args:
        model: The model, as it is about to be trained.
        loss_fn: Runs it on a real batch and returns the loss.
        groups: Trainable weights by group and name.
    """
    with _restored(model), _nudged(groups):
        model.train()
        for param in model.parameters():
            param.grad = None
        loss = loss_fn()
        if loss.requires_grad:
            loss.backward()
        floor = NOISE_FLOOR * max(
            (_peak(p) for g in groups.values() for p in g.values()), default=0
        )
        return AuditReport(groups=tuple(_report(n, g, floor) for n, g in groups.items()))


def _report(name: str, params: Mapping[str, Parameter], floor: float) -> GroupReport:
    counts = {"touched": 0, "zero": 0, "none": 0, "nonfinite": 0}
    squares = 0.0
    for param in params.values():
        state = _state(param, floor)
        counts[state] += param.numel()
        if state == "touched" and param.grad is not None:
            squares += float(param.grad.float().square().sum())
    return GroupReport(
        name=name,
        num_parameters=sum(counts.values()),
        grad_norm=squares**0.5,
        **{f"num_{state}": count for state, count in counts.items()},
    )


def _state(param: Parameter, floor: float) -> str:
    if param.grad is None:
        return "none"
    if not torch.isfinite(param.grad).all():
        return "nonfinite"
    return "touched" if _peak(param) > floor else "zero"


def _peak(param: Parameter) -> float:
    """Return the largest finite size of a gradient's entries; 0 where there is none."""
    if param.grad is None:
        return 0.0
    return float(param.grad.detach().float().abs().nan_to_num(0, 0, 0).max())


@contextmanager
def _nudged(groups: Mapping[str, Mapping[str, Parameter]]) -> Iterator[None]:
    """Make every all-zero `lora_B` small and random for a while."""
    nudged = []
    generator = torch.Generator().manual_seed(0)
    for params in groups.values():
        for name, param in params.items():
            if "lora_B" in name and not param.detach().any():
                nudged.append(param)
                noise = torch.randn(param.shape, generator=generator) * 1e-3
                param.data.copy_(noise)
    try:
        yield
    finally:
        for param in nudged:
            param.data.zero_()


@contextmanager
def _restored(model: nn.Module) -> Iterator[None]:
    """Put gradients, random numbers, buffers and training modes back afterwards."""
    grads = {name: param.grad for name, param in model.named_parameters()}
    modes = {module: module.training for module in model.modules()}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    states = rng_state()
    try:
        yield
    finally:
        for name, param in model.named_parameters():
            param.grad = grads[name]
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
        for module, mode in modes.items():
            module.training = mode
        restore_rng_state(states)
