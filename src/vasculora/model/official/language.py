"""An official checkpoint's language model, as the configuration of a transformers class.

InternLM2 becomes transformers' Llama, whose mathematics are the same. Defaults are those of the
official classes at the version they were released with, since later ones differ.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_KEPT = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_act",
    "max_position_embeddings",
    "rms_norm_eps",
    "use_sliding_window",
    "sliding_window",
    "max_window_layers",
    "layer_types",
    "attention_bias",
)


@dataclass(frozen=True)
class LanguageModel:
    """One kind of language model.

    Attributes:
        model_type: Its name in transformers.
        defaults: Settings that a configuration may leave out.
        renamed: Settings that transformers calls otherwise.
        rope_theta: Base of its rotary positions, where none is given.
        grouped: Whether queries, keys and values are stored as one tensor, grouped by key head.
        sees_patches: Whether it belongs to a Qwen-VL.
    """

    model_type: str
    defaults: Mapping[str, Any] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)
    rope_theta: float = 10000.0
    grouped: bool = False
    sees_patches: bool = False


@dataclass(frozen=True)
class LanguageConfig:
    """A language model's configuration.

    Attributes:
        official_class: Its class in the official code.
        config: Its settings as transformers writes them.
        grouped_heads: Query and key-value heads, where they are stored as one grouped tensor.
        sees_patches: Whether it belongs to a Qwen-VL.
    """

    official_class: str
    config: dict[str, Any]
    grouped_heads: tuple[int, int] | None
    sees_patches: bool


def language_config(found: Mapping[str, Any]) -> LanguageConfig:
    """Return the settings of the language model that a configuration describes.

    Args:
        found: `llm_config` or `text_config`.

    Raises:
        ValueError: If the language model is of no known kind.
    """
    name = _kind(found)
    kind = LANGUAGE_MODELS[name]
    given = {kind.renamed.get(key, key): value for key, value in found.items()}
    config = dict(kind.defaults) | {k: given[k] for k in _KEPT if k in given}
    if config.get("num_key_value_heads", 0) is None:
        config["num_key_value_heads"] = config["num_attention_heads"]
    config |= {
        "model_type": kind.model_type,
        "rope_parameters": _rope(found, kind.rope_theta),
        "tie_word_embeddings": False,  # the official head is always stored apart
        # the tokenizer says where an answer ends, and transformers warns of ids beyond the table
        "bos_token_id": None,
        "eos_token_id": None,
    }
    heads = (config["num_attention_heads"], config["num_key_value_heads"]) if kind.grouped else None
    return LanguageConfig(
        official_class=name, config=config, grouped_heads=heads, sees_patches=kind.sees_patches
    )


def _kind(found: Mapping[str, Any]) -> str:
    """Return the official class of a language model, by its own name or by its model type."""
    named = found.get("architectures") or []
    model_type = found.get("model_type")
    for name, kind in LANGUAGE_MODELS.items():
        if name in named or kind.model_type == model_type:
            return name
    if model_type == "internlm2":
        return "InternLM2ForCausalLM"
    raise ValueError(
        f"its language model is {', '.join(named) or model_type!r}. "
        f"Known: {', '.join(LANGUAGE_MODELS)}."
    )


def _rope(found: Mapping[str, Any], theta: float) -> dict[str, Any]:
    """Return the rotary positions as transformers 5 writes them, from either way of writing."""
    rope = dict(found.get("rope_parameters") or found.get("rope_scaling") or {})
    kind = rope.pop("type", None) or "default"
    rope.setdefault("rope_type", "default" if kind == "mrope" else kind)
    if rope["rope_type"] == "mrope":
        rope["rope_type"] = "default"
    return {"rope_theta": found.get("rope_theta", theta)} | rope


LANGUAGE_MODELS: dict[str, LanguageModel] = {
    "Qwen2ForCausalLM": LanguageModel("qwen2"),
    "Qwen3ForCausalLM": LanguageModel("qwen3"),
    "LlamaForCausalLM": LanguageModel("llama"),
    "InternLM2ForCausalLM": LanguageModel(
        "llama",
        defaults={
            "vocab_size": 103168,
            "hidden_size": 4096,
            "intermediate_size": 11008,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": None,
            "hidden_act": "silu",
            "max_position_embeddings": 2048,
            "rms_norm_eps": 1e-6,
            "attention_bias": True,
        },
        renamed={"bias": "attention_bias"},
        grouped=True,
    ),
    "Qwen2_5_VLForConditionalGeneration": LanguageModel(
        "qwen2_5_vl_text", rope_theta=1000000.0, sees_patches=True
    ),
    "Qwen3VLForConditionalGeneration": LanguageModel(
        "qwen3_vl_text", rope_theta=5000000.0, sees_patches=True
    ),
}
