"""Operations after which the value has no graph, or no slope: each keeps the shape of its input.

Every one is planted before a layer and before the loss; its twins look at the same result, or add
it to a live one.
"""

import copy
import math
from functools import partial

import numpy as np
import torch
from tests.engine.audit.zoo.carriers import Op, aside, beside, early, late
from tests.engine.audit.zoo.case import Fault
from torch import Tensor, nn

# --- the value leaves the graph


def detach(h: Tensor) -> Tensor:
    return h.detach() * 2  # cut


def detach_of_torch(h: Tensor) -> Tensor:
    return torch.detach(h)  # cut


def detach_in_place(h: Tensor) -> Tensor:
    state = h * 1.5
    state.detach_()  # cut
    return state


def detach_then_train(h: Tensor) -> Tensor:
    return h.detach().requires_grad_(True)  # cut # also detach


def detach_then_train_later(h: Tensor) -> Tensor:
    state = h.detach()  # also detach
    scaled = state * 2
    scaled.requires_grad_(True)  # cut
    return scaled


def detach_then_train_by_attribute(h: Tensor) -> Tensor:
    state = h.detach().clone()  # also detach
    state.requires_grad = True  # cut
    return state


def data(h: Tensor) -> Tensor:
    return h.data  # cut


def data_then_variable(h: Tensor) -> Tensor:
    leaf = torch.autograd.Variable(h.data, requires_grad=True)  # cut # or data
    return leaf * 1


def item(h: Tensor) -> Tensor:
    return torch.full(h.shape, h.mean().item())  # cut


def number_by_float(h: Tensor) -> Tensor:
    scale = float(h.sum())  # cut
    return torch.linspace(0, 1, h.numel()).view(h.shape) * scale


def number_by_math(h: Tensor) -> Tensor:
    mean = h.square().mean()
    return torch.ones(h.shape) * math.sqrt(mean)  # cut


def items_in_a_list(h: Tensor) -> Tensor:
    values = [value.item() for value in h.reshape(-1)]  # cut
    return torch.tensor(values).reshape(h.shape)


def items_in_a_loop(h: Tensor) -> Tensor:
    new = torch.zeros(h.shape)
    for row in range(len(h)):
        new[row] = h[row].mean().item()  # cut
    return new


def lists(h: Tensor) -> Tensor:
    return torch.tensor(h.tolist())  # cut


def numpy_by_force(h: Tensor) -> Tensor:
    return torch.from_numpy(h.numpy(force=True))  # cut


def numpy_there_and_back(h: Tensor) -> Tensor:
    return torch.from_numpy(np.tanh(h.detach().numpy()))  # cut


def numpy_as_array(h: Tensor) -> Tensor:
    array = np.asarray(h.detach().cpu())  # cut # or detach
    return torch.tensor(np.maximum(array, -0.1))


def numpy_in_lines(h: Tensor) -> Tensor:
    values = h.detach()  # or detach
    array = values.cpu().numpy()  # cut
    return torch.as_tensor(array + 0.5)


def tensor_of_tensor(h: Tensor) -> Tensor:
    return torch.tensor(h)  # cut


def new_tensor(h: Tensor) -> Tensor:
    return h.new_tensor(h)  # cut


def fresh_parameter(h: Tensor) -> Tensor:
    return nn.Parameter(h) * 1  # cut # or detached_leaf


def tensor_that_trains(h: Tensor) -> Tensor:
    return torch.tensor(h, requires_grad=True)  # cut # or detached_leaf


def deep_copy_of_detached(h: Tensor) -> Tensor:
    state = copy.deepcopy(h.detach())  # cut
    return state + 1


# --- the value is not differentiable


def one_hot_of_argmax(h: Tensor) -> Tensor:
    index = h.argmax(dim=1)  # cut
    return torch.eye(h.shape[1])[index]


def index_of_argmax(h: Tensor) -> Tensor:
    return h.argmax(dim=1, keepdim=True).float().expand(h.shape)  # cut


def index_of_topk(h: Tensor) -> Tensor:
    best = h.topk(1, dim=1)  # cut
    return best.indices.float().expand(h.shape)


def index_of_max(h: Tensor) -> Tensor:
    _, index = h.max(dim=1, keepdim=True)  # cut
    return index.to(h.dtype).expand(h.shape) + 0.5


def order(h: Tensor) -> Tensor:
    return h.argsort(dim=0).float()  # cut


def sign(h: Tensor) -> Tensor:
    return h.sign()  # cut


def rounded(h: Tensor) -> Tensor:
    return torch.round(h * 4) / 4  # cut


def floored(h: Tensor) -> Tensor:
    return h.floor() + 0.5  # cut


def ceiling(h: Tensor) -> Tensor:
    return torch.ceil(h)  # cut


def truncated(h: Tensor) -> Tensor:
    return (h * 3).trunc()  # cut


def above(h: Tensor) -> Tensor:
    return (h > 0).float()  # cut


def above_a_mean(h: Tensor) -> Tensor:
    mask = torch.ge(h, h.mean())  # cut
    return mask.to(torch.float32) - 0.5


def mask_of_a_mask(h: Tensor) -> Tensor:
    probability = torch.sigmoid(h)
    prediction = probability < 0.5  # cut
    return 1.0 - prediction.float()


def integers(h: Tensor) -> Tensor:
    return (h * 10).long().float()  # cut


def integers_by_to(h: Tensor) -> Tensor:
    return (h * 20).to(torch.int32) / 10  # cut


def bytes_of_an_image(h: Tensor) -> Tensor:
    pixels = (h.clamp(-1, 1) * 100 + 120).type(torch.uint8)  # cut
    return pixels / 255


def booleans(h: Tensor) -> Tensor:
    flags = h.relu().bool()  # cut
    return flags.float() + 1


# --- the graph is not recorded


@torch.no_grad()  # cut
def no_grad_decorator(h: Tensor) -> Tensor:
    return torch.tanh(h)


def no_grad_block(h: Tensor) -> Tensor:
    with torch.no_grad():  # cut
        return h * 2 + 1


@torch.no_grad  # cut
def no_grad_decorator_without_call(h: Tensor) -> Tensor:
    return h.exp()


@torch.set_grad_enabled(False)  # cut
def set_grad_enabled_decorator(h: Tensor) -> Tensor:
    return h.cos()


def set_grad_enabled_block(h: Tensor) -> Tensor:
    with torch.set_grad_enabled(h is None):  # cut
        return h * 3


def set_grad_enabled_there_and_back(h: Tensor) -> Tensor:
    torch.set_grad_enabled(False)  # cut
    state = h.sin()
    torch.set_grad_enabled(True)
    return state


@torch.inference_mode()  # cut
def inference_mode_decorator(h: Tensor) -> Tensor:
    return h * 2


def inference_mode_block(h: Tensor) -> Tensor:
    with torch.inference_mode():  # cut
        return h + 1


def inference_mode_then_clone(h: Tensor) -> Tensor:
    with torch.inference_mode():  # cut
        state = h / 2
    return state.clone()


def no_grad_around_helper(h: Tensor) -> Tensor:
    with torch.no_grad():  # cut
        return smooth(h)


def smooth(h: Tensor) -> Tensor:
    return torch.nn.functional.softplus(h)


OPS: dict[Op, str] = {
    detach: "detach",
    detach_of_torch: "detach",
    detach_in_place: "detach",
    detach_then_train: "detached_leaf",
    detach_then_train_later: "detached_leaf",
    detach_then_train_by_attribute: "detached_leaf",
    data: "data",
    data_then_variable: "detached_leaf",
    item: "item",
    number_by_float: "item",
    number_by_math: "item",
    items_in_a_list: "item",
    items_in_a_loop: "item",
    lists: "tolist",
    numpy_by_force: "numpy",
    numpy_there_and_back: "numpy",
    numpy_as_array: "numpy",
    numpy_in_lines: "numpy",
    tensor_of_tensor: "copy",
    new_tensor: "copy",
    fresh_parameter: "copy",
    tensor_that_trains: "copy",
    deep_copy_of_detached: "detach",
    one_hot_of_argmax: "argmax",
    index_of_argmax: "argmax",
    index_of_topk: "argmax",
    index_of_max: "argmax",
    order: "argmax",
    sign: "sign",
    rounded: "round",
    floored: "round",
    ceiling: "round",
    truncated: "round",
    above: "threshold",
    above_a_mean: "threshold",
    mask_of_a_mask: "threshold",
    integers: "cast",
    integers_by_to: "cast",
    bytes_of_an_image: "cast",
    booleans: "cast",
    no_grad_decorator: "no_grad",
    no_grad_block: "no_grad",
    no_grad_decorator_without_call: "no_grad",
    no_grad_around_helper: "no_grad",
    set_grad_enabled_decorator: "set_grad_enabled",
    set_grad_enabled_block: "set_grad_enabled",
    set_grad_enabled_there_and_back: "set_grad_enabled",
    inference_mode_decorator: "inference_mode",
    inference_mode_block: "inference_mode",
    inference_mode_then_clone: "inference_mode",
}

REFUSED = (inference_mode_decorator, inference_mode_block)
"""torch does not save tensors of inference mode for backward()."""

VALUES = [
    fault
    for op, kind in OPS.items()
    for fault in (
        Fault(
            name=f"{op.__name__}, early",
            kind=kind,
            build=partial(early, op),
            source=op,
            dead=("first",),
            module="middle",
            twins=(partial(aside, op), partial(beside, op)),
            refused=op in REFUSED,
        ),
        Fault(
            name=f"{op.__name__}, late",
            kind=kind,
            build=partial(late, op),
            source=op,
            dead=("first", "last"),
        ),
    )
]
