"""Which weights belong together in the audit's table."""

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from torch import nn
from torch.nn import Parameter

Patterns = Mapping[str, str | Sequence[str]]
OTHER = "other"


def group_parameters(model: nn.Module, groups: Patterns | None) -> dict[str, dict[str, Parameter]]:
    """Return the model's weights by group and name, in the model's order.

    Trainable weights that no pattern takes are in a group of their own, `other`; so nothing
    trainable is left out.

    Args:
        model: Any model.
        groups: Group to one or several patterns, searched in weights' names, first match wins.
            None goes by the model's top modules, with LoRA apart.

    Raises:
        ValueError: If a pattern is found in no name.
    """
    params = dict(model.named_parameters())
    if groups is None:
        return _by_top_module(params)
    patterns = {n: (p,) if isinstance(p, str) else tuple(p) for n, p in groups.items()}
    for name, own in patterns.items():
        for pattern in own:
            _check_pattern(name, pattern, params)
    found: dict[str, dict[str, Parameter]] = {name: {} for name in patterns}
    for name, param in params.items():
        takes = (g for g, own in patterns.items() if any(re.search(p, name) for p in own))
        group = next(takes, OTHER if param.requires_grad else None)
        if group is not None:
            found.setdefault(group, {})[name] = param
    return found


def _check_pattern(group: str, pattern: str, params: Mapping[str, Parameter]) -> None:
    if any(re.search(pattern, name) for name in params):
        return
    near = get_close_matches(pattern, params, n=1, cutoff=0)
    hint = f" The nearest name is {near[0]!r}." if near else ""
    raise ValueError(
        f"group {group!r}: the pattern {pattern!r} is in no parameter's name.{hint} "
        "model.named_parameters() lists them."
    )


def _by_top_module(params: Mapping[str, Parameter]) -> dict[str, dict[str, Parameter]]:
    paths = {name: name.split(".") for name in params}
    depth = _common_depth(list(paths.values()))
    groups: dict[str, dict[str, Parameter]] = {}
    for name, path in paths.items():
        top = path[depth] if depth < len(path) else name
        group = f"{top} (LoRA)" if "lora_" in name else top
        groups.setdefault(group, {})[name] = params[name]
    return groups


def _common_depth(paths: list[list[str]]) -> int:
    """Return how many leading parts all names share: wrappers such as peft's or DDP's."""
    depth = 0
    while paths and all(len(p) > depth + 1 and p[depth] == paths[0][depth] for p in paths):
        depth += 1
    return depth
