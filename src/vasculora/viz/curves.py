"""The picture of a training run: its scores by epoch, against where the model started."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from vasculora.core.io import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

VAL = "#0072b2"
TRAIN = "#8ab8d8"
LOSS = "#6b7280"
BASELINE = "#d55e00"
INK = "#282c34"
GRID = "#e5e7eb"
FONT_SIZE = 11
LEAST_SPAN = 0.1
"""Of the Dice axis."""


def training_curve(
    path: Path, *, epochs: Sequence[Mapping[str, float]], baseline: float, title: str
) -> None:
    """Write a PNG with Dice by epoch above and the training loss below.

    Args:
        path: Where the picture goes; an older one is replaced.
        epochs: One row an epoch: `epoch`, `train_loss`, `train_dice`, `val_dice`, `val_recall`.
        baseline: Val Dice of the untouched model, drawn as a dashed line.
        title: Stands above the picture.

    Raises:
        ValueError: If no epoch is finished.
    """
    if not epochs:
        raise ValueError(f"{path.name}: a curve needs at least one finished epoch, got none.")
    # Not through pyplot: its global state and its choice of a screen have no place in a library.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5.4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    figure.suptitle(title, x=0.02, ha="left", fontsize=FONT_SIZE + 3, color=INK, weight="bold")
    _draw_dice(upper, epochs, baseline)
    _draw_loss(lower, epochs)
    for axes in (upper, lower):
        _clean(axes)
    figure.align_ylabels()
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    write_bytes(path, buffer.getvalue())


def _draw_dice(axes: "Axes", epochs: Sequence[Mapping[str, float]], baseline: float) -> None:
    numbers = [row["epoch"] for row in epochs]
    scores = [row["val_dice"] for row in epochs]
    best = max(range(len(epochs)), key=scores.__getitem__)
    label = f"val, best {scores[best]:.3f} in epoch {numbers[best]:.0f}"
    train = [row["train_dice"] for row in epochs]
    axes.plot(numbers, scores, color=VAL, linewidth=2.4, marker="o", markersize=4, label=label)
    axes.plot(numbers, train, color=TRAIN, linewidth=1.2, marker=".", label="train")
    axes.axhline(
        baseline,
        color=BASELINE,
        linestyle=(0, (5, 3)),
        linewidth=1.5,
        label=f"val, untouched model {baseline:.3f}",
    )
    axes.plot(
        numbers[best],
        scores[best],
        "o",
        markersize=11,
        markerfacecolor="white",
        markeredgecolor=VAL,
        markeredgewidth=2.4,
        zorder=5,
    )
    _draw_key(axes)
    lowest, highest = min(*scores, *train, baseline), max(*scores, *train, baseline)
    # A flat run must look flat, so the axis never zooms into the noise.
    spare = max(0.08 * (highest - lowest), (LEAST_SPAN - (highest - lowest)) / 2)
    axes.set_ylim(lowest - spare, highest + spare)
    axes.set_xlim(numbers[0] - 0.5, numbers[-1] + 0.5)
    axes.set_ylabel("Dice", color=INK, fontsize=FONT_SIZE)


def _draw_key(axes: "Axes") -> None:
    # Above the axes, where no line can run through it.
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(-0.01, 1.0),
        ncols=3,
        frameon=False,
        fontsize=FONT_SIZE,
        labelcolor=INK,
        columnspacing=1.6,
    )


def _draw_loss(axes: "Axes", epochs: Sequence[Mapping[str, float]]) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.plot(
        [row["epoch"] for row in epochs],
        [row["train_loss"] for row in epochs],
        color=LOSS,
        linewidth=1.6,
        marker=".",
    )
    axes.margins(y=0.2)
    axes.set_ylabel("train loss", color=INK, fontsize=FONT_SIZE)
    axes.set_xlabel("epoch", color=INK, fontsize=FONT_SIZE)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _clean(axes: "Axes") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(LOSS)
    axes.tick_params(colors=INK, labelsize=FONT_SIZE - 1, length=3)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
