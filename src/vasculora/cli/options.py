"""The flags that several commands share, each with its help said once, and what was typed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", help="YAML file of settings that differ from the defaults."
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=C", help="One setting, typed as in YAML; may be repeated."),
]
Model = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL", help="[bold]nano[/bold], a base model's folder or a run's folder."
    ),
]
ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="[bold]nano[/bold], a base model's folder or a run's folder."
    ),
]
Trainable = Annotated[
    str | None,
    typer.Option(
        metavar="A,B",
        help="What learns, of mllm_lora, projector, mask_decoder, mask_decoder_lora, "
        "grounding_lora, connector and seg_token.",
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(
        help="Settings of a name: [bold]seed[/bold], [bold]light[/bold], "
        "[bold]grounding_lora[/bold] or [bold]official[/bold]."
    ),
]
Gpu = Annotated[
    int | None,
    typer.Option(metavar="N", help="Index of the GPU; without it the first one, or the CPU."),
]
GroupRegex = Annotated[
    str | None,
    typer.Option(
        metavar="REGEX",
        help="Its first capture group, searched in a file's name, is the patient or run.",
    ),
]
Fold = Annotated[
    str | None,
    typer.Option(
        metavar="K/N",
        help="The K-th of N parts of the groups is val, as in 2/5. \\[default: one fifth of the "
        "images is val]",
    ),
]
Window = Annotated[
    int | None,
    typer.Option(
        metavar="PIXELS",
        help="Side of the windows into which larger images are cut; 0 shows whole images. "
        "\\[default: the model's own]",
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(
        metavar="DATA", help="Folder of images and masks, or a file that lists them; only read."
    ),
]
LearningRate = Annotated[
    float | None,
    typer.Option(help="Highest learning rate. \\[default: the base's own, else 1e-4]"),
]
BatchSize = Annotated[int | None, typer.Option(help="Images in one forward pass.")]
Phrase = Annotated[
    str | None, typer.Option(help="What to segment where the data names nothing itself.")
]


Frames = Annotated[
    str | None,
    typer.Option(
        metavar="all|N|peak",
        help="Frames of DICOM files: all, the one of a number (from 0), or the one of best "
        "contrast filling. \\[default: peak]",
    ),
]
Tta = Annotated[
    str | None,
    typer.Option(
        "--tta",
        metavar="none|flips|scales|all",
        help="Views of an image whose logits are averaged: mirrored (flips, 4 times the work), "
        "shown larger and smaller (scales, about 6 times) or all (about 9 times). "
        "\\[default: none]",
    ),
]
MinSize = Annotated[
    int | None,
    typer.Option(
        metavar="PIXELS",
        help="Leave out pieces of a mask with fewer pixels. \\[default: 0, keeps all]",
    ),
]
Hysteresis = Annotated[
    float | None,
    typer.Option(
        metavar="LOW",
        help="Also count pixels above this probability where they are joined to one above the "
        "threshold: faint ends of a sure vessel.",
    ),
]


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flags that were typed."""
    return {key: value for key, value in values.items() if value is not None}


def names(listed: str | None) -> list[str] | None:
    """Return the names in a list with commas."""
    return None if listed is None else [name.strip() for name in listed.split(",")]


def numbers(listed: str | None) -> list[int] | None:
    """Return the whole numbers in a list with commas.

    Raises:
        ValueError: If something else stands in it.
    """
    found = names(listed)
    if found is not None and not all(name.isdecimal() for name in found):
        raise ValueError(f"{listed!r}: expected whole numbers with commas, such as 128,256.")
    return None if found is None else [int(name) for name in found]


def files(config: Path | None) -> tuple[Path, ...]:
    """Return the file of settings, if one was named."""
    return () if config is None else (config,)
