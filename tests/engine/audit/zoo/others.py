"""More operations that lose a gradient, as other people write them."""

import math
import statistics
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy import ndimage
from tests.engine.audit.zoo.carriers import Op, aside, beside, early, late
from tests.engine.audit.zoo.case import Fault
from torch import Tensor

# --- the value leaves the graph


def filtered_by_scipy(h: Tensor) -> Tensor:
    smooth = ndimage.gaussian_filter(h.detach().cpu().numpy(), sigma=1.0)  # cut # or detach
    return torch.from_numpy(smooth)


def data_to_numpy(h: Tensor) -> Tensor:
    return torch.from_numpy(h.cpu().data.numpy()) * 2  # cut # or data


def float_tensor_of_lists(h: Tensor) -> Tensor:
    return torch.FloatTensor(h.tolist())  # cut


def new_of_lists(h: Tensor) -> Tensor:
    return h.new(h.tolist()) + 0.5  # cut


def tensor_of_scalars(h: Tensor) -> Tensor:
    return torch.tensor(list(h.reshape(-1))).view(h.shape)  # cut # or item


def stack_of_tensors(h: Tensor) -> Tensor:
    return torch.stack([torch.tensor(row) for row in h])  # cut


def stack_of_lists(h: Tensor) -> Tensor:
    rows = [torch.as_tensor(row.tolist()) for row in h]  # cut
    return torch.stack(rows)


def sum_by_math(h: Tensor) -> Tensor:
    total = 0.0
    for row in h:
        total += math.log(1.0 + row.square().sum().item())  # cut
    return torch.ones_like(h) * (total / len(h))


def mean_by_statistics(h: Tensor) -> Tensor:
    means = [float(row.mean()) for row in h]  # cut
    return torch.zeros_like(h).add(statistics.fmean(means))


def mean_by_numpy(h: Tensor) -> Tensor:
    rows = []
    for row in h:
        rows.append(row.mean().item())  # cut
    return torch.full_like(h, float(np.mean(rows)))


def largest_by_python(h: Tensor) -> Tensor:
    scale = max(row.abs().max().item() for row in h)  # cut
    return torch.linspace(0, 1, h.numel()).view(h.shape) / scale


def formatted(h: Tensor) -> Tensor:
    words = " ".join(f"{value.item():.6f}" for value in h.flatten())  # cut
    return torch.tensor([float(word) for word in words.split()]).view_as(h)


def through_pillow(h: Tensor) -> Tensor:
    pixels = (torch.sigmoid(h) * 255).byte()  # cut
    image = Image.fromarray(pixels.cpu().numpy())  # or numpy
    return torch.from_numpy(np.array(image)).float() / 255


# --- the value is not differentiable


def to_bytes(h: Tensor) -> Tensor:
    return (torch.sigmoid(h) * 255).to(dtype=torch.uint8).float() / 255  # cut


def to_int(h: Tensor) -> Tensor:
    levels = (h * 8).int()  # cut
    return levels / 8.0


def between(h: Tensor) -> Tensor:
    inside = (h > -0.2) & (h < 0.2)  # cut
    return inside.float() + 1


def neither(h: Tensor) -> Tensor:
    return (~torch.logical_or(h.gt(0.3), h.lt(-0.3))).type_as(h)  # cut # or cast


def hard_dice_mask(h: Tensor) -> Tensor:
    return (torch.sigmoid(h) >= 0.5).to(h)  # cut


def where_of_constants(h: Tensor) -> Tensor:
    return torch.where(h > 0.1, 1.0, 0.0)  # cut # or cast


def masked_write(h: Tensor) -> Tensor:
    mask = torch.zeros_like(h)
    mask[h > 0] = 1.0  # cut
    return mask


def above_the_kth(h: Tensor) -> Tensor:
    kth = h.kthvalue(2, dim=1, keepdim=True).values
    return (h >= kth).float()  # cut


def bucketed(h: Tensor) -> Tensor:
    edges = torch.linspace(-1, 1, 9)
    return torch.bucketize(h, edges).float() / 9  # cut # or argmax # or cast # or round


def best_two(h: Tensor) -> Tensor:
    best = h.topk(2, dim=1).indices  # cut
    return torch.zeros_like(h).scatter(1, best, 1.0)


def hard_gumbel(h: Tensor) -> Tensor:
    soft = F.gumbel_softmax(h, tau=1.0, hard=False)
    return F.one_hot(soft.argmax(dim=-1), h.shape[-1]).float()  # cut


def sampled(h: Tensor) -> Tensor:
    index = torch.multinomial(h.softmax(1), 1)  # cut # or cast # or threshold # or round
    return torch.eye(h.shape[1])[index[:, 0]]


def ranks(h: Tensor) -> Tensor:
    return torch.sort(h, dim=0, stable=True)[1].argsort(dim=0).float()  # cut


def fractions_only(h: Tensor) -> Tensor:
    return torch.div(h * 7, 2, rounding_mode="floor")  # cut


def floor_divided(h: Tensor) -> Tensor:
    return (h * 9) // 2  # cut


# --- the function is flat


def clamped_to_a_point(h: Tensor) -> Tensor:
    return h.clamp(min=1, max=1) + 0  # cut


def relu6_at_its_end(h: Tensor) -> Tensor:
    return F.relu6(h + 20)  # cut


def hard_tanh_at_its_end(h: Tensor) -> Tensor:
    return F.hardtanh(h - 30)  # cut


def hard_swish_below(h: Tensor) -> Tensor:
    return F.hardswish(h - 10)  # cut


def shrunk(h: Tensor) -> Tensor:
    return F.softshrink(h, lambd=50.0)  # cut # or threshold


def softmax_of_one(h: Tensor) -> Tensor:
    weight = torch.softmax(h.sum(dim=1, keepdim=True), dim=1)  # cut
    return weight.expand(h.shape)


def norm_of_one(h: Tensor) -> Tensor:
    one = h.mean(dim=1, keepdim=True)
    return F.layer_norm(one, (1,)).expand(h.shape)  # cut # or vanishing # or zero_weight


def dropped_whole(h: Tensor) -> Tensor:
    return F.dropout(h, p=1.0) + 1  # cut # or branch_not_taken # or saturation


# --- the value is multiplied by zero


def lerp_of_zero(h: Tensor) -> Tensor:
    return torch.lerp(torch.ones_like(h), h, 0.0)  # cut


def einsum_of_zero(h: Tensor) -> Tensor:
    return torch.einsum("bi,ij->bj", h, torch.zeros(h.shape[1], h.shape[1]))  # cut


def matmul_of_zero(h: Tensor) -> Tensor:
    gate = torch.diag(torch.zeros(h.shape[1]))
    return h @ gate + 1  # cut


def alpha_of_zero(h: Tensor) -> Tensor:
    return torch.add(torch.ones_like(h), h, alpha=0)  # cut


def convolution_of_zero(h: Tensor) -> Tensor:
    return F.conv1d(h[:, None], torch.zeros(1, 1, 3), padding=1)[:, 0]  # cut


def empty_slice(h: Tensor) -> Tensor:
    return torch.ones_like(h) + h[:, :0].sum()  # cut


OPS: dict[Op, str] = {
    filtered_by_scipy: "numpy",
    data_to_numpy: "numpy",
    float_tensor_of_lists: "tolist",
    new_of_lists: "tolist",
    tensor_of_scalars: "copy",
    stack_of_tensors: "copy",
    stack_of_lists: "tolist",
    sum_by_math: "item",
    mean_by_statistics: "item",
    mean_by_numpy: "item",
    largest_by_python: "item",
    formatted: "item",
    through_pillow: "cast",
    to_bytes: "cast",
    to_int: "cast",
    between: "threshold",
    neither: "threshold",
    hard_dice_mask: "threshold",
    where_of_constants: "threshold",
    masked_write: "threshold",
    above_the_kth: "threshold",
    bucketed: "threshold",
    best_two: "argmax",
    hard_gumbel: "argmax",
    sampled: "argmax",
    ranks: "argmax",
    fractions_only: "round",
    clamped_to_a_point: "saturation",
    relu6_at_its_end: "saturation",
    hard_tanh_at_its_end: "saturation",
    hard_swish_below: "saturation",
    shrunk: "saturation",
    softmax_of_one: "saturation",
    norm_of_one: "saturation",
    dropped_whole: "zero_weight",
    lerp_of_zero: "zero_weight",
    einsum_of_zero: "zero_weight",
    matmul_of_zero: "zero_weight",
    alpha_of_zero: "zero_weight",
    convolution_of_zero: "zero_weight",
    empty_slice: "branch_not_taken",
}

WIDE = {softmax_of_one, above_the_kth, best_two, hard_gumbel, sampled, ranks, formatted}
"""These say nothing of a single column, or of a graph's last column."""


def both(op: Op, kind: str) -> list[Fault]:
    """Return an operation planted before a layer and, where that says anything, before the loss."""
    first = Fault(
        name=f"{op.__name__}, early",
        kind=kind,
        build=partial(early, op),
        source=op,
        dead=("first",),
        module="middle",
        twins=(partial(aside, op), partial(beside, op)),
    )
    last = Fault(
        name=f"{op.__name__}, late",
        kind=kind,
        build=partial(late, op),
        source=op,
        dead=("first", "last"),
    )
    return [first] if op in WIDE else [first, last]


OTHERS = [fault for op, kind in OPS.items() for fault in both(op, kind)]
