"""`vasculora compare`."""

from pathlib import Path
from typing import Annotated

import typer

from vasculora.cli.render import Reporter


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN",
            help="Runs' folders, or folders that [bold]evaluate[/bold] wrote; two at least.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder for comparison.png and comparison.json, if they are wanted.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Show how runs differ on the cases they share: scores, differences, settings.

    Each run is held against the first, case by case: the mean difference with
    its 95 % interval by patient, how many cases are better, and "no clear
    difference" where the interval holds 0. What is not the same in their
    settings stands below. Cases are matched by name, so score all runs on the
    same images first; nothing is scored here.

    [bold]Example[/bold]: vasculora compare runs/1 runs/2
    [bold]Example[/bold]: vasculora compare scores/a scores/b scores/c --out compared
    """
    from vasculora.recipes.comparing.compare import compare as run

    run(runs, out, report=Reporter())
