"""The language-vision model: its families, how each is built, its state at a token.

Everything in which families differ is a field of their row in FAMILIES; the rest of the code never
asks which one it is. A family arrives with a row here and a tiny configuration for the tests.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import InternVLConfig, InternVLForConditionalGeneration, PreTrainedModel
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
        attention: Pattern of the language model's attention linears, below the model.
        state_before_norm: Whether the `[SEG]` state is read before the final norm (Qwen3-VL) or
            after it (all others).
    """

    config_class: type[PretrainedConfig]
    model_class: type[PreTrainedModel]
    image_token: str
    image_open: str
    image_close: str
    attention: str
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
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            pixel_values=batch.mllm_pixels.to(mllm.dtype),
            use_cache=False,
        ).last_hidden_state
    finally:
        if hook is not None:
            hook.remove()
    return (before[0] if before else after), after


@torch.no_grad()
def decode_greedily(
    mllm: PreTrainedModel, batch: Batch, *, max_new_tokens: int, stop_id: int, pad_id: int
) -> list[Int[Tensor, " t"]]:
    """Return what the model answers to each prompt: new tokens only, the stop token included.

    Args:
        mllm: The language-vision model.
        batch: Prompts without answers, padded on the right.
        max_new_tokens: Longest answer.
        stop_id: Token that ends an answer.
        pad_id: Token to pad with.
    """
    lengths = batch.attention_mask.sum(dim=1).tolist()
    longest = max(lengths)
    prompts = batch.input_ids.new_full((batch.num_images, longest), pad_id)
    mask = torch.zeros_like(prompts)
    for row, length in enumerate(
        lengths
    ):  # a decoder continues at the right, so padding moves to the left
        prompts[row, longest - length :] = batch.input_ids[row, :length]
        mask[row, longest - length :] = 1
    sequences = mllm.generate(
        input_ids=prompts,
        attention_mask=mask,
        pixel_values=batch.mllm_pixels.to(mllm.dtype),
        max_new_tokens=max_new_tokens,
        do_sample=False,
        eos_token_id=stop_id,
        pad_token_id=pad_id,
    )
    return [_until(answer, stop_id) for answer in sequences[:, longest:]]


def _until(tokens: Int[Tensor, " t"], stop_id: int) -> Int[Tensor, " u"]:
    """Return the tokens up to and with the first stop token."""
    stops = (tokens == stop_id).nonzero()
    return tokens[: int(stops[0]) + 1] if len(stops) else tokens


FAMILIES: dict[str, Family] = {
    "internvl": Family(
        config_class=InternVLConfig,
        model_class=InternVLForConditionalGeneration,
        image_token="<IMG_CONTEXT>",
        image_open="<img>",
        image_close="</img>",
        attention=r"model\.language_model\.layers\.\d+\.self_attn\.(q|k|v|o)_proj",
        state_before_norm=False,
    ),
}
