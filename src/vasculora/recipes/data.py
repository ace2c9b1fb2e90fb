"""Data sets made by the program itself."""

from pathlib import Path

from vasculora.core.report import Report
from vasculora.data.synthetic.export import write_dataset


def synthesise(out: Path, *, style: str, num: int, size: int, seed: int, report: Report) -> None:
    """Draw a data set of images and masks in the `folder` layout.

    Args:
        out: A new or empty folder.
        style: xray, fundus or octa.
        num: Number of images.
        size: Their side in pixels.
        seed: Seed; the same one draws the same images.
        report: Where progress goes.

    Raises:
        ValueError: If the style is unknown or the folder is not empty.
    """
    write_dataset(out, style=style, num=num, size=size, seed=seed)
    report.note(f"{num} drawn images in style '{style}' with their masks: {out}")
