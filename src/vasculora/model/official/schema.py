"""What an official checkpoint's `config.json` may say: kinds and ranges of its settings.

A file that was cut, mended by hand or had a bit flipped must be refused by the name of the setting,
before a size in it is asked of the memory. Ranges are far wider than any model that exists. Keys
that nothing is made of are passed over. A key may be absent, since its class has a default: of
InternVL's encoder it is the one here, of a language model that in `language` or of transformers.
"""

from typing import Annotated, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from transformers.activations import ACT2FN

_LONGEST_SHOWN = 60
_MROPE = {"qwen2_5_vl_text": [16, 24, 24], "qwen3_vl_text": [24, 20, 20]}
"""Positions for time, rows and columns where a configuration gives none: transformers' default."""
_SHOULD_BE = "Input should be "
_PLAIN = {"missing": "is missing", "extra_forbidden": "there is no such setting"}


def _check_activation(name: str) -> str:
    if name not in ACT2FN:
        raise ValueError(f"unknown activation {name!r}")
    return name


Width = Annotated[int, Field(ge=1, le=2**17)]
Count = Annotated[int, Field(ge=1, le=1024)]
Side = Annotated[int, Field(ge=1, le=8192)]
Epsilon = Annotated[float, Field(gt=0, lt=0.1)]
Theta = Annotated[float, Field(gt=1, le=1e12)]
Index = Annotated[int, Field(ge=0, le=2**24)]
Activation = Annotated[str, AfterValidator(_check_activation)]
RopeKind = Literal["default", "mrope", "linear", "dynamic", "yarn", "longrope", "llama3"]


class _Section(BaseModel):
    # strict: a number as a word is damage
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class Rope(_Section):
    """`rope_scaling`, or `rope_parameters` as it is called now."""

    type: RopeKind | None = None
    """How rotary positions are stretched, under its old name."""
    rope_type: RopeKind | None = None
    """The same."""
    factor: Annotated[float, Field(ge=1, le=1e6)] | None = None
    """How far."""
    rope_theta: Theta | None = None
    """Base of the positions."""
    mrope_section: Annotated[list[Index], Field(min_length=3, max_length=3)] | None = None
    """Positions for time, rows and columns; half the width of a head together."""


class Language(_Section):
    """`llm_config` or `text_config`."""

    architectures: list[str] | None = None
    """Its official class."""
    model_type: str | None = None
    """Its name in transformers."""
    vocab_size: Annotated[int, Field(ge=1, le=2**24)] | None = None
    """Tokens."""
    hidden_size: Width | None = None
    """Width of its states."""
    intermediate_size: Width | None = None
    """Width of its feed-forward part."""
    num_hidden_layers: Count | None = None
    """Layers."""
    num_attention_heads: Count | None = None
    """Heads of queries."""
    num_key_value_heads: Count | None = None
    """Heads of keys and values."""
    head_dim: Count | None = None
    """Width of a head."""
    hidden_act: Activation | None = None
    """Activation."""
    max_position_embeddings: Annotated[int, Field(ge=1, le=2**30)] | None = None
    """Longest text in tokens."""
    rms_norm_eps: Epsilon | None = None
    """What keeps a norm from dividing by zero."""
    rope_theta: Theta | None = None
    """Base of its rotary positions."""
    rope_scaling: Rope | None = None
    """How they are stretched."""
    rope_parameters: Rope | None = None
    """The same."""
    use_sliding_window: bool = False
    """Whether some layers see only near tokens."""
    sliding_window: Annotated[int, Field(ge=1)] | None = None
    """How near."""
    max_window_layers: Index | None = None
    """The first layer that does."""
    layer_types: list[Literal["full_attention", "sliding_attention"]] | None = None
    """The same, layer by layer."""
    attention_bias: bool = False
    """Whether queries, keys and values have a bias."""
    bias: bool = True
    """The same (InternLM2)."""

    @model_validator(mode="after")
    def _goes_together(self) -> "Language":
        heads, head, layers = self.num_attention_heads, self.head_dim, self.num_hidden_layers
        if heads and self.num_key_value_heads and heads % self.num_key_value_heads:
            raise ValueError(
                f"num_key_value_heads: {self.num_key_value_heads} does not divide {heads}, the "
                "number of heads"
            )
        if heads and self.hidden_size and not head and not self._is_qwen3:
            _check_divides("num_attention_heads", heads, self.hidden_size)
            head = self.hidden_size // heads
        if layers and self.layer_types is not None and len(self.layer_types) != layers:
            raise ValueError(f"layer_types: {len(self.layer_types)} for {layers} layers")
        rope = self.rope_parameters or self.rope_scaling
        section = (rope.mrope_section if rope else None) or _MROPE.get(self.model_type or "")
        if head and section and 2 * sum(section) != head:
            raise ValueError(
                f"mrope_section: {section} does not add up to half the width of a head, {head}"
            )
        return self

    @property
    def _is_qwen3(self) -> bool:
        """Whether the width of its heads has a default that does not follow from other sizes."""
        return any(name.lower().startswith("qwen3") for name in self._names)

    @property
    def _names(self) -> list[str]:
        return [*(self.architectures or ()), self.model_type or ""]


class TiledVision(_Section):
    """`vision_config` of an InternVL."""

    num_channels: Literal[3] = 3
    """Colours."""
    patch_size: Side = 14
    """Side of a patch in pixels."""
    image_size: Side = 224
    """Side of a tile in pixels."""
    hidden_size: Width = 3200
    """Width of its states."""
    intermediate_size: Width = 12800
    """Width of its feed-forward part."""
    num_hidden_layers: Count = 48
    """Layers."""
    num_attention_heads: Count = 25
    """Heads."""
    hidden_act: Activation = "gelu"
    """Activation."""
    norm_type: Literal["layer_norm", "rms_norm"] = "rms_norm"
    """Its norms."""
    layer_norm_eps: Epsilon = 1e-6
    """What keeps a norm from dividing by zero."""
    qkv_bias: bool = False
    """Whether queries, keys and values have a bias."""
    qk_normalization: bool = True
    """Whether queries and keys are normalised."""

    @model_validator(mode="after")
    def _goes_together(self) -> "TiledVision":
        _check_divides("num_attention_heads", self.num_attention_heads, self.hidden_size)
        if self.qk_normalization and self.layer_norm_eps != 1e-6:
            raise ValueError(
                "layer_norm_eps: expected 1e-06 where queries and keys are normalised, got "
                f"{self.layer_norm_eps}"
            )
        return self


class PatchVision(_Section):
    """`vision_config` of a Qwen."""

    in_channels: Literal[3] = 3
    """Colours."""
    patch_size: Annotated[int, Field(ge=1, le=256)] = 14
    """Side of a patch in pixels."""
    temporal_patch_size: Literal[2] = 2
    """Frames of a patch."""
    spatial_merge_size: Annotated[int, Field(ge=1, le=16)] = 2
    """Patches a side that become one token."""
    hidden_size: Width | None = None
    """Width of its states."""
    intermediate_size: Width | None = None
    """Width of its feed-forward part."""
    out_hidden_size: Width | None = None
    """Width of what it gives to the language model."""
    depth: Count | None = None
    """Layers."""
    num_heads: Count | None = None
    """Heads."""
    hidden_act: Activation | None = None
    """Activation."""
    window_size: Side | None = None
    """Side of an attention window in pixels (Qwen2.5)."""
    fullatt_block_indexes: list[Index] | None = None
    """Layers that see the whole image (Qwen2.5)."""
    num_position_embeddings: Annotated[int, Field(ge=1, le=2**20)] | None = None
    """Learnt positions (Qwen3)."""
    deepstack_visual_indexes: list[Index] | None = None
    """Layers whose states the language model is given too (Qwen3)."""
    tokens_per_second: Annotated[int, Field(ge=1, le=1000)] | None = None
    """How finely a video's time is told (Qwen2.5)."""

    @model_validator(mode="after")
    def _goes_together(self) -> "PatchVision":
        if self.hidden_size and self.num_heads:
            # rotary positions pair the halves of rows and of columns
            _check_divides("num_heads x 4", self.num_heads * 4, self.hidden_size)
        side = self.patch_size * self.spatial_merge_size
        if self.window_size and self.window_size < side:
            raise ValueError(f"window_size {self.window_size} is less than a token, {side} pixels")
        for name in ("fullatt_block_indexes", "deepstack_visual_indexes"):
            beyond = [i for i in getattr(self, name) or () if self.depth and i >= self.depth]
            if beyond:
                raise ValueError(f"{name} names layer {beyond[0]} of {self.depth}")
        return self


class InternVL(_Section):
    """The whole file of an InternVL."""

    llm_config: Language
    """Its language model."""
    vision_config: TiledVision = Field(default_factory=TiledVision)
    """Its image encoder."""
    force_image_size: Side | None = None
    """Side of a tile in pixels; nothing for that of `vision_config`."""
    downsample_ratio: float = Field(default=0.5, gt=0, le=1)
    """Tokens a side for each patch a side."""
    select_layer: int = -1
    """The layer whose states are taken."""
    ps_version: str = "v1"
    """How patches are joined into tokens."""
    template: str | None = None
    """Name of its prompt template."""

    @model_validator(mode="after")
    def _goes_together(self) -> "InternVL":
        layers = self.vision_config.num_hidden_layers
        if not -layers - 1 <= self.select_layer <= layers:
            raise ValueError(f"select_layer: {self.select_layer} of {layers} layers")
        patches = self.tile_size // self.vision_config.patch_size
        if patches * self.downsample_ratio % 1 or not patches:
            raise ValueError(
                f"{patches} patches a side (force_image_size {self.tile_size}, patch_size "
                f"{self.vision_config.patch_size}) cannot be joined by downsample_ratio "
                f"{self.downsample_ratio}"
            )
        if self.ps_version != "v2":
            raise ValueError(
                f"ps_version {self.ps_version!r} is not supported, only 'v2': 'v1' gives tokens "
                "another order"
            )
        return self

    @property
    def tile_size(self) -> int:
        """Side of a tile in pixels."""
        return self.force_image_size or self.vision_config.image_size

    @property
    def tile_tokens(self) -> int:
        """Tokens that a tile becomes."""
        return int(self.tile_size // self.vision_config.patch_size * self.downsample_ratio) ** 2


class QwenVL(_Section):
    """The whole file of a Qwen-VL."""

    text_config: Language
    """Its language model."""
    vision_config: PatchVision
    """Its image encoder."""
    video_token_id: Index | None = None
    """Id of the token that a video's features replace."""
    vision_start_token_id: Index | None = None
    """Id of what stands before a picture."""
    vision_end_token_id: Index | None = None
    """Id of what stands after."""
    template: str | None = None
    """Name of its prompt template."""


class Preprocessor(_Section):
    """`preprocessor_config.json` of a Qwen."""

    image_mean: Annotated[list[float], Field(min_length=3, max_length=3)] | None = None
    """Mean of each colour."""
    image_std: (
        Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=3, max_length=3)] | None
    ) = None
    """Standard deviation of each colour."""


Kind = TypeVar("Kind", bound=BaseModel)


def read_section(kind: type[Kind], found: object) -> Kind:
    """Return what a file holds, checked.

    Args:
        kind: What it may hold.
        found: What it holds.

    Raises:
        ValueError: If something is missing or of another kind or size: names it, but no file.
    """
    try:
        return kind.model_validate(found)
    except ValidationError as failure:
        raise ValueError(f"{first_fault(failure)} Copy the file again.") from None


def first_fault(failure: ValidationError) -> str:
    """Return what pydantic found wrong first, in one line."""
    fault = failure.errors(include_url=False)[0]
    place = ".".join(map(str, fault["loc"]))
    if fault["type"] in _PLAIN:
        return f"{place}: {_PLAIN[fault['type']]}."
    said = str(fault["msg"]).removeprefix("Value error, ")
    if fault["type"] == "model_type":
        said = f"expected a section of settings, got {_shown(fault['input'])}"
    elif said.startswith(_SHOULD_BE):
        said = f"expected {said.removeprefix(_SHOULD_BE)}, got {_shown(fault['input'])}"
    return f"{place}: {said}." if place else f"{said}."


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 3]}..."


def _check_divides(name: str, part: int, width: int) -> None:
    if width % part:
        raise ValueError(f"{name}: {part} does not divide hidden_size, {width}")
