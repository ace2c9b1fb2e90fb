"""Which weight belongs to which group: the names a user says, their patterns, their counts.

A group is something that is opened as one: LoRA matrices in a part of the model, a whole block, or
the `[SEG]` rows. Patterns are searched in parameters' names, so that groups can be told in any
model that went through `attach`, and no weight is in two of them.
"""

import re
from dataclasses import dataclass

from torch import nn
from torch.nn import Parameter


@dataclass(frozen=True)
class GroupCounts:
    """Weights by group, in the order of GROUPS.

    Attributes:
        attached: All that were added to the base.
        trainable: Those of them that learn; 0 in a frozen group.
    """

    attached: dict[str, int]
    trainable: dict[str, int]

    @property
    def num_attached(self) -> int:
        """Number of weights added to the base."""
        return sum(self.attached.values())

    @property
    def num_trainable(self) -> int:
        """Number of weights that learn."""
        return sum(self.trainable.values())


def count_groups(model: nn.Module) -> GroupCounts:
    """Return how many weights each group of a model holds, and how many of them learn."""
    params = [(group_of(name), param) for name, param in model.named_parameters()]
    held = {group for group, _ in params}
    names = [name for name in GROUPS if name in held]
    return GroupCounts(
        attached={n: sum(p.numel() for g, p in params if g == n) for n in names},
        trainable={
            n: sum(p.numel() for g, p in params if g == n and p.requires_grad) for n in names
        },
    )


def trainable_groups(model: nn.Module) -> dict[str, dict[str, Parameter]]:
    """Return the weights that learn, by group and name."""
    groups: dict[str, dict[str, Parameter]] = {}
    for name, param in model.named_parameters():
        if param.requires_grad:
            groups.setdefault(group_of(name) or "other", {})[name] = param
    return groups


def group_of(name: str) -> str | None:
    """Return the group a parameter belongs to, or None."""
    for group, pattern in GROUPS.items():
        if re.search(pattern, name):
            return group
    return None


GROUPS: dict[str, str] = {
    "mllm_lora": r"\bmllm\..*\.lora_",
    "grounding_lora": r"\bgrounding\.vision_encoder\..*\.lora_",
    "mask_decoder_lora": r"\bgrounding\.mask_decoder\..*\.lora_",
    "memory_lora": r"\bgrounding\.memory_attention\..*\.lora_",
    "projector": r"\bseg_projector\.modules_to_save\.",
    "mask_decoder": r"\bgrounding\.mask_decoder\.modules_to_save\.",
    "connector": r"\bmllm\.model\.multi_modal_projector\.modules_to_save\.",
    "seg_token": r"\bmllm\..*\.trainable_tokens_delta\.",
}
FROZEN_GROUPS = ("memory_lora",)
"""Groups that can be attached but cannot learn: a single image never runs SAM 2's memory."""
TRAINABLE_GROUPS = tuple(name for name in GROUPS if name not in FROZEN_GROUPS)
