"""What `vasculora inspect` finds, as a record, and how it is shown."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from vasculora.core.report import Report
from vasculora.model.anatomy import Inputs, Part

ALL = "all"


@dataclass(frozen=True, kw_only=True)
class Block:
    """A block of a model.

    Attributes:
        name: Which.
        parameters: Number of its weights.
        dtypes: Number formats it is stored in; none where they are not known.
        num_bytes: What it takes in the files, buffers included; None where that is not known.
    """

    name: str
    parameters: int
    dtypes: tuple[str, ...]
    num_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class Token:
    """A token with a meaning of its own: what it is for, its text and its id."""

    name: str
    text: str
    id: int


@dataclass(frozen=True, kw_only=True)
class RunAdapter:
    """What a run's adapter holds.

    Attributes:
        folder: The run's folder.
        base: The model it was trained on.
        trained: Groups that learnt.
        groups: Number of its weights by group.
        ranks: Rank of the LoRA matrices of each group that has some.
        dtypes: Number formats it is stored in.
    """

    folder: str
    base: str
    trained: tuple[str, ...]
    groups: Mapping[str, int]
    ranks: Mapping[str, int]
    dtypes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class PresetCounts:
    """What a preset would do to a model.

    Attributes:
        name: The preset.
        attached: Weights it adds, by group.
        trainable: Those of them that learn.
        num_attached: Number of weights it adds.
        num_trainable: Number of weights that learn.
        left_out: Groups it asks for of which the model has none.
    """

    name: str
    attached: Mapping[str, int]
    trainable: Mapping[str, int]
    num_attached: int
    num_trainable: int
    left_out: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class WeightFiles:
    """The files that hold a base's weights, by their headers or, where they are missing, the index.

    Attributes:
        index: Name of the index, where there is one.
        num_files: Number of files; None where neither is there.
        num_tensors: Tensors in them, likewise.
        num_bytes: What they take, where it is known.
    """

    index: str | None
    num_files: int | None
    num_tensors: int | None
    num_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class Words:
    """How a model is talked to.

    Attributes:
        template: Name of its prompt template.
        system: What stands before the first question; None where the tokenizer must say it and is
            missing.
        stop_words: Texts that end an answer.
        tokens: Tokens with a meaning of their own; none where the tokenizer is missing.
    """

    template: str
    system: str | None
    stop_words: tuple[str, ...]
    tokens: tuple[Token, ...]


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What a model's folder is.

    Attributes:
        folder: Where the base is.
        kind: How the base is laid out: `official` or `vasculora`.
        family: Family of its language-vision model.
        language_model: Its language model's class.
        adapters: What is merged into it where it is a run, the innermost first.
        parts: Its sizes.
        inputs: What it is given.
        blocks: Its weights.
        num_parameters: Number of all of them.
        files: Where they are.
        words: How it is talked to.
        presets: What each preset would do.
        warnings: What is missing or does not agree.
    """

    folder: str
    kind: str
    family: str
    language_model: str
    adapters: tuple[RunAdapter, ...]
    parts: tuple[Part, ...]
    inputs: Inputs
    blocks: tuple[Block, ...]
    num_parameters: int
    files: WeightFiles
    words: Words
    presets: tuple[PresetCounts, ...]
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, object]:
        """Return it as plain values, for JSON."""
        return asdict(self)


def show(found: Inspection, report: Report) -> None:
    """Show all of it; what is missing last."""
    for adapter in reversed(found.adapters):
        _show_adapter(adapter, report)
    report.note(f"Base: {found.folder}")
    report.note(f"Kind: {_KINDS[found.kind]}")
    report.note(f"Family: {found.family}, language model {found.language_model}")
    report.note(f"Weights: {_weights(found)}")
    report.note(f"Pictures: {_pictures(found.inputs)}")
    report.note(f"Vocabulary: {found.inputs.vocabulary:,} tokens")
    report.note(f"Prompt: template {found.words.template}, {_system(found.words.system)}")
    report.note(f"Answers end with: {' or '.join(found.words.stop_words)}")
    if found.words.tokens:
        rows = [(token.name, token.text, str(token.id)) for token in found.words.tokens]
        report.table("Tokens", ("token", "text", "id"), rows)
    report.table(
        "Sizes", ("part", "layers", "width", "heads"), [_part(part) for part in found.parts]
    )
    report.table(
        "Weights by block", ("block", "parameters", "stored as", "bytes"), list(_blocks(found))
    )
    report.table(
        "What each preset attaches and trains",
        ("preset", "group", "attached", "trainable"),
        [row for preset in found.presets for row in _preset(preset)],
    )
    for preset in found.presets:
        for group in preset.left_out:
            report.note(f"{preset.name} goes without {group}: {_WHY_LEFT_OUT[group]}.")
    for text in found.warnings:
        report.warn(text)


def _show_adapter(adapter: RunAdapter, report: Report) -> None:
    report.note(f"Run: {adapter.folder}")
    report.note(f"Trained: {', '.join(adapter.trained)} on {adapter.base}")
    rows = [
        (group, f"{count:,}", str(adapter.ranks.get(group, "-")))
        for group, count in adapter.groups.items()
    ]
    total = (ALL, f"{sum(adapter.groups.values()):,}", "-")
    report.table(
        f"What its adapter holds, as {', '.join(adapter.dtypes)}",
        ("group", "weights", "rank"),
        [*rows, total],
    )


def _weights(found: Inspection) -> str:
    files, text = found.files, f"{found.num_parameters:,} parameters"
    if files.num_tensors is None:
        return text
    where = "1 file" if files.num_files == 1 else f"{files.num_files} files"
    text += f"; {files.num_tensors:,} tensors in {where}"
    return text if files.num_bytes is None else f"{text}, {_amount(files.num_bytes)}"


def _amount(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:,.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:,.1f} MB"


def _pictures(inputs: Inputs) -> str:
    if inputs.tile_size is None:
        text = f"patches of {_square(inputs.patch_size)} pixels, {inputs.token_patches} a token"
    else:
        text = f"tiles of {_square(inputs.tile_size)} pixels, {inputs.tile_tokens} tokens each"
    return f"{text}; {_square(inputs.sam_size)} pixels for SAM 2"


def _square(side: int | None) -> str:
    return f"{side} x {side}"


def _system(turn: str | None) -> str:
    if turn is None:
        return "system turn not known without the tokenizer"
    return f"system turn {turn!r}" if turn else "no system turn"


def _part(part: Part) -> Sequence[str]:
    key_heads = part.key_value_heads
    heads = _range(part.heads) + ("" if key_heads is None else f" (key-value {key_heads})")
    return _said(part.name), "+".join(map(str, part.layers)), _range(part.width), heads


def _range(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low} to {high}"


def _blocks(found: Inspection) -> Iterable[Sequence[str]]:
    for block in found.blocks:
        yield (
            _said(block.name),
            f"{block.parameters:,}",
            ", ".join(block.dtypes) or "-",
            _number(block.num_bytes),
        )
    dtypes = dict.fromkeys(dtype for block in found.blocks for dtype in block.dtypes)
    yield ALL, f"{found.num_parameters:,}", ", ".join(dtypes) or "-", _number(found.files.num_bytes)


def _preset(preset: PresetCounts) -> Iterable[Sequence[str]]:
    for index, (group, attached) in enumerate(preset.attached.items()):
        name = "" if index else preset.name
        yield name, group, f"{attached:,}", f"{preset.trainable[group]:,}"
    yield "", ALL, f"{preset.num_attached:,}", f"{preset.num_trainable:,}"


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _said(name: str) -> str:
    return name.replace("sam2", "SAM 2").replace("_", " ")


_KINDS = {"official": "official Sa2VA checkpoint", "vasculora": "base of vasculora"}
_WHY_LEFT_OUT = {
    "connector": "here it is a part of the frozen vision tower",
    "memory_lora": "this SAM 2 has no memory",
}
