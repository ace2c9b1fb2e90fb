"""The commands below `vasculora data`: data sets are drawn, converted and checked here."""

from pathlib import Path
from typing import Annotated

import typer

from vasculora.cli.options import (
    ConfigFile,
    Fold,
    Frames,
    GroupRegex,
    Model,
    Phrase,
    Set,
    files,
    given,
    numbers,
)
from vasculora.cli.render import Reporter, make_console, render_json

data_app = typer.Typer(no_args_is_help=True, help="Make, convert and check data sets.")


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


@data_app.command()
def preview(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="The data set; only read.")],
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="The picture, NAME.png; an older one is replaced.")
    ] = Path("preview.png"),
    augment: Annotated[
        str | None,
        typer.Option(help="How far images are varied: none, light or strong. \\[default: light]"),
    ] = None,
    modality: Annotated[
        str | None,
        typer.Option(help="Whose light strong varies: xray, fundus or octa. \\[default: auto]"),
    ] = None,
    num: Annotated[int | None, typer.Option(help="Number of samples. \\[default: 16]")] = None,
    seed: Annotated[
        int | None, typer.Option(help="The same seed shows the same samples. \\[default: 0]")
    ] = None,
    phrase: Phrase = None,
) -> None:
    """Show what a run would learn from: augmented samples on one picture.

    Each with the outline of one of its masks, and under it the phrase that
    is asked.

    [bold]Example[/bold]: vasculora data preview angiograms --augment strong --out look.png
    """
    from vasculora.core.config import load_config
    from vasculora.recipes.preview import PreviewConfig
    from vasculora.recipes.preview import preview as run

    values = {
        "data": str(data),
        "augment": augment,
        "modality": modality,
        "num": num,
        "seed": seed,
        "phrase": phrase,
    }
    run(load_config(PreviewConfig, values=given(values)), out, report=Reporter())


@data_app.command()
def check(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="The data set; only read.")],
    json: Annotated[
        bool, typer.Option("--json", help="All of it as JSON, alone on standard output.")
    ] = False,
    sheet: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A picture of 16 cases with their outlines, NAME.png."),
    ] = None,
    model: Model = None,
    grid: Annotated[
        str | None, typer.Option(metavar="N,N", help="Further mask grids to measure ceilings for.")
    ] = None,
    image_size: Annotated[
        str | None, typer.Option(metavar="N,N", help="Further image sizes, each with each grid.")
    ] = None,
    phrase: Phrase = None,
    group_regex: GroupRegex = None,
    fold: Fold = None,
    config: ConfigFile = None,
    set_: Set = None,
) -> None:
    """Look at every image before anything is learnt from it.

    Counts, sizes, widths of vessels; files that cannot be used, masks that are
    inverted, empty or filled, duplicates, and pictures of one moment on both
    sides of the split; and the best Dice that a perfect model could reach.
    Exits with 1 where something should stop a run.

    [bold]Example[/bold]: vasculora data check angiograms --sheet angiograms.png
    """
    from vasculora.cli.exits import FAILED
    from vasculora.core.config import load_config
    from vasculora.recipes.checking.check import CheckConfig
    from vasculora.recipes.checking.check import check as run
    from vasculora.recipes.checking.telling import draw, show, to_dict
    from vasculora.recipes.run_folder import refuse_inside

    values = {
        "data.path": str(data),
        "model": model,
        "grids": numbers(grid),
        "image_sizes": numbers(image_size),
        "phrase": phrase,
        "data.group_regex": group_regex,
        "data.fold": fold,
    }
    settings = load_config(CheckConfig, *files(config), overrides=set_ or (), values=given(values))
    if sheet is not None:
        refuse_inside(data, sheet)
    reporter = Reporter(out=make_console(stderr=True)) if json else Reporter()
    found = run(settings, report=reporter)
    if json:
        render_json(to_dict(found))
    else:
        show(found, reporter)
    if sheet is not None:
        num = draw(found, sheet, seed=settings.seed)
        told = f"Sheet of {num} with the outlines of their masks: {sheet}"
        reporter.note(told if num else "No sheet is drawn, because no case can be read.")
    if not found.ok:
        raise typer.Exit(FAILED)
