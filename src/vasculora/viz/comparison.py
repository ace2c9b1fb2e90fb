"""The picture of several runs side by side: their Val Dice by epoch, and where they ended.

A run has one colour and one mark on both sides, so that its name has to stand only once: beside
the dot of its final score, whose line is the 95 % interval.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vasculora.core.io import write_bytes
from vasculora.viz.curves import FONT_SIZE, GRID, INK, LEAST_SPAN, LOSS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#a3528a", "#8a6d00", "#56a5d8", "#5b5b5b", "#c0392b")
MARKS = ("o", "s", "D", "^", "v", "p", ">", "h")
LONGEST_NAME = 26
_ROW_HEIGHT = 0.62
_LEAST_HEIGHT = 3.6


@dataclass(frozen=True, kw_only=True)
class RunScore:
    """What is drawn of one run.

    Attributes:
        name: What it is called.
        dice: Its final Dice.
        low: Lower end of the 95 % interval; None where there is none.
        high: Upper end, likewise.
        remark: A few words under its name: how it stands to the first one.
        epochs: Numbers of its epochs; none where it is not known how it was trained.
        val_dice: Val Dice of each.
        best_epoch: The epoch that was kept.
    """

    name: str
    dice: float
    low: float | None
    high: float | None
    remark: str
    epochs: Sequence[int] = ()
    val_dice: Sequence[float] = ()
    best_epoch: int | None = None


def comparison_chart(path: Path, runs: Sequence[RunScore], *, title: str, label: str) -> None:
    """Write a PNG of runs side by side.

    Args:
        path: Where the picture goes; an older one is replaced.
        runs: What is compared; the others stand against the first.
        title: Stands above the picture.
        label: What the final scores are, beneath their axis.

    Raises:
        ValueError: If there is no run.
    """
    if not runs:
        raise ValueError(f"{path.name}: a comparison needs at least one run, got none.")
    # Not through pyplot: its global state and its choice of a screen have no place in a library.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    trained = any(run.epochs for run in runs)
    height = max(_LEAST_HEIGHT, 1.7 + _ROW_HEIGHT * len(runs))
    figure = Figure(
        figsize=(11 if trained else 7, height),
        dpi=120,
        layout=ConstrainedLayoutEngine(wspace=0.06),
    )
    FigureCanvasAgg(figure)
    figure.suptitle(title, x=0.015, ha="left", fontsize=FONT_SIZE + 3, color=INK, weight="bold")
    curves, dots = _divide(figure, trained=trained)
    if curves is not None:
        _draw_curves(curves, runs)
    _draw_scores(dots, runs, label)
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    write_bytes(path, buffer.getvalue())


def _divide(figure: "Figure", *, trained: bool) -> "tuple[Axes | None, Axes]":
    if not trained:
        return None, figure.subplots()
    curves, dots = figure.subplots(1, 2, width_ratios=[1.15, 1])
    return curves, dots


def _draw_curves(axes: "Axes", runs: Sequence[RunScore]) -> None:
    from matplotlib.ticker import MaxNLocator

    for index, run in enumerate(runs):
        colour, mark = _look(index)
        axes.plot(
            run.epochs, run.val_dice, color=colour, linewidth=1.8, marker=mark, markersize=3.5
        )
        for epoch, score in zip(run.epochs, run.val_dice, strict=True):
            if epoch == run.best_epoch:
                axes.plot(
                    epoch,
                    score,
                    mark,
                    markersize=9,
                    markerfacecolor="white",
                    markeredgecolor=colour,
                    markeredgewidth=2,
                    zorder=5,
                )
    levels = [score for run in runs for score in run.val_dice]
    axes.set_ylim(*_span(levels))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("epoch (hollow: the one kept)", color=INK, fontsize=FONT_SIZE)
    axes.set_ylabel("Val Dice at threshold 0.5", color=INK, fontsize=FONT_SIZE)
    _clean(axes, along="y")


def _draw_scores(axes: "Axes", runs: Sequence[RunScore], label: str) -> None:
    places = range(len(runs))
    for index, run in enumerate(runs):
        colour, mark = _look(index)
        if run.low is not None and run.high is not None:
            axes.hlines(index, run.low, run.high, color=colour, linewidth=2.4)
        axes.plot(run.dice, index, mark, color=colour, markersize=8)
        axes.annotate(
            f"{run.dice:.3f}",
            (run.dice, index),
            xytext=(0, 9),
            textcoords="offset points",
            ha="center",
            fontsize=FONT_SIZE - 1,
            color=colour,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
        )
    if len(runs) > 1:
        axes.axvline(runs[0].dice, color=LOSS, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
    axes.set_ylim(len(runs) - 0.4, -0.7)
    levels = [end for run in runs for end in (run.low, run.dice, run.high) if end is not None]
    axes.set_xlim(*_span(levels))
    axes.set_xlabel(label, color=INK, fontsize=FONT_SIZE)
    _clean(axes, along="x")
    axes.spines["left"].set_visible(False)
    names = [f"{shorten(run.name)}\n{run.remark}".rstrip() for run in runs]
    axes.set_yticks(places, labels=names, fontsize=FONT_SIZE - 1)
    axes.tick_params(axis="y", length=0)
    for index, tick in enumerate(axes.get_yticklabels()):
        tick.set_color(_look(index)[0])


def shorten(name: str) -> str:
    """Return a name that fits beside a picture: its ends, where runs mostly differ."""
    if len(name) <= LONGEST_NAME:
        return name
    head = (LONGEST_NAME - 1) // 3
    return f"{name[:head]}…{name[head + 1 - LONGEST_NAME :]}"


def _look(index: int) -> tuple[str, str]:
    # beyond the last colour a run keeps to itself by its mark
    return COLOURS[index % len(COLOURS)], MARKS[(index + index // len(COLOURS)) % len(MARKS)]


def _span(levels: Sequence[float]) -> tuple[float, float]:
    """Return the ends of an axis that never zooms into the noise."""
    low, high = min(levels), max(levels)
    spare = max(0.08 * (high - low), (LEAST_SPAN - (high - low)) / 2)
    return low - spare, high + spare


def _clean(axes: "Axes", *, along: Literal["x", "y"]) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(LOSS)
    axes.tick_params(colors=INK, labelsize=FONT_SIZE - 1, length=3)
    axes.grid(axis=along, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
