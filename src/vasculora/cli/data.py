"""The commands below `vasculora data`: data sets are drawn and converted here."""

from pathlib import Path
from typing import Annotated

import typer

from vasculora.cli.options import ConfigFile, Frames, GroupRegex, Set, files, given
from vasculora.cli.render import Reporter

data_app = typer.Typer(no_args_is_help=True, help="Make and convert data sets.")


@data_app.command()
def synth(
    out: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")],
    num: Annotated[int | None, typer.Option(help="Number of images. \\[default: 200]")] = None,
    style: Annotated[
        str | None, typer.Option(help="xray, fundus or octa. \\[default: xray]")
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="Side of an image in pixels. \\[default: 256]")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="The same seed draws the same images. \\[default: 0]")
    ] = None,
    config: ConfigFile = None,
    set_: Set = None,
) -> None:
    """Draw a data set of vessel images with their masks.

    [bold]Example[/bold]: vasculora data synth drawn --num 200 --style xray --seed 0
    """
    from vasculora.core.config import load_config
    from vasculora.recipes.config import SynthConfig
    from vasculora.recipes.data import synthesise

    values = given({"num": num, "style": style, "size": size, "seed": seed})
    settings = load_config(SynthConfig, *files(config), overrides=set_ or (), values=values)
    synthesise(out, **settings.model_dump(), report=Reporter())


@data_app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="The data set; only read.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The manifest, NAME.jsonl; new.")],
    group_regex: GroupRegex = None,
    frames: Frames = None,
    keep_names: Annotated[
        bool,
        typer.Option(
            "--keep-names",
            help="Write file names that are names of patients, for your own eyes only.",
        ),
    ] = False,
) -> None:
    """Write a data set of any layout as one manifest: a line for each thing to segment.

    SRC is anything that finetune reads, a public set as it was published
    among them; FILE is read wherever a folder is. Pictures stay where they are.
    SRC may also be DICOM files: their frames are written as pictures without
    any name, ready to be annotated, in FILE_frames/ beside FILE.

    [bold]Example[/bold]: vasculora data import DRIVE --out drive.jsonl
    [bold]Example[/bold]: vasculora data import CD --out run.jsonl --frames peak
    """
    from vasculora.data.frames import parse_frames
    from vasculora.recipes.data import import_data

    import_data(
        source,
        out,
        group_regex=group_regex,
        keep_names=keep_names,
        frames=None if frames is None else parse_frames(frames),
        report=Reporter(),
    )
