"""What peft's adapters say about themselves, in any model.

Switched off, merged, frozen by the way they were loaded, aimed at nothing.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from torch.nn import Parameter

AdapterState = Literal["adapter_disabled", "adapter_merged", "frozen", "no_target"]


@dataclass(frozen=True)
class AdapterFault:
    """Why an adapter cannot learn.

    Attributes:
        kind: What is wrong with it.
        module: The first layer concerned, or the pattern that matches nothing.
        layers: Names of all layers concerned.
    """

    kind: AdapterState
    module: str
    layers: tuple[str, ...]


def adapter_faults(model: nn.Module) -> tuple[AdapterFault, ...]:
    """Return what keeps a model's active adapters from learning, if there are any."""
    layers = {n: m for n, m in model.named_modules() if isinstance(m, BaseTunerLayer)}
    off: dict[AdapterState, list[str]] = {
        "adapter_disabled": [n for n, layer in layers.items() if layer.disable_adapters],
        "adapter_merged": [n for n, layer in layers.items() if layer.merged],
        "frozen": list(layers) if _was_loaded_for_use(model, layers.values()) else [],
    }
    found = [AdapterFault(kind, names[0], tuple(names)) for kind, names in off.items() if names]
    return (*found, *(AdapterFault("no_target", p, ()) for p in _idle_targets(model, list(layers))))


def _was_loaded_for_use(model: nn.Module, layers: Iterable[BaseTunerLayer]) -> bool:
    """Return whether a saved adapter was opened for prediction: peft then freezes all of it."""
    for_use = any(getattr(config, "inference_mode", False) for config in _configs(model))
    return for_use and not any(p.requires_grad for layer in layers for p in _own(layer))


def _configs(model: nn.Module) -> Iterator[object]:
    """Yield the settings of every adapter in a model, wherever in it they are kept."""
    for module in model.modules():
        yield from (module.__dict__.get("peft_config") or {}).values()


def _own(layer: BaseTunerLayer) -> Iterator[Parameter]:
    for table in layer.adapter_layer_names:
        yield from getattr(layer, table).parameters()


def _idle_targets(model: nn.Module, layers: list[str]) -> Iterator[str]:
    """Yield the listed targets that no adapted layer ends with, while others are adapted."""
    if not layers:
        return  # peft refuses to adapt nothing, so the adapters were taken off again
    for config in _configs(model):
        targets = getattr(config, "target_modules", None)
        if isinstance(targets, str):
            continue  # a pattern that matches nothing is refused by peft itself
        for target in targets or ():
            if not any(re.search(rf"(^|\.){re.escape(target)}$", layer) for layer in layers):
                yield target
