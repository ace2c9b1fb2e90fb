"""LoRA added to the weight before the input meets it, where that is the cheaper of two equals.

peft computes W x + s B (A x): beside the frozen product two more, and two passes over the output to
scale and add. With many pixels and few channels, as in SAM 2's image encoder, those cost more than
the layer itself. (W + s B A) x is the same number from one product, and what a merged model has to
the bit; its price is a gradient of the size of W. So narrow layers are folded, and wide ones, such
as a large language model's, are left to peft. `benchmarks/folding` measured where the two meet.
"""

import torch
import torch.nn.functional as F
from peft import LoraConfig
from peft.tuners import lora
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

BREAK_EVEN = 8.0
"""Folding pays where W has up to so many times the weights of A and B together. In products alone
they meet at 3 (one of W's size on the way back, against three of A's and B's); what is spared of
reading and writing the output moves that up."""


class FoldedLinear(lora.Linear):  # type: ignore[misc]
    """peft's LoRA on a linear layer, folded where it pays."""

    def forward(self, x: Tensor, *args: object, **kwargs: object) -> Tensor:
        """Return the layer's output, shape (..., out)."""
        weight = folded_weight(self, x)
        if weight is not None:
            return F.linear(x, weight, self.get_base_layer().bias)
        output: Tensor = super().forward(x, *args, **kwargs)
        return output


class FoldedConv2d(lora.Conv2d):  # type: ignore[misc]
    """peft's LoRA on a convolution, folded where it pays."""

    def forward(self, x: Tensor, *args: object, **kwargs: object) -> Tensor:
        """Return the layer's output, shape (b, out, h, w)."""
        weight = folded_weight(self, x)
        if weight is not None:
            base = self.get_base_layer()
            return F.conv2d(
                x, weight, base.bias, base.stride, base.padding, base.dilation, base.groups
            )
        output: Tensor = super().forward(x, *args, **kwargs)
        return output


def folded_weight(layer: LoraLayer, x: Tensor) -> Tensor | None:
    """Return W + s B A, with its graph, or None where peft's own way is to be taken.

    That is where the layer is wide, where inputs of A differ from those of W (dropout), where a
    variant of LoRA needs the parts (DoRA), and where the sum would lose the small update to
    rounding (anything but float32).

    Args:
        layer: A linear layer or a convolution with LoRA on it.
        x: Its input.
    """
    base, names = layer.get_base_layer(), layer.active_adapters
    if len(names) != 1 or names[0] not in layer.lora_A or layer.disable_adapters or layer.merged:
        return None
    name = names[0]
    first, second = layer.lora_A[name].weight, layer.lora_B[name].weight
    plain = name not in layer.lora_variant and isinstance(layer.lora_dropout[name], nn.Identity)
    exact = all(tensor.dtype == torch.float32 for tensor in (x, base.weight, first, second))
    narrow = base.weight.numel() <= BREAK_EVEN * (first.numel() + second.numel())
    if not (plain and exact and narrow) or torch.is_autocast_enabled(x.device.type):
        return None
    folded: Tensor = base.weight + layer.get_delta_weight(name)
    return folded


def fold(config: LoraConfig) -> LoraConfig:
    """Return the configuration, which now makes layers of this module where it makes any."""
    config._register_custom_module({nn.Linear: FoldedLinear, nn.Conv2d: FoldedConv2d})
    return config
