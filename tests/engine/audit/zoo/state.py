"""Everything an audit must leave as it was, taken down before and compared after."""

import copy
import sys
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_hooks",
    "_load_state_dict_pre_hooks",
)
PATCHABLE = (
    torch,
    torch.Tensor,
    torch.nn.functional,
    nn.Module,
    torch.no_grad,
    torch.inference_mode,
    torch.set_grad_enabled,
    torch.autograd,
    torch.autograd.Function,
    torch.utils.checkpoint,
    torch.nn.modules.module,
    torch.optim.Optimizer,
    np,
)


def snapshot(model: nn.Module, optimizer: torch.optim.Optimizer | None) -> dict[str, Any]:
    """Return what may not change, each under the name a failing test shows."""
    params = dict(model.named_parameters(remove_duplicate=False))
    buffers = dict(model.named_buffers(remove_duplicate=False))
    modules = dict(model.named_modules(remove_duplicate=False))
    return {
        "weights": {name: bits(p) for name, p in params.items()},
        "weights' identity": {name: (id(p), p.data_ptr()) for name, p in params.items()},
        "requires_grad": {name: p.requires_grad for name, p in params.items()},
        "gradients": {name: bits(p.grad) for name, p in params.items()},
        "gradients' identity": {name: id(p.grad) for name, p in params.items()},
        "tensor hooks": {name: tensor_hooks(p) for name, p in params.items()},
        "buffers": {name: bits(b) for name, b in buffers.items()},
        "modes": {name: m.training for name, m in modules.items()},
        "attributes": {name: attributes(m) for name, m in modules.items()},
        "hooks": {name: hooks(m) for name, m in modules.items()},
        "optimizer": copy.deepcopy(optimizer.state_dict()) if optimizer else None,
        "optimizer's own": optimizer_identity(optimizer),
        "random numbers": random_states(),
        "switches": switches(),
        "patched": [dict(vars(home)) for home in PATCHABLE],
    }


def bits(tensor: Tensor | None) -> Any:
    """Return a tensor's type, shape and very bytes; not-a-number equals itself here."""
    if tensor is None:
        return None
    plain = tensor.detach()
    if plain.is_sparse:
        plain = plain.to_dense()
    flat = plain.cpu().contiguous().clone()
    raw = flat.reshape(-1).view(torch.uint8) if flat.numel() else flat
    return str(tensor.dtype), tuple(tensor.shape), raw.numpy().tobytes()


def tensor_hooks(tensor: Tensor) -> tuple[int, int]:
    """Return how many hooks a tensor carries, of both sorts."""
    after = getattr(tensor, "_post_accumulate_grad_hooks", None)
    return len(tensor._backward_hooks or ()), len(after or ())


def hooks(module: nn.Module) -> dict[str, list[int]]:
    """Return the identities of a module's hooks."""
    return {name: [id(hook) for hook in getattr(module, name).values()] for name in HOOKS}


def attributes(module: nn.Module) -> set[str]:
    """Return the names in a module's own dictionary: a patched forward would be one more."""
    return set(vars(module))


def optimizer_identity(optimizer: torch.optim.Optimizer | None) -> Any:
    """Return which tensors an optimizer moves, with what, and what it carries besides."""
    if optimizer is None:
        return None
    groups = [[id(p) for p in group["params"]] for group in optimizer.param_groups]
    settings = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
    return groups, settings, [id(p) for p in optimizer.state]


def random_states() -> dict[str, Any]:
    """Return the states of torch's and numpy's random numbers.

    Python's own are asked in a process apart: here the checks of types draw from them.
    """
    name, keys, *rest = np.random.get_state()  # noqa: NPY002 - the global state is the point
    return {
        "torch": bits(torch.get_rng_state()),
        "numpy": (name, keys.tobytes(), *rest),
    }


def switches() -> dict[str, Any]:
    """Return global switches of torch and of the interpreter."""
    return {
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "anomaly": torch.is_anomaly_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "function modes": torch.overrides._len_torch_function_stack(),
        "dispatch modes": torch.utils._python_dispatch._len_torch_dispatch_stack(),
        "default dtype": torch.get_default_dtype(),
        "profile": sys.getprofile(),
        "trace": sys.gettrace(),
        "hook": id(sys.excepthook),
    }


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return the names of what has changed."""
    patched = [
        f"{getattr(home, '__name__', home)}.{name}"
        for home, old, new in zip(PATCHABLE, before["patched"], after["patched"], strict=True)
        for name, value in old.items()
        if new.get(name) is not value
    ]
    changed = []
    for name in before.keys() - {"patched", "optimizer"}:
        if before[name] != after[name]:
            changed.append(f"{name}: {_which(before[name], after[name])}")
    if not same(before["optimizer"], after["optimizer"]):
        changed.append("optimizer")
    return changed + patched


def same(one: Any, two: Any) -> bool:
    """Return whether two nested structures hold the same values, tensors by their bytes."""
    if isinstance(one, Tensor):
        return isinstance(two, Tensor) and bits(one) == bits(two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(same, one, two))
    return bool(one == two)


def _which(old: Any, new: Any) -> str:
    if not isinstance(old, dict):
        return "changed"
    names = [str(n) for n in old.keys() | new.keys() if old.get(n) != new.get(n)]
    return ", ".join(sorted(names)[:4])
