"""One tree of settings a recipe, made of the parts' own; the defaults are a run that works.

What a base recommends for its own fine-tuning (`finetune.yaml` in its folder) lies under everything
a user says; a preset lies on top of it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from vasculora.core.config import Seed, load_config
from vasculora.core.geometry import Fit, TargetRule
from vasculora.data.frames import Frames
from vasculora.data.splits import read_fold
from vasculora.data.synthetic.styles import SynthStyle
from vasculora.engine.optim import OptimConfig
from vasculora.engine.trainer import TrainerConfig
from vasculora.engine.tta import TTA
from vasculora.losses.objective import ObjectiveConfig
from vasculora.metrics.panel import DEFAULT_RULES
from vasculora.model.images import Numerics
from vasculora.model.lora import LoraSettings
from vasculora.model.official.config import OfficialConfig
from vasculora.model.postprocess import MinSize
from vasculora.model.pretrained import defaults_path
from vasculora.model.tiles import WindowSide

PRESETS_DIR = Path(__file__).parent.parent / "assets" / "presets"

_TRAIN_SHARE = 0.8


class DataConfig(BaseModel):
    """Which images are learnt from, and how they are varied."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path
    """Folder of images and masks; it is only read."""
    split_by: Literal["group", "sorted"] = "group"
    """`group` never divides a patient or run; `sorted` takes the first by file name, which
    leaks."""
    group_regex: str | None = None
    """Pattern whose first capture group, searched in a file's name, is its patient or run."""
    train_share: float = Field(default=_TRAIN_SHARE, gt=0, lt=1)
    """Share of the images to train on."""
    stratify: bool = True
    """Choose the groups of a split so that train and val are alike in how much of an image is
    vessel."""
    fold: str | None = None
    """Which part of the groups is val, and of how many parts: `2/5`, from 1 on; over all of them
    each image is in val once. None splits by `train_share`."""
    leaks: Literal["refuse", "warn", "off"] = "refuse"
    """What to do where nearly the same image is in two parts of the split: end the run with exit
    code 2, only say so, or not look."""
    augment: Literal["none", "light", "strong"] = "light"
    """How far training images are varied: `light` turns, shifts and mirrors them and changes grey
    levels; `strong` goes further, bends them and varies their light."""
    modality: Literal["auto", "xray", "fundus", "octa"] = "auto"
    """Kind of picture whose light `strong` varies; `auto` looks at the training images and says
    what it took."""
    allow_empty: bool = False
    """Accept masks without a single pixel."""
    cache_gb: float = Field(default=3.0, ge=0, allow_inf_nan=False)
    """Memory for decoded images, in GiB, of train and val and all processes together; 0 decodes
    each image anew whenever it is needed."""

    @field_validator("fold")
    @classmethod
    def _names_a_fold(cls, fold: str | None) -> str | None:
        if fold is not None:
            read_fold(fold)
        return fold

    @model_validator(mode="after")
    def _says_modality_where_it_counts(self) -> "DataConfig":
        if self.modality != "auto" and self.augment != "strong":
            raise ValueError(
                f"modality {self.modality!r} only says how augment 'strong' varies light, but "
                f"augment is {self.augment!r}. Set augment to strong, or leave modality out."
            )
        return self

    @model_validator(mode="after")
    def _splits_in_one_way(self) -> "DataConfig":
        if self.fold is not None and self.split_by == "sorted":
            raise ValueError(
                f"fold {self.fold} is a fold of groups, but split_by is 'sorted'. Leave one of "
                "--fold and --split-by out."
            )
        if self.fold is not None and self.train_share != _TRAIN_SHARE:
            raise ValueError(
                f"fold {self.fold} and train_share {self.train_share:g} both say how much is val. "
                "Leave one of them out."
            )
        return self


class WordsConfig(BaseModel):
    """The words around a phrase, where they differ from the base's own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    phrase: str | None = None
    """What to segment where the data names nothing itself."""
    question: str | None = None
    """What is asked; `{phrase}` stands for the phrase."""
    questions: tuple[str, ...] | Literal["official"] | None = None
    """More ways to ask, of which training draws one each time, `question` among them; `official`
    stands for the list of the official training."""
    answer: str | None = None
    """What is trained on; it holds `[SEG]` once."""


class WindowConfig(BaseModel):
    """How large images are cut into overlapping windows, in training and prediction alike."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: WindowSide | None = None
    """Side of a window in pixels of the image; 0 shows whole images, None takes the base's own."""
    overlap: float | None = Field(default=None, ge=0, le=0.75)
    """Share of a window that at least lies in the next one too, in prediction; None takes the
    base's own."""
    foreground: float = Field(default=0.75, ge=0, le=1)
    """Share of the training windows drawn round a pixel of a target; the others lie anywhere."""
    per_image: int = Field(default=1, ge=1)
    """Windows of each image that an epoch trains on."""


class Provenance(BaseModel):
    """Where a run came from; written beside its settings, never asked for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    command: str
    """The command as it was typed."""
    versions: dict[str, str]
    """Versions of what the result depends on."""
    base_fingerprint: str
    """Digest of the base's weights."""
    data_fingerprint: str
    """Digest of all images and masks."""


class FinetuneConfig(BaseModel):
    """Settings of `vasculora finetune`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = "nano"
    """`nano`, a base model's folder or a run's folder."""
    data: DataConfig
    """Which images are learnt from."""
    official: OfficialConfig = OfficialConfig()
    """How an official checkpoint is read."""
    numerics: Numerics = "float32"
    """SAM 2's normalisation: exact constants (as in the official training) or bfloat16 ones."""
    prompt: WordsConfig = WordsConfig()
    """The words around a phrase."""
    target: TargetRule | Literal["auto"] = "auto"
    """Truth for the loss: `full` at the image's own size, or on the decoder's grid as `area` shares
    or, as officially, by `nearest`. `auto` measures what each allows on a few training masks, and
    takes `area` only where it loses nothing and saves much."""
    fit: Fit | None = None
    """How an image becomes SAM 2's square: `squash` (official), or `letterbox`, which keeps its
    shape; None takes the base's own."""
    window: WindowConfig = WindowConfig()
    """How large images are cut."""
    lora: LoraSettings = LoraSettings()
    """What learns."""
    objective: ObjectiveConfig | Literal["official"] = ObjectiveConfig()
    """What is minimised: a section of weights, or `official` for the loss of the official training,
    on sampled points (it needs `target: full`)."""
    optim: OptimConfig = OptimConfig()
    """How big a step is."""
    trainer: TrainerConfig = TrainerConfig()
    """How long, and in what portions."""
    sentinel: Literal["stop", "warn", "off"] = "stop"
    """What to do where weights, losses or scores stand still: end the run with exit code 3, only
    say so, or not look."""
    eval_batch_size: int = Field(default=8, ge=1)
    """Images predicted together when the model is scored."""
    seed: Seed = 0
    """Seed of everything random."""
    gpu: int | None = None
    """Index of the GPU; None takes the first one, or the CPU where there is none."""
    provenance: Provenance | None = None
    """Where the run came from; written by the run itself."""

    @model_validator(mode="after")
    def _official_takes_squashed_images(self) -> "FinetuneConfig":
        if self.objective == "official" and self.fit == "letterbox":
            raise ValueError(
                "objective 'official' knows squashed images alone, and fit is 'letterbox'. Set "
                "fit=squash, or give objective a section of weights."
            )
        return self

    @model_validator(mode="after")
    def _official_takes_whole_masks(self) -> "FinetuneConfig":
        if self.objective == "official" and self.target not in ("auto", "full"):
            raise ValueError(
                "objective 'official' makes its own coarse truth from masks at their images' own "
                f"size, so it needs target 'full', got {self.target!r}. Set target=full, or give "
                "objective a section of weights."
            )
        return self


class AnswerConfig(BaseModel):
    """What is made of a model's answers beside asking it once."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tta: TTA = "none"
    """Views whose logits are averaged (test-time augmentation): `flips`, the image and its three
    mirror images (4 times the work), `scales`, the image shown as it is, larger and smaller (about
    6 times), or `all` of these (about 9 times). A view of which the phrase would be false is left
    out."""
    min_size: MinSize = 0
    """Pixels that a piece of the mask must have at least, those that touch at a corner together; 0
    keeps every speck."""
    hysteresis: float | None = Field(default=None, gt=0, lt=1)
    """Probability above which a pixel counts too, where such pixels join it to one above the
    threshold: faint ends of a sure vessel. None counts by the threshold alone."""


class MetricsConfig(BaseModel):
    """What is a matter of choice in the metrics."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    small_width: float = Field(default=DEFAULT_RULES.small_width, gt=0, allow_inf_nan=False)
    """Width in pixels up to which a vessel is small, for its recall."""
    tolerance: float = Field(default=DEFAULT_RULES.tolerance, ge=0, allow_inf_nan=False)
    """Pixels by which an outline may be off, for the surface Dice."""


class EvaluateConfig(BaseModel):
    """Settings of `vasculora evaluate`: a model, or masks that lie in a folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str | None = None
    """`nano`, a base model's folder or a run's folder."""
    against: str | None = None
    """Instead of a model, a folder of masks to score, each called as its image is; with
    `:SUFFIX` behind it, as its image with that suffix."""
    baseline: str | None = None
    """A model to compare with, case by case; it is asked in the same way."""
    official: OfficialConfig = OfficialConfig()
    """How an official checkpoint is read."""
    data: Path
    """Folder of images and masks; it is only read."""
    split: Literal["train", "val", "test", "all"] | None = None
    """Part to score; None takes `val` where the data has a split, else `all`."""
    group_regex: str | None = None
    """Pattern whose first capture group, searched in a file's name, is its patient or run."""
    phrase: str | None = None
    """What to segment where the data names nothing itself; None takes the model's own."""
    threshold: float | None = Field(default=None, gt=0, lt=1)
    """Probability above which a pixel counts; None takes the model's own."""
    window: WindowSide | None = None
    """Side in pixels of the windows into which larger images are cut; 0 shows whole images, None
    takes the model's own."""
    answer: AnswerConfig = AnswerConfig()
    """What is made of the model's answers."""
    metrics: MetricsConfig = MetricsConfig()
    """What is a matter of choice in the metrics."""
    gallery: int = Field(default=12, ge=3)
    """Cases shown in the report: a third each of the best, the median and the worst."""
    batch_size: int = Field(default=8, ge=1)
    """Images predicted together."""
    gpu: int | None = None
    """Index of the GPU; None takes the first one, or the CPU where there is none."""

    @model_validator(mode="after")
    def _scores_one_thing(self) -> "EvaluateConfig":
        if (self.model is None) == (self.against is None):
            what = "neither was" if self.model is None else "both were"
            raise ValueError(
                f"a model or masks are scored, but {what} given. Give MODEL, or --against "
                "DIR[:SUFFIX] for masks that lie in a folder."
            )
        return self

    @model_validator(mode="after")
    def _asks_a_model_only_where_there_is_one(self) -> "EvaluateConfig":
        if self.against is None:
            return self
        idle = [name for name in _OF_A_MODEL if getattr(self, name) != _default_of(name)]
        if idle:
            raise ValueError(
                f"{idle[0]} says how a model is asked, but masks are scored (--against). Leave it "
                "out."
            )
        return self


_OF_A_MODEL = ("baseline", "official", "phrase", "threshold", "window", "answer", "gpu")


def _default_of(name: str) -> object:
    return EvaluateConfig.model_fields[name].default


class PredictConfig(BaseModel):
    """Settings of `vasculora predict`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = "nano"
    """`nano`, a base model's folder or a run's folder."""
    official: OfficialConfig = OfficialConfig()
    """How an official checkpoint is read."""
    frames: Frames | None = None
    """Which frames of DICOM files: `all`, `peak` (best contrast filling) or a number from 0 on;
    None takes `peak`."""
    phrase: str | None = None
    """What to segment; None takes the phrase the model was trained on."""
    threshold: float | None = Field(default=None, gt=0, lt=1)
    """Probability above which a pixel counts; None takes the model's own."""
    window: WindowSide | None = None
    """Side in pixels of the windows into which larger images are cut; 0 shows whole images, None
    takes the model's own."""
    answer: AnswerConfig = AnswerConfig()
    """What is made of the model's answers."""
    gpu: int | None = None
    """Index of the GPU; None takes the first one, or the CPU where there is none."""


class SynthConfig(BaseModel):
    """Settings of `vasculora data synth`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    style: SynthStyle = "xray"
    """Kind of image."""
    num: int = Field(default=200, ge=1)
    """Number of images."""
    size: int = Field(default=256, ge=64)
    """Side of an image in pixels."""
    seed: Seed = 0
    """The same seed draws the same images."""


def finetune_settings(
    *,
    config_path: Path | None,
    preset: str | None,
    overrides: Sequence[str],
    values: Mapping[str, object],
    resumed: Path | None = None,
) -> FinetuneConfig:
    """Return the settings of a fine-tuning from all the places that have a say.

    From the bottom: the defaults, what the base recommends, the preset, the user's file, his
    `--set` and his flags. A resumed run starts from its own settings instead of the first two.

    Args:
        config_path: The user's YAML file.
        preset: Name of a file in `assets/presets`.
        overrides: `a.b=c`.
        values: Flags by dotted key.
        resumed: The `config.yaml` of the run to take up.

    Raises:
        ValueError: If a setting is unknown or of the wrong type.
        FileNotFoundError: If a file or the model is not there.
    """
    layers = [] if preset is None else [_preset(preset)]
    layers += [] if config_path is None else [config_path]
    if resumed is not None:
        return load_config(FinetuneConfig, resumed, *layers, overrides=overrides, values=values)
    settings = load_config(FinetuneConfig, *layers, overrides=overrides, values=values)
    below = defaults_path(settings.model)
    if below is None:
        return settings
    return load_config(FinetuneConfig, below, *layers, overrides=overrides, values=values)


def preset_names() -> tuple[str, ...]:
    """Return the names of all presets."""
    return tuple(sorted(path.stem for path in PRESETS_DIR.glob("*.yaml")))


def _preset(name: str) -> Path:
    path = PRESETS_DIR / f"{name}.yaml"
    if not path.is_file():
        raise ValueError(f"unknown preset {name!r}. Known: {', '.join(preset_names())}.")
    return path
