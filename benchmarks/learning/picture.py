"""The picture of the benchmark, in the look of the product's own curves."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from vasculora.core.io import write_bytes
from vasculora.viz.curves import BASELINE, FONT_SIZE, GRID, INK, LEAST_SPAN, LOSS, VAL

WORDS = {
    "nano": "nano, fine-tuned",
    "everything": "nano, all weights",
    "unet": "U-Net",
    "basicunet": "BasicUNet",
}
COLOURS = {"nano": VAL, "everything": "#56b4e9", "unet": BASELINE, "basicunet": "#cc79a7"}
MARKS = ("o", "s", "D", "^", "v", "P")
_DASHES = (0, (4, 2.5))
_APART = 0.018  # of the axis: methods stand beside each other, or their intervals would overlap

Points = Mapping[str, Sequence[tuple[int, float, float | None, float | None]]]
Courses = Mapping[tuple[str, int], Sequence[tuple[float, float]]]


def draw_picture(path: Path, *, title: str, points: Points, courses: Courses) -> None:
    """Write a PNG: test Dice by number of images, and watched Dice by minutes of training.

    Args:
        path: Where it goes.
        title: Stands above it.
        points: By method, the number of images, mean Dice and the ends of its interval.
        courses: By method and number of images, minutes and Dice.
    """
    figure = Figure(figsize=(10.4, 4.7) if courses else (5.6, 4.7), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(wspace=0.06)
    figure.suptitle(title, x=0.015, ha="left", fontsize=FONT_SIZE + 3, color=INK, weight="bold")
    axes = figure.subplots(1, 2 if courses else 1, squeeze=False)[0]
    marks = dict(zip(points, MARKS, strict=False))
    _draw_points(axes[0], points, marks)
    if courses:
        _draw_courses(axes[1], courses, marks)
    for each in axes:
        _clean(each)
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    write_bytes(path, buffer.getvalue())


def _draw_points(axes: Axes, points: Points, marks: Mapping[str, str]) -> None:
    sizes = sorted({point[0] for own in points.values() for point in own})
    places = {size: place for place, size in enumerate(sizes)}
    width = max(len(sizes) - 1, 1)
    for turn, (method, own) in enumerate(points.items()):
        shift = (turn - (len(points) - 1) / 2) * 2 * _APART * width
        across = [places[size] + shift for size, *_ in own]
        colour = _colour(method)
        axes.plot(
            across,
            [mean for _, mean, _, _ in own],
            color=colour,
            linewidth=2.2,
            marker=marks[method],
            markersize=6,
            label=_words(method),
        )
        for place, (_, _, low, high) in zip(across, own, strict=True):
            if low is not None:
                axes.plot([place, place], [low, high], color=colour, linewidth=1.4, alpha=0.6)
    axes.set_xticks(list(places.values()), [str(size) for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(-0.35, len(sizes) - 0.65)
    axes.set_xlabel("annotated images to learn from", color=INK, fontsize=FONT_SIZE)
    axes.set_ylabel("Dice, test images", color=INK, fontsize=FONT_SIZE)
    _zoom(axes, [v for own in points.values() for point in own for v in point[1:] if v is not None])
    _draw_key(axes)


def _draw_courses(axes: Axes, courses: Courses, marks: Mapping[str, str]) -> None:
    least = min(num for _, num in courses)
    several = len({num for _, num in courses}) > 1
    for (method, num), course in sorted(courses.items(), key=lambda item: _rank(item[0], marks)):
        axes.plot(
            [minutes for minutes, _ in course],
            [dice for _, dice in course],
            color=_colour(method),
            linestyle=_DASHES if several and num == least else "-",
            linewidth=1.8,
            marker=marks.get(method, "o"),
            markersize=4.5,
            label=f"{_words(method)}, {num} images",
        )
    axes.set_xlim(left=0)
    axes.set_xlabel("minutes of training", color=INK, fontsize=FONT_SIZE)
    axes.set_ylabel("Dice, images not trained on", color=INK, fontsize=FONT_SIZE)
    _zoom(axes, [dice for course in courses.values() for _, dice in course])
    _draw_key(axes)


def _rank(key: tuple[str, int], marks: Mapping[str, str]) -> tuple[int, int]:
    return list(marks).index(key[0]) if key[0] in marks else len(marks), key[1]


def _draw_key(axes: Axes) -> None:
    # Above the axes, where no line can run through it.
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(-0.02, 1.0),
        ncols=2,
        frameon=False,
        fontsize=FONT_SIZE - 1,
        labelcolor=INK,
        columnspacing=1.4,
        handlelength=2.6,
    )


def _zoom(axes: Axes, values: Sequence[float]) -> None:
    """Show all values, but never so near that a flat line looks like a slope."""
    lowest, highest = min(values), max(values)
    spare = max(0.08 * (highest - lowest), (LEAST_SPAN - (highest - lowest)) / 2)
    axes.set_ylim(max(lowest - spare, -0.02), min(highest + spare, 1.02))


def _words(method: str) -> str:
    name, _, rest = method.partition(" ")
    return f"{WORDS[name]} {rest}".strip()


def _colour(method: str) -> str:
    return COLOURS[method.partition(" ")[0]]


def _clean(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(LOSS)
    axes.tick_params(colors=INK, labelsize=FONT_SIZE - 1, length=3)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
