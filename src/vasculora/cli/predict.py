"""The command that is used most: from a model and images to masks."""

from pathlib import Path
from typing import Annotated

import typer

from vasculora.cli.options import (
    ConfigFile,
    Frames,
    Gpu,
    Hysteresis,
    MinSize,
    ModelArgument,
    Set,
    Tta,
    Window,
    files,
    given,
)
from vasculora.cli.render import Reporter


def predict(
    model: ModelArgument,
    images: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGES...", help="Image files, DICOM too, or folders of them."),
    ],
    out: Annotated[Path, typer.Option(metavar="OUT", help="Folder for the pictures.")],
    phrase: Annotated[
        str | None, typer.Option(help="What to segment. \\[default: what the model was trained on]")
    ] = None,
    frames: Frames = None,
    window: Window = None,
    tta: Tta = None,
    min_size: MinSize = None,
    hysteresis: Hysteresis = None,
    gpu: Gpu = None,
    config: ConfigFile = None,
    set_: Set = None,
) -> None:
    """Segment images: STEM_prob.png, STEM_mask.png and STEM_overlay.png of each, at its own size.

    Of a DICOM file the frame of best contrast filling is taken, or those of
    --frames; STEM is then a pseudonym, so that no name is written. --tta,
    --min-size and --hysteresis change what is made of the model's answers;
    docs/answering.md tells what each has brought and cost.

    [bold]Example[/bold]: vasculora predict runs/1 frame_12.png --out masks
    [bold]Example[/bold]: vasculora predict runs/1 CD/IM0 --frames all --out masks
    """
    from vasculora.core.config import load_config
    from vasculora.data.frames import parse_frames
    from vasculora.recipes.config import PredictConfig
    from vasculora.recipes.predict import predict as run

    values = {
        "model": model,
        "phrase": phrase,
        "frames": None if frames is None else parse_frames(frames),
        "window": window,
        "answer.tta": tta,
        "answer.min_size": min_size,
        "answer.hysteresis": hysteresis,
        "gpu": gpu,
    }
    settings = load_config(
        PredictConfig, *files(config), overrides=set_ or (), values=given(values)
    )
    run(settings, images, out, report=Reporter())
