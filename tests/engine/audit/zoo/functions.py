"""Custom autograd functions and reentrant checkpointing."""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from tests.engine.audit.zoo.carriers import aside, beside, early, inputs, late, note, truth
from tests.engine.audit.zoo.case import Case, Fault, Place
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import GPT2Config, GPT2LMHeadModel


class GivesNone(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> None:
        return None  # or


class GivesZeros(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        return x * scale

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return torch.zeros_like(grad), None  # or


class MarksOutput(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        result = x.tanh()
        ctx.mark_non_differentiable(result)  # or
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


class Straight(torch.autograd.Function):
    """A good one: rounds forward, hands the gradient through, has none for its number."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, levels: int) -> tuple[Tensor, Tensor]:
        index = (x * levels).round().long()
        ctx.mark_non_differentiable(index)
        return index.float() / levels, index

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, None]:
        return grad, None


none_by_name = GivesNone.apply
zeros_by_name = GivesZeros.apply
marked_by_name = MarksOutput.apply
straight_by_name = Straight.apply


def gives_none(h: Tensor) -> Tensor:
    return GivesNone.apply(h)  # cut


def gives_none_by_name(h: Tensor) -> Tensor:
    return none_by_name(h) + 1  # cut


def gives_zeros(h: Tensor) -> Tensor:
    return GivesZeros.apply(h, 0.5)  # cut


def gives_zeros_by_name(h: Tensor) -> Tensor:
    return zeros_by_name(h, 3.0)  # cut


def marks_output(h: Tensor) -> Tensor:
    return MarksOutput.apply(h)  # cut


def marks_output_by_name(h: Tensor) -> Tensor:
    return marked_by_name(h) * 2  # cut


def straight_through(h: Tensor) -> Tensor:
    value, index = straight_by_name(h, 8)
    note(index)
    return value + Straight.apply(h, 4)[0]


FAULTY = {
    gives_none: GivesNone,
    gives_none_by_name: GivesNone,
    gives_zeros: GivesZeros,
    gives_zeros_by_name: GivesZeros,
    marks_output: MarksOutput,
    marks_output_by_name: MarksOutput,
}


class Stack(nn.Module):
    """Blocks that may be run again in the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(6)
        self.stem = nn.Linear(6, 6)
        self.block = nn.Sequential(nn.Linear(6, 6), nn.GELU(), nn.Dropout(0.3), nn.Linear(6, 6))
        self.head = nn.Linear(6, 1)


def checkpointed_input() -> Case:
    """The first block is fed with the data, which needs no gradient."""
    model, x, y = Stack(), inputs(), truth()
    del model.stem

    def loss() -> Tensor:
        state = checkpoint(model.block, x, use_reentrant=True)  # cut
        return F.mse_loss(model.head(state), y)

    return Case(model, loss)


def checkpointed_input_of_data() -> Case:
    """The cure most often given: let the data want a gradient."""
    model, x, y = Stack(), inputs().requires_grad_(True), truth()
    del model.stem

    def loss() -> Tensor:
        state = checkpoint(model.block, x, use_reentrant=True)
        return F.mse_loss(model.head(state), y)

    return Case(model, loss)


def checkpointed_state(reentrant: bool) -> Case:
    model, x, y = Stack(), inputs(), truth()

    def loss() -> Tensor:
        state = checkpoint(model.block, model.stem(x), use_reentrant=reentrant)
        return F.mse_loss(model.head(state), y)

    return Case(model, loss)


def checkpointed_language_model(cured: bool) -> Case:
    """Frozen embeddings below, trainable blocks above, as with LoRA."""
    torch.manual_seed(7)
    config = GPT2Config(vocab_size=19, n_positions=16, n_embd=8, n_layer=2, n_head=2)
    model = GPT2LMHeadModel(config).train()
    model.transformer.wte.requires_grad_(False)
    model.transformer.wpe.requires_grad_(False)
    model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": True})
    if not cured:
        model.disable_input_require_grads()
    ids = torch.tensor([[3, 5, 7, 9], [2, 4, 6, 8]])
    groups = {"blocks": r"\.h\.", "norm": r"ln_f"}
    return Case(model, lambda: model(ids, labels=ids).loss, groups=groups)


LAYER = Place("reentrant_checkpoint", "transformers/modeling_layers.py", None)

FUNCTIONS = [
    fault
    for op, function in FAULTY.items()
    for fault in (
        Fault(
            f"{op.__name__}, early",
            "custom_function",
            partial(early, op),
            (op, function),
            ("first",),
            module="middle",
            twins=(partial(aside, op), partial(beside, op), partial(early, straight_through)),
        ),
        Fault(
            f"{op.__name__}, late",
            "custom_function",
            partial(late, op),
            (op, function),
            ("first", "last"),
        ),
    )
] + [
    Fault(
        "reentrant checkpoint of the data",
        "reentrant_checkpoint",
        checkpointed_input,
        checkpointed_input,
        ("block",),
        twins=(
            checkpointed_input_of_data,
            partial(checkpointed_state, True),
            partial(checkpointed_state, False),
        ),
    ),
    Fault(
        "reentrant checkpoints of transformers over frozen embeddings",
        "reentrant_checkpoint",
        partial(checkpointed_language_model, False),
        dead=("blocks",),
        places=(LAYER,),
        twins=(partial(checkpointed_language_model, True),),
    ),
]
