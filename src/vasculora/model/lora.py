"""What learns: LoRA attached, whole blocks opened, and the one policy on `requires_grad`.

Nothing else in the package touches `requires_grad`. The policy is applied after every attach and
every load, since peft opens the frozen parts of a saved block again when it loads for training.
Tensors that no mask loss can reach (SAM 2's two score heads, the hypernetwork of the unused mask 0,
key biases that a softmax cannot see) stay frozen: AdamW would turn their float noise into full
steps. Of the embedding and the text head only the rows of `[SEG]` can be opened: a run teaches no
other word, and the two whole matrices of a large base are a billion weights. Which weight belongs
to which group is in `groups.py`.
"""

import re
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import TrainableTokensWrapper
from pydantic import BaseModel, ConfigDict, Field, field_validator
from safetensors import SafetensorError
from torch import nn

from vasculora.core.errors import NoTargetError
from vasculora.core.runtime import is_out_of_memory
from vasculora.model.folding import fold
from vasculora.model.groups import FROZEN_GROUPS, TRAINABLE_GROUPS, group_of
from vasculora.model.sa2va import Sa2VA


class LoraSettings(BaseModel):
    """What learns, and how wide the low-rank paths are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trainable: tuple[str, ...] = ("mllm_lora", "projector", "mask_decoder")
    """Groups that learn: mllm_lora, projector, mask_decoder, grounding_lora (SAM 2's image encoder
    and neck), mask_decoder_lora (instead of the whole decoder), connector (all of what turns image
    features into tokens; left out where a family has none to open), seg_token (the rows of `[SEG]`
    in the embedding and in the text head)."""
    frozen: tuple[str, ...] = ()
    """Groups that get LoRA matrices and stay frozen: memory_lora (SAM 2's memory attention, which
    a single image never runs), so that an adapter has the tensors of older ones; none are attached
    where SAM 2 has no memory."""
    linears: Literal["attention", "all"] = "attention"
    """The language model's linears that get LoRA: q, k, v and o, or gate, up and down as well."""
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
    """Pattern of linears below the language-vision model, instead of `linears`."""
    use_dora: bool = False
    """peft's DoRA: learn direction and length of an update apart."""
    use_rslora: bool = False
    """peft's rank-stabilised scale, `alpha / sqrt(rank)`."""

    @field_validator("trainable")
    @classmethod
    def _can_learn(cls, trainable: tuple[str, ...]) -> tuple[str, ...]:
        if idle := [name for name in trainable if name in FROZEN_GROUPS]:
            raise ValueError(
                f"{', '.join(idle)} cannot learn: a single image never runs SAM 2's memory "
                "attention, so no gradient gets there. Take it out of lora.trainable; named in "
                "lora.frozen, it is attached all the same."
            )
        unknown = [name for name in trainable if name not in TRAINABLE_GROUPS]
        if unknown or not trainable:
            raise ValueError(
                f"unknown trainable group {', '.join(unknown) or '(none given)'}. "
                f"Known: {', '.join(TRAINABLE_GROUPS)}"
            )
        if {"mask_decoder", "mask_decoder_lora"} <= set(trainable):
            raise ValueError("mask_decoder and mask_decoder_lora exclude each other. Name one.")
        return trainable

    @field_validator("frozen")
    @classmethod
    def _can_be_attached_frozen(cls, frozen: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [name for name in frozen if name not in FROZEN_GROUPS]:
            raise ValueError(
                f"{', '.join(unknown)} cannot be attached frozen. Known: "
                f"{', '.join(FROZEN_GROUPS)}. What is not in lora.trainable stays as it is anyway."
            )
        return frozen


def groups_of(model: Sa2VA, settings: LoraSettings) -> tuple[str, ...]:
    """Return the groups that learn in a model: those asked for, less a connector it does not have.

    A preset can so ask every family for its connector.

    Args:
        model: The base, with or without adapters.
        settings: What should learn.

    Raises:
        NoTargetError: If nothing is left.
    """
    names = {name for name, _ in model.named_modules()}
    absent = "connector" in settings.trainable and _BLOCKS["connector"] not in names
    groups = tuple(name for name in settings.trainable if not (absent and name == "connector"))
    if not groups:
        raise NoTargetError(
            group="connector",
            what="this base has none to open (what joins image and language there is a part of the "
            "frozen image encoder), so nothing would learn.",
            cure="Name another group in lora.trainable, mllm_lora for instance.",
        )
    return groups


def attach(model: Sa2VA, settings: LoraSettings) -> PeftModel:
    """Return the model with fresh adapters, in which only the trainable groups learn.

    Args:
        model: The base; changed in place.
        settings: What learns, and how.

    Raises:
        NoTargetError: If a pattern matches no module.
    """
    groups = groups_of(model, settings)
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
        modules_to_save=[_BLOCKS[g] for g in groups if g in _BLOCKS] or None,
        trainable_token_indices=_token_rows(model) if "seg_token" in groups else None,
        use_dora=settings.use_dora,
        use_rslora=settings.use_rslora,
        inference_mode=False,
    )
    peft_model = get_peft_model(model, fold(config))
    _tie_rows(peft_model)
    set_trainable(peft_model, groups)
    return peft_model


def set_trainable(model: nn.Module, trainable: Sequence[str]) -> None:
    """Make exactly the reachable weights of the named groups learn, in float32."""
    for name, param in model.named_parameters():
        group = group_of(name)
        learns = group in trainable and not _UNREACHABLE.search(name)
        param.requires_grad_(learns)
        if learns:
            param.data = param.data.float()


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
            config = fold(LoraConfig.from_pretrained(path))
            loaded = PeftModel.from_pretrained(model, path, config=config)
    except Exception as cause:
        if is_out_of_memory(cause):
            raise
        raise ValueError(
            f"{path}: the adapter is damaged or does not fit this base "
            f"({str(cause).splitlines()[0]}). Copy it again, or give the base it was trained on."
        ) from cause
    absent = [str(w.message) for w in caught if "missing adapter keys" in str(w.message)]
    if absent:
        raise ValueError(f"{path}: the adapter is incomplete. {absent[0][:200]} Copy it again.")
    _tie_rows(loaded)
    set_trainable(loaded, ())
    return loaded


def _patterns(model: Sa2VA, settings: LoraSettings) -> dict[str, str]:
    """Return, for each LoRA group that is attached, the pattern of the modules it goes into.

    peft wants one at least: where nothing learns by LoRA, the language model's stays frozen at
    zero.
    """
    known = {
        "mllm_lora": rf"mllm\.(?:{settings.target_modules or _LINEARS[settings.linears]})",
        "grounding_lora": _GROUNDING,
        "mask_decoder_lora": r"grounding\.mask_decoder\..*\.(q|k|v)_proj",
        "memory_lora": r"grounding\.memory_attention\..*\.(q|k|v)_proj",
    }
    frozen = settings.frozen if hasattr(model.grounding, "memory_attention") else ()
    wanted = [g for g in settings.trainable if g in known] or ["mllm_lora"]
    return {group: known[group] for group in (*wanted, *frozen)}


def _token_rows(model: Sa2VA) -> dict[str, list[int]]:
    """Return the rows of `[SEG]` by matrix; one matrix where the text head is the embedding."""
    tied = model.get_submodule(_HEAD).weight is model.get_submodule(_EMBEDDING).weight
    return {name: [model.seg_token_id] for name in ([_EMBEDDING] if tied else [_EMBEDDING, _HEAD])}


def _tie_rows(model: PeftModel) -> None:
    """Let a text head that is the embedding itself use the rows that learn in the embedding.

    peft does so where it is told of the tie by the model's own configuration. Without it, merging
    would write the rows into a matrix that had been without them in the head.
    """
    rows = model.peft_config["default"].trainable_token_indices or {}
    if _EMBEDDING not in rows or _HEAD in rows:
        return
    base = model.get_base_model()
    base.mllm.lm_head = TrainableTokensWrapper(
        base.mllm.lm_head,
        "default",
        token_indices=rows[_EMBEDDING],
        tied_adapter=base.get_submodule(_EMBEDDING).token_adapter,
    )


def _check_patterns(model: Sa2VA, patterns: dict[str, str]) -> None:
    names = [name for name, _ in model.named_modules()]
    for group, pattern in patterns.items():
        if not any(re.fullmatch(pattern, name) for name in names):
            own = group == "mllm_lora"
            raise NoTargetError(
                group=group,
                what=f"no module matches '{pattern}', so nothing in it could learn. Modules are "
                f"named like {_example(names)}.",
                cure="Change lora.target_modules, or leave it out for lora.linears."
                if own
                else "Take it out of lora.trainable.",
            )


def _example(names: Sequence[str]) -> str:
    found = [name for name in names if name.endswith(".q_proj")]
    spoken = [name for name in found if "language_model" in name]
    return next(iter([*spoken, *found]), names[-1])


WEIGHTS_NAME = "adapter_model.safetensors"
CONFIG_NAME = "adapter_config.json"
_ATTENTION = r"self_attn\.(q|k|v|o)_proj"
_LINEARS = {
    "attention": rf"model\.language_model\.layers\.\d+\.{_ATTENTION}",
    "all": rf"model\.language_model\.layers\.\d+\.({_ATTENTION}|mlp\.(gate|up|down)_proj)",
}
_GROUNDING = (
    r"grounding\.vision_encoder\."
    r"(backbone\..*\.(qkv|proj|proj_in|proj_out)|neck\.convs\.\d+)"
)
# peft goes by how a module's name ends, and no other module's ends like these
_BLOCKS = {
    "projector": "seg_projector",
    "mask_decoder": "mask_decoder",
    "connector": "mllm.model.multi_modal_projector",
}
_EMBEDDING = "mllm.model.language_model.embed_tokens"
_HEAD = "mllm.lm_head"
_UNREACHABLE = re.compile(
    r"iou_prediction_head|pred_obj_score_head|output_hypernetworks_mlps\.0\.|k_proj\.bias$"
)
