"""Everything an audit may disturb, put back bit for bit.

Frozen weights of a large model are too many to copy, so nothing is copied until something is about
to be written to it: every write passes through a dispatch mode, which sees in the operator's own
schema what it will overwrite. A write to a frozen weight is thereby seen as well.
"""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode

from vasculora.core.runtime import restore_rng_state, rng_state
from vasculora.engine.audit.places import Place, here


class Guard(TorchDispatchMode):
    """Remembers a model, its optimizer's weights and all generators, and puts them back.

    Args:
        model: The model.
        optimizer: Its optimizer, whose weights may be others than the model's.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.writes: dict[int, Place | None] = {}
        """First statement that wrote to a storage, by its address."""
        self._copies: dict[int, Any] = {}
        self._modules = [(m, dict(m.__dict__), _containers(m)) for m in model.modules()]
        params = dict.fromkeys(model.parameters())
        params |= dict.fromkeys(p for g in _param_groups(optimizer) for p in g["params"])
        self._params: list[tuple[Tensor, Tensor, bool, Tensor | None]] = [
            (p, p.data, p.requires_grad, p.grad) for p in params
        ]
        self._buffers = [(b, b.data) for b in model.buffers()]
        kept = [*(data for _, data, _, _ in self._params), *(data for _, data in self._buffers)]
        self._kept = {address(data): data for data in kept if data.device.type != "meta"}
        for buffer in _unannounced(model):
            self._keep(buffer)
        self.writes.clear()
        self._rng = rng_state()
        self._grad_mode = torch.is_grad_enabled()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func._schema.is_mutable:
            for tensor in _overwritten(func._schema, args, kwargs):
                self._keep(tensor)
        return func(*args, **kwargs)

    def _keep(self, tensor: Tensor) -> None:
        key = address(tensor)
        if key in self._kept:
            self.writes.setdefault(key, here())
            if key not in self._copies:
                self._copies[key] = self._kept[key].untyped_storage().clone()

    def put_back(self) -> None:
        """Make everything as it was when the guard was made."""
        torch.set_grad_enabled(self._grad_mode)
        for module, attributes, containers in self._modules:
            module.__dict__.clear()
            module.__dict__.update(attributes)
            for name, content in containers.items():
                module.__dict__[name].clear()
                module.__dict__[name].update(content)
        for param, data, learns, grad in self._params:
            _reattach(param, data)
            param.requires_grad_(learns)
            param.grad = grad
        for buffer, data in self._buffers:
            _reattach(buffer, data)
        for key, saved in self._copies.items():
            self._kept[key].untyped_storage().copy_(saved)
        restore_rng_state(self._rng)

    def adopt(self, loss: Any) -> None:
        """Keep the gradients of weights that a loss reaches beside the model's own."""
        known = {id(param) for param, _, _, _ in self._params}
        for leaf in _leaves(getattr(loss, "grad_fn", None)):
            if id(leaf) not in known:
                self._params.append((leaf, leaf.data, leaf.requires_grad, leaf.grad))
                leaf.grad = None

    def clear_grads(self) -> None:
        """Take away the gradients that were there, untouched, until they are put back."""
        for param, _, _, _ in self._params:
            param.grad = None


@contextmanager
def guarded(model: nn.Module, optimizer: Optimizer | None) -> Iterator[Guard]:
    """Yield a guard that puts everything back at the end, whatever happens."""
    guard = Guard(model, optimizer)
    try:
        with guard:
            yield guard
    finally:
        guard.put_back()


@contextmanager
def spare_optimizer(optimizer: Optimizer) -> Iterator[Optimizer]:
    """Yield the optimizer working on copies of its state and settings, without its hooks."""
    kept = dict(optimizer.__dict__)
    state: defaultdict[Tensor, Any] = defaultdict(dict)
    state.update({param: deepcopy(own) for param, own in optimizer.state.items()})
    optimizer.state = state
    optimizer.param_groups = [
        {n: v if n == "params" else deepcopy(v) for n, v in g.items()}
        for g in optimizer.param_groups
    ]
    for name in kept:
        if name.endswith(("_pre_hooks", "_post_hooks")):
            optimizer.__dict__[name] = type(kept[name])()
    try:
        yield optimizer
    finally:
        optimizer.__dict__.clear()
        optimizer.__dict__.update(kept)


def address(tensor: Tensor) -> int:
    """Return what tells a tensor's storage from all others that are alive."""
    return int(tensor.untyped_storage()._cdata)


def _param_groups(optimizer: Optimizer | None) -> list[dict[str, Any]]:
    return [] if optimizer is None else optimizer.param_groups


def _unannounced(model: nn.Module) -> Iterator[Tensor]:
    """Yield running statistics: the schema of batch normalisation does not tell that it writes."""
    for module in model.modules():
        if isinstance(module, _NormBase):
            yield from module.buffers(recurse=False)


def _containers(module: nn.Module) -> dict[str, dict[Any, Any]]:
    """Return copies of a module's tables: its weights, buffers, parts and hooks."""
    tables = ("_parameters", "_buffers", "_modules")
    return {
        name: dict(value)
        for name, value in module.__dict__.items()
        if isinstance(value, dict) and (name in tables or "hook" in name)
    }


def _reattach(tensor: Tensor, data: Tensor) -> None:
    """Give a tensor back the storage it had, if it was given another one."""
    if tensor.device.type != "meta" and address(tensor) != address(data):
        tensor.data = data


def _leaves(start: Any) -> Iterator[Tensor]:
    """Yield the weights at the ends of a graph."""
    waiting, seen = [start], {start}
    while waiting:
        node = waiting.pop()
        if isinstance(getattr(node, "variable", None), Tensor):
            yield node.variable
        for following, _ in getattr(node, "next_functions", ()):
            if following is not None and following not in seen:
                seen.add(following)
                waiting.append(following)


def _overwritten(schema: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[Tensor]:
    for index, argument in enumerate(schema.arguments):
        if argument.alias_info is None or not argument.alias_info.is_write:
            continue
        value = args[index] if index < len(args) else kwargs.get(argument.name)
        for item in value if isinstance(value, list | tuple) else (value,):
            if isinstance(item, Tensor):
                yield item
