"""Small line drawings of the report: SVG in the page, words as text, colours the page's own.

A figure's colours are CSS variables, so that one drawing serves a light and a dark page and a
printed one. Every name inside a drawing carries the figure's own, because several stand on one
page. They are drawn narrow: a phone shows them at their natural size, with letters one can read.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from io import StringIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {
    "#010101": "var(--ink)",
    "#020202": "var(--faint)",
    "#030303": "var(--line)",
    "#040404": "var(--accent)",
    "#050505": "var(--second)",
    "#060606": "var(--page)",
}
"""What matplotlib is told, and what the page reads instead."""
INK, FAINT, LINE, ACCENT, SECOND, PAGE = COLOURS
SIZE = (4.5, 3.0)
"""Inches, of 72 pixels each."""
FONT_SIZE = 11
DASHED = (0, (4, 2))
DOTTED = (0, (1, 1.5))
LEAST_SPAN = 0.1
"""Of a Dice axis: a flat run must look flat, so it never zooms into the noise."""


def epochs_figure(
    epochs: Sequence[Mapping[str, float]], *, baseline: float | None, name: str = "epochs"
) -> str:
    """Return Dice by epoch on train and val, against the untouched model.

    Args:
        epochs: One row an epoch: `epoch`, `train_dice`, `val_dice`; at least one.
        baseline: Val Dice of the untouched model; None draws no line.
        name: The figure's own; unique on its page.

    Raises:
        ValueError: If no epoch is finished.
    """
    if not epochs:
        raise ValueError(f"figure {name} needs at least one finished epoch, got none.")
    numbers = [row["epoch"] for row in epochs]
    val = [row["val_dice"] for row in epochs]
    train = [row["train_dice"] for row in epochs]
    best = max(range(len(val)), key=val.__getitem__)

    def draw(axes: "Axes") -> None:
        from matplotlib.ticker import MaxNLocator

        axes.plot(numbers, train, color=SECOND, linewidth=1.4, linestyle=DOTTED)
        axes.plot(numbers, val, color=ACCENT, linewidth=2.2, marker="o", markersize=4)
        _ring(axes, numbers[best], val[best])
        keys = [("val", ACCENT, "-"), ("train", SECOND, DOTTED)]
        levels = [*val, *train]
        if baseline is not None:
            axes.axhline(baseline, color=FAINT, linewidth=1.3, linestyle=DASHED)
            keys.append(("val, untouched", FAINT, DASHED))
            levels.append(baseline)
        _key(axes, keys)
        _span(axes, levels)
        axes.set_xlim(numbers[0] - 0.5, numbers[-1] + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_xlabel("epoch")
        axes.set_ylabel("Dice")

    said = f"Dice by epoch: val best {val[best]:.3f} in epoch {numbers[best]:.0f}"
    if baseline is not None:
        said += f", untouched model {baseline:.3f}"
    return _svg(name, said, draw)


def sweep_figure(
    thresholds: Sequence[float],
    dice: Sequence[float],
    *,
    chosen: float | None,
    name: str = "sweep",
) -> str:
    """Return mean Dice at every threshold that was tried.

    Args:
        thresholds: What was tried, rising.
        dice: Mean Dice at each.
        chosen: The threshold the model answers with, marked; None marks none.
        name: The figure's own; unique on its page.

    Raises:
        ValueError: If there is not one Dice a threshold.
    """
    if not thresholds or len(thresholds) != len(dice):
        raise ValueError(
            f"figure {name} needs one Dice a threshold, got {len(dice)} for {len(thresholds)}."
        )

    def draw(axes: "Axes") -> None:
        axes.plot(thresholds, dice, color=ACCENT, linewidth=2.2, marker="o", markersize=3.5)
        if chosen is not None:
            axes.axvline(chosen, color=FAINT, linewidth=1.3, linestyle=DASHED)
            _key(axes, [(f"threshold of this model, {chosen:g}", FAINT, DASHED)])
        _span(axes, dice)
        axes.set_xlim(0, 1)
        axes.set_xlabel("threshold")
        axes.set_ylabel("mean Dice")

    best = max(range(len(dice)), key=dice.__getitem__)
    said = f"Mean Dice by threshold: highest {dice[best]:.3f} at {thresholds[best]:g}"
    return _svg(name, said, draw)


def reliability_figure(
    bins: Sequence[Mapping[str, float | None]], *, ece: float, name: str = "reliability"
) -> str:
    """Return how often a pixel is vessel, by the probability it was given.

    Args:
        bins: `low`, `high`, `count`, `confidence`, `frequency` of each; those without a pixel are
            left out.
        ece: Expected calibration error, told in the description.
        name: The figure's own; unique on its page.
    """
    filled = [row for row in bins if row["count"]]
    said = [float(row["confidence"] or 0) for row in filled]
    seen = [float(row["frequency"] or 0) for row in filled]

    def draw(axes: "Axes") -> None:
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1.3, linestyle=DASHED)
        axes.plot(said, seen, color=ACCENT, linewidth=2.2, marker="o", markersize=4)
        _key(axes, [("this model", ACCENT, "-"), ("as it should be", FAINT, DASHED)])
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.set_xlabel("probability given")
        axes.set_ylabel("share that is vessel")

    return _svg(name, f"Reliability: expected calibration error {ece:.3f}", draw)


def cases_figure(dice: Sequence[float], *, mean: float, name: str = "cases") -> str:
    """Return the Dice of every case in rising order, with their mean.

    Args:
        dice: One a case; at least one.
        mean: Drawn as a line.
        name: The figure's own; unique on its page.

    Raises:
        ValueError: If there is no case.
    """
    if not dice:
        raise ValueError(f"figure {name} needs at least one case, got none.")
    rising = sorted(dice)

    def draw(axes: "Axes") -> None:
        from matplotlib.ticker import MaxNLocator

        axes.axhline(mean, color=FAINT, linewidth=1.3, linestyle=DASHED)
        axes.plot(
            range(1, len(rising) + 1), rising, color=ACCENT, linestyle="none", marker="o", ms=4
        )
        _key(axes, [(f"mean, {mean:.3f}", FAINT, DASHED)])
        _span(axes, rising)
        axes.set_xlim(0, len(rising) + 1)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_xlabel("cases, worst first")
        axes.set_ylabel("Dice")

    said = f"Dice of {len(rising)} cases, from {rising[0]:.3f} to {rising[-1]:.3f}"
    return _svg(name, said, draw)


def _ring(axes: "Axes", x: float, y: float) -> None:
    axes.plot(x, y, "o", markersize=9, mfc=PAGE, markeredgecolor=ACCENT, mew=2.2, zorder=5)


def _key(axes: "Axes", entries: Sequence[tuple[str, str, object]]) -> None:
    # Above the axes, where no line can run through it.
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=c, linestyle=s, linewidth=1.8, label=t) for t, c, s in entries]
    axes.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(-0.02, 0.99),
        ncols=len(entries),
        frameon=False,
        fontsize=FONT_SIZE - 1,
        labelcolor=INK,
        handlelength=1.8,
        columnspacing=1.2,
        borderaxespad=0.2,
    )


def _span(axes: "Axes", values: Sequence[float]) -> None:
    low, high = min(values), max(values)
    spare = max(0.08 * (high - low), (LEAST_SPAN - (high - low)) / 2)
    axes.set_ylim(max(low - spare, -0.02), min(high + spare, 1.02))


def _svg(name: str, said: str, draw: Callable[["Axes"], None]) -> str:
    """Return one drawing as text for the inside of a page."""
    # Not through pyplot: its global state has no place in a library.
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "font.size": FONT_SIZE}):
        figure = Figure(figsize=SIZE, layout="constrained")
        axes = figure.subplots()
        _clean(axes)
        draw(axes)
        text = _saved(figure)
    return _embed(text, name, said)


def _clean(axes: "Axes") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(colors=FAINT, labelcolor=INK, labelsize=FONT_SIZE - 1, length=3)
    axes.grid(axis="y", color=LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)


def _saved(figure: "Figure") -> str:
    buffer = StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return buffer.getvalue()


def _embed(text: str, name: str, said: str) -> str:
    """Return matplotlib's file as an element: named, coloured and lettered by the page."""
    inner = text[text.index("<svg") :]
    inner = inner[inner.index(">") + 1 :]
    # its style sheet would be the whole page's
    for part in ("metadata", "style"):
        inner = re.sub(rf"<{part}\b.*?</{part}>", "", inner, flags=re.DOTALL)
    inner = re.sub(r'\bid="', f'id="{name}-', inner)
    inner = re.sub(r'((?:xlink:)?href="#|url\(#)', rf"\g<1>{name}-", inner)
    inner = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font: \1 var(--sans)", inner)
    inner = re.sub(r"font-family: [^;\"]*", "font-family: var(--sans)", inner)
    for colour, variable in COLOURS.items():
        inner = inner.replace(colour, variable)
    width, height = (72 * side for side in SIZE)
    return (
        f'<svg class="drawing" viewBox="0 0 {width:g} {height:g}" role="img" '
        f'aria-label="{said}" xmlns="http://www.w3.org/2000/svg" '
        f'xmlns:xlink="http://www.w3.org/1999/xlink"><title>{said}</title>{inner}'
    )
