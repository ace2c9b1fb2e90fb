"""What learns: LoRA attached, whole blocks opened, and the one policy on `requires_grad`.

Nothing else in the package touches `requires_grad`. The policy is applied after every attach and
every load, since peft opens the frozen parts of a saved block again when it loads for training.
Tensors that no mask loss can reach (SAM 2's two score heads, the hypernetwork of the unused mask 0,
key biases that a softmax cannot see) stay frozen: AdamW would turn their float noise into full
steps.
"""

import re
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path

from peft import LoraConfig, PeftModel, get_peft_model
from pydantic import BaseModel, ConfigDict, Field, field_validator
from safetensors import SafetensorError
from torch import nn
from torch.nn import Parameter

from vasculora.core.errors import NoTargetError
from vasculora.model.sa2va import Sa2VA


class LoraSettings(BaseModel):
    """What learns, and how wide the low-rank paths are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trainable: tuple[str, ...] = ("mllm_lora", "projector", "mask_decoder")
    """Groups that learn: mllm_lora, projector, mask_decoder, grounding_lora (SAM 2's image encoder
    and neck), mask_decoder_lora (instead of the whole decoder)."""
    rank: int = Field(default=64, ge=1)
    """Rank of the LoRA matrices in the language model and in the mask decoder."""
    alpha: int = Field(default=128, ge=1)
    """Their scale: an update counts `alpha / rank` times."""
    dropout: float = Field(default=0.05, ge=0, lt=1)
    """Dropout before every LoRA matrix."""
    grounding_rank: int = Field(default=32, ge=1)
    """Rank in SAM 2's image encoder and neck."""
    grounding_alpha: int = Field(default=64, ge=1)
    """Scale in SAM 2's image encoder and neck."""
    target_modules: str | None = None
    """Pattern of the language model's linears, below the language-vision model; None takes q, k, v
    and o."""
    use_dora: bool = False
    """peft's DoRA: learn direction and length of an update apart."""
    use_rslora: bool = False
    """peft's rank-stabilised scale, `alpha / sqrt(rank)`."""

    @field_validator("trainable")
    @classmethod
    def _are_known(cls, trainable: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in trainable if name not in GROUPS]
        if unknown or not trainable:
            raise ValueError(
                f"unknown trainable group {', '.join(unknown) or '(none given)'}. "
                f"Known: {', '.join(GROUPS)}"
            )
        if {"mask_decoder", "mask_decoder_lora"} <= set(trainable):
            raise ValueError("mask_decoder and mask_decoder_lora exclude each other. Name one.")
        return trainable


def attach(model: Sa2VA, settings: LoraSettings) -> PeftModel:
    """Return the model with fresh adapters, in which only the trainable groups learn.

    Args:
        model: The base; changed in place.
        settings: What learns, and how.

    Raises:
        NoTargetError: If a pattern matches no module.
    """
    patterns = _patterns(model, settings)
    _check_patterns(model, patterns)
    own_scale = "grounding_lora" in patterns
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules="|".join(patterns.values()),
        rank_pattern={_GROUNDING: settings.grounding_rank} if own_scale else {},
        alpha_pattern={_GROUNDING: settings.grounding_alpha} if own_scale else {},
        modules_to_save=[_BLOCKS[g] for g in settings.trainable if g in _BLOCKS] or None,
        use_dora=settings.use_dora,
        use_rslora=settings.use_rslora,
        inference_mode=False,
    )
    peft_model = get_peft_model(model, config)
    set_trainable(peft_model, settings.trainable)
    return peft_model


def set_trainable(model: nn.Module, trainable: Sequence[str]) -> None:
    """Make exactly the reachable weights of the named groups learn, in float32."""
    for name, param in model.named_parameters():
        group = group_of(name)
        learns = group in trainable and not _UNREACHABLE.search(name)
        param.requires_grad_(learns)
        if learns:
            param.data = param.data.float()


def trainable_groups(model: nn.Module) -> dict[str, dict[str, Parameter]]:
    """Return the weights that learn, by group and name."""
    groups: dict[str, dict[str, Parameter]] = {}
    for name, param in model.named_parameters():
        if param.requires_grad:
            groups.setdefault(group_of(name) or "other", {})[name] = param
    return groups


def group_of(name: str) -> str | None:
    """Return the trainable group a parameter belongs to, or None."""
    for group, pattern in GROUPS.items():
        if re.search(pattern, name):
            return group
    return None


def save_adapter(model: PeftModel, path: Path) -> None:
    """Write the adapter's configuration and weights below `path`, each file whole or not at all.

    Raises:
        OSError: If the files cannot be written; those that were there are left as they are.
    """
    draft = path.with_name(f".{path.name}.draft")
    try:
        # without the flag peft asks a model hub whether the vocabulary has grown
        model.save_pretrained(draft, save_embedding_layers=False)
        # safetensors writes for the owner alone; the settings beside it have the user's own rights
        (draft / WEIGHTS_NAME).chmod((draft / CONFIG_NAME).stat().st_mode)
        path.mkdir(parents=True, exist_ok=True)
        for name in (WEIGHTS_NAME, CONFIG_NAME):
            (draft / name).replace(path / name)
    except (OSError, SafetensorError) as cause:
        raise OSError(
            f"{path}: cannot be written: {cause}. Free some space there, or choose a folder you "
            "may write to."
        ) from cause
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def load_adapter(model: Sa2VA, path: Path) -> PeftModel:
    """Return the model with a saved adapter on it, frozen.

    Args:
        model: The base the adapter was made for; changed in place.
        path: The adapter's folder.

    Raises:
        ValueError: If the adapter does not fit the base, or its files are damaged.
    """
    for name in (WEIGHTS_NAME, CONFIG_NAME):
        if not (path / name).is_file():
            raise FileNotFoundError(f"{path / name} is missing: the run saved no finished epoch.")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            loaded = PeftModel.from_pretrained(model, path)
    except Exception as cause:
        raise ValueError(
            f"{path}: the adapter is damaged or does not fit this base "
            f"({str(cause).splitlines()[0]}). Copy it again, or give the base it was trained on."
        ) from cause
    absent = [str(w.message) for w in caught if "missing adapter keys" in str(w.message)]
    if absent:
        raise ValueError(f"{path}: the adapter is incomplete. {absent[0][:200]} Copy it again.")
    set_trainable(loaded, ())
    return loaded


def _patterns(model: Sa2VA, settings: LoraSettings) -> dict[str, str]:
    """Return, for each LoRA group that is asked for, the pattern of the modules it goes into.

    peft wants one at least: where only whole blocks learn, the language model's stays frozen at
        zero.
    """
    known = {
        "mllm_lora": rf"mllm\.{settings.target_modules or model.family.attention}",
        "grounding_lora": _GROUNDING,
        "mask_decoder_lora": r"grounding\.mask_decoder\..*\.(q|k|v)_proj",
    }
    wanted = [group for group in settings.trainable if group in known] or ["mllm_lora"]
    return {group: known[group] for group in wanted}


def _check_patterns(model: Sa2VA, patterns: dict[str, str]) -> None:
    names = [name for name, _ in model.named_modules()]
    for group, pattern in patterns.items():
        if not any(re.fullmatch(pattern, name) for name in names):
            own = group == "mllm_lora"
            raise NoTargetError(
                group=group,
                what=f"no module matches '{pattern}', so nothing in it could learn. Modules are "
                f"named like {_example(names)}.",
                cure="Change lora.target_modules, or leave it out for q, k, v and o."
                if own
                else "Take it out of lora.trainable.",
            )


def _example(names: Sequence[str]) -> str:
    found = [name for name in names if name.endswith(".q_proj")]
    spoken = [name for name in found if "language_model" in name]
    return next(iter([*spoken, *found]), names[-1])


WEIGHTS_NAME = "adapter_model.safetensors"
CONFIG_NAME = "adapter_config.json"
_GROUNDING = (
    r"grounding\.vision_encoder\."
    r"(backbone\..*\.(qkv|proj|proj_in|proj_out)|neck\.convs\.\d+)"
)
_BLOCKS = {"projector": "seg_projector", "mask_decoder": "mask_decoder"}
_UNREACHABLE = re.compile(
    r"iou_prediction_head|pred_obj_score_head|output_hypernetworks_mlps\.0\.|k_proj\.bias$"
)

GROUPS: dict[str, str] = {
    "mllm_lora": r"\bmllm\..*\.lora_",
    "grounding_lora": r"\bgrounding\.vision_encoder\..*\.lora_",
    "mask_decoder_lora": r"\bgrounding\.mask_decoder\..*\.lora_",
    "projector": r"\bseg_projector\.modules_to_save\.",
    "mask_decoder": r"\bgrounding\.mask_decoder\.modules_to_save\.",
}
