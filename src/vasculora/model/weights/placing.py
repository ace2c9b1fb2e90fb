"""Weights put in place, tensor by tensor: whatever they are called where they come from.

The files' headers are compared with the model first: every tensor must have its place and every
weight its tensor, of the right shape. Then each is read, cut and converted on its way in, so that
the model in its own number format and one shard are all that is ever in memory.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import init_empty_weights
from torch import Tensor, nn
from transformers.initialization import no_init_weights

from vasculora.model.weights.files import Stored, read_weights

_SHOWN = 4
_PROJECTOR_END = "text_hidden_fcs.2."


def _first(found: Sequence[Tensor]) -> Tensor:
    return found[0]


@dataclass(frozen=True)
class Origin:
    """Where one of a model's weights comes from.

    Attributes:
        names: Stored tensors, all of which are needed.
        take: Makes the weight from them, in that order.
    """

    names: tuple[str, ...]
    take: Callable[[Sequence[Tensor]], Tensor] = _first


@contextmanager
def weightless() -> Iterator[None]:
    """Build models without memory for weights, and without drawing what they would start from."""
    with no_init_weights(), init_empty_weights():
        yield


def place(
    model: nn.Module,
    found: Mapping[str, Stored],
    origins: Mapping[str, Origin],
    *,
    dtype: torch.dtype,
    device: torch.device,
) -> None:
    """Give a model without weights those that files hold.

    Args:
        model: A model whose parameters are on the meta device.
        found: What the files hold, by name.
        origins: Where each of the model's weights comes from.
        dtype: Number format in memory.
        device: Where to put them.

    Raises:
        ValueError: If names or shapes do not fit, or a file is damaged.
    """
    check_fit(model, found, origins)
    wanted_by: dict[str, list[str]] = {}
    for ours, origin in origins.items():
        for name in origin.names:
            wanted_by.setdefault(name, []).append(ours)
    waiting: dict[str, Tensor] = {}  # pieces of a weight whose other pieces are not read yet
    for name, tensor in read_weights(found):
        waiting[name] = tensor
        for ours in wanted_by[name]:
            names = origins[ours].names
            if all(part in waiting for part in names):
                value = origins[ours].take([waiting[part] for part in names])
                _put(model, ours, value, dtype=dtype, device=device)
        if all(len(origins[ours].names) == 1 for ours in wanted_by[name]):
            del waiting[name]
    for name, buffer in list(model.named_buffers()):
        module, leaf = _home(model, name)
        module._buffers[leaf] = buffer.to(device)


def check_fit(model: nn.Module, found: Mapping[str, Stored], origins: Mapping[str, Origin]) -> None:
    """Compare what files hold with what a model needs; no weight is read.

    Raises:
        ValueError: If a tensor is missing, unexpected, of another shape or a whole number;
            lists them.
    """
    folder = next(iter(found.values())).file.parent
    faults = _misnamed(found, origins)
    faults["of another shape"] = _misshapen(model, found, origins)
    faults["not of fractions"] = [
        f"{name} ({found[name].dtype})"
        for name in sorted(found.keys() - set(faults["unexpected"]))
        if not found[name].dtype.is_floating_point
    ]
    _refuse(folder, faults)


def check_names(folder: Path, stored: Collection[str], origins: Mapping[str, Origin]) -> None:
    """Compare the names in an index with what a model needs, where the files are not there.

    Args:
        folder: Where the index is.
        stored: The names in it.
        origins: Where each of the model's weights comes from.

    Raises:
        ValueError: If a tensor is missing or unexpected; lists them.
    """
    _refuse(folder, _misnamed(stored, origins))


def _misnamed(stored: Collection[str], origins: Mapping[str, Origin]) -> dict[str, list[str]]:
    needed = {name for origin in origins.values() for name in origin.names}
    return {"missing": sorted(needed - set(stored)), "unexpected": sorted(set(stored) - needed)}


def _refuse(folder: Path, faults: Mapping[str, list[str]]) -> None:
    if not any(faults.values()):
        return
    lines = [f"{folder}: the weights do not fit config.json."]
    for kind, names in faults.items():
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            lines.append(f"  {len(names)} {kind}: {', '.join(names[:_SHOWN])}{more}")
    lines.append(_cure([name for names in faults.values() for name in names]))
    raise ValueError("\n".join(lines))


def _cure(names: list[str]) -> str:
    others = [name for name in names if "sam2_model" not in name]
    # where the projector ends, SAM 2's width begins
    if len(others) < len(names) and all(name.startswith(_PROJECTOR_END) for name in others):
        return (
            "Only SAM 2 differs: config.json does not hold its sizes. Give them as sam2 in Python, "
            "as official.sam2 in the --config file; without them the official Hiera-large is "
            "expected. If they are right, copy the weights again."
        )
    return "Copy config.json and the weights again from one place."


def _misshapen(
    model: nn.Module, found: Mapping[str, Stored], origins: Mapping[str, Origin]
) -> list[str]:
    """Return which tensors do not give our weights their shapes, found without reading any."""
    faults = {}
    for ours, own in model.state_dict().items():
        names = origins[ours].names
        if not all(name in found for name in names):
            continue
        shapes = [found[name].shape for name in names]
        try:
            made = origins[ours].take([torch.empty(shape, device="meta") for shape in shapes]).shape
        except (RuntimeError, IndexError):
            made = None
        if made != own.shape:
            faults[names[0]] = f"{names[0]} {_said(shapes[0])} for {ours} {_said(own.shape)}"
    return sorted(faults.values())


def _said(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "()"


def _put(
    model: nn.Module, name: str, value: Tensor, *, dtype: torch.dtype, device: torch.device
) -> None:
    """Set a weight to its own copy of a tensor: what was read may be a view into a file."""
    own = torch.empty(value.shape, dtype=dtype, device=device)
    own.copy_(value)
    module, leaf = _home(model, name)
    if leaf in module._parameters:
        module._parameters[leaf] = nn.Parameter(own)
    else:
        module._buffers[leaf] = own


def _home(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    parent, _, leaf = name.rpartition(".")
    return model.get_submodule(parent), leaf
