"""Drawn cases as a folder of images and masks, as a user's own data would lie.

Each case draws from its own generator, made of the seed and the case's number, so a longer set
begins with the shorter one's cases.
"""

from pathlib import Path

import numpy as np

from vasculora.core.io import write_image
from vasculora.data.synthetic.styles import draw_case


def write_dataset(out_dir: Path, *, style: str, num: int, size: int, seed: int) -> None:
    """Write drawn cases to `out_dir`: `images/NNNN.png` and `masks/NNNN.png` of the "blood vessel".

    Args:
        out_dir: A new or empty folder.
        style: Name of a style.
        num: Number of cases.
        size: Side of the images in pixels.
        seed: The same seed writes the same bytes.

    Raises:
        ValueError: If the folder holds something, or the style, number or size makes no sense.
    """
    if num < 1 or size < 64:
        raise ValueError(f"expected num >= 1 and size >= 64, got num={num} and size={size}.")
    if out_dir.exists() and (not out_dir.is_dir() or any(out_dir.iterdir())):
        raise ValueError(f"{out_dir}: is not an empty folder. Name a new one, or empty it first.")
    for number in range(num):
        rng = np.random.default_rng((seed, number))
        sample = draw_case(style, size=size, rng=rng, case_id=f"{number:04d}")
        pictures = {"images": sample.image, "masks": sample.masks[0].astype(np.uint8) * 255}
        for folder, pixels in pictures.items():
            write_image(out_dir / folder / f"{sample.case_id}.png", pixels)
