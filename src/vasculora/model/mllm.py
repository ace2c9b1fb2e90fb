"""The language-vision model: its families, how each is built, its state at a token.

Everything in which families differ is a field of their row in FAMILIES; the rest of the code never
asks which one it is. A family arrives with a row here and a tiny configuration for the tests.
"""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor
from transformers import (
    InternVLConfig,
    InternVLForConditionalGeneration,
    PreTrainedModel,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)
from transformers.configuration_utils import PretrainedConfig

from vasculora.core.types import Batch


@dataclass(frozen=True)
class Family:
    """What tells one kind of language-vision model from another.

    Attributes:
        config_class: Its configuration in transformers.
        model_class: Its model in transformers, head included.
        image_token: The token whose embedding an image feature replaces.
        image_open: Text before an image's tokens.
        image_close: Text after them.
        image_first: Whether an image stands before all text (Qwen) or where `<image>` says.
        state_before_norm: Whether the `[SEG]` state is read before the final norm (Qwen3-VL) or
            after it (all others).
    """

    config_class: type[PretrainedConfig]
    model_class: type[PreTrainedModel]
    image_token: str
    image_open: str
    image_close: str
    image_first: bool
    state_before_norm: bool


def build_mllm(family: str, config: dict[str, object]) -> PreTrainedModel:
    """Return a language-vision model of a family, with fresh weights.

    Args:
        family: A name in FAMILIES.
        config: The family's configuration as transformers writes it.

    Raises:
        ValueError: If the family is unknown.
    """
    row = find_family(family)
    return row.model_class(row.config_class.from_dict(config))


def find_family(name: str) -> Family:
    """Return a family's row.

    Raises:
        ValueError: If there is none of that name.
    """
    if name not in FAMILIES:
        raise ValueError(f"unknown model family {name!r}. Known: {', '.join(FAMILIES)}.")
    return FAMILIES[name]


def token_states(
    mllm: PreTrainedModel, family: Family, batch: Batch
) -> tuple[Float[Tensor, "s t d"], Float[Tensor, "s t d"]]:
    """Return, at every token, the state that prompts a mask and the one that predicts a token.

    They are the same tensor unless the family reads the former before the final norm.
    """
    before: list[Tensor] = []
    language_model = mllm.model.language_model
    hook = None
    if family.state_before_norm:
        hook = language_model.norm.register_forward_pre_hook(lambda _, args: before.append(args[0]))
    try:
        after = mllm.model(
            **model_inputs(mllm, batch, batch.input_ids, batch.attention_mask), use_cache=False
        ).last_hidden_state
    finally:
        if hook is not None:
            hook.remove()
    return (before[0] if before else after), after


def model_inputs(
    mllm: PreTrainedModel,
    batch: Batch,
    input_ids: Int[Tensor, "s t"],
    attention_mask: Int[Tensor, "s t"],
) -> dict[str, Tensor]:
    """Return what transformers calls the tokens and images of a batch, padded on either side."""
    inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
    if len(batch.mllm_pixels):
        inputs["pixel_values"] = batch.mllm_pixels.to(mllm.dtype)
    if batch.mllm_grid is not None and len(batch.mllm_grid):
        inputs["image_grid_thw"] = batch.mllm_grid
        # rotary positions have rows and columns where a token stands for a patch
        inputs["mm_token_type_ids"] = (input_ids == mllm.config.image_token_id).int()
    return inputs


FAMILIES: dict[str, Family] = {
    "internvl": Family(
        config_class=InternVLConfig,
        model_class=InternVLForConditionalGeneration,
        image_token="<IMG_CONTEXT>",
        image_open="<img>",
        image_close="</img>",
        image_first=False,
        state_before_norm=False,
    ),
    "qwen2_5_vl": Family(
        config_class=Qwen2_5_VLConfig,
        model_class=Qwen2_5_VLForConditionalGeneration,
        image_token="<|image_pad|>",
        image_open="<|vision_start|>",
        image_close="<|vision_end|>",
        image_first=True,
        state_before_norm=False,
    ),
    "qwen3_vl": Family(
        config_class=Qwen3VLConfig,
        model_class=Qwen3VLForConditionalGeneration,
        image_token="<|image_pad|>",
        image_open="<|vision_start|>",
        image_close="<|vision_end|>",
        image_first=True,
        state_before_norm=True,
    ),
}
