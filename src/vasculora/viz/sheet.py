"""Many small pictures on one page, each over its caption: to see a data set at a glance.

Pictures of all sizes are fitted into equal squares. Outlines are drawn after that, one pixel of the
page wide, so that they stay thin on a small picture and do not vanish on a large one.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image, ImageDraw, ImageFont

from vasculora.viz.fonts import find_font, plain_font
from vasculora.viz.overlays import BACKGROUND, GAP, HIT, INK

TILE = 400
"""Side of the square a picture is fitted into, in pixels."""
TEXT_SIZE = 15
LINE_HEIGHT = 20
NUM_LINES = 2
"""Lines of a caption at most; what does not fit is cut."""


def draw_sheet(
    tiles: Sequence[UInt8[np.ndarray, "_ _ 3"]], captions: Sequence[str], columns: int
) -> UInt8[np.ndarray, "height width 3"]:
    """Return the pictures in rows, each centred in its square over its caption.

    Args:
        tiles: Pictures of any size; at least one.
        captions: One a picture; letters that no font of this machine has are left as boxes.
        columns: Pictures in a row.

    Raises:
        ValueError: If there is no picture.
    """
    if not tiles:
        raise ValueError("a sheet needs at least one picture, got none.")
    columns = min(columns, len(tiles))
    row_height = TILE + NUM_LINES * LINE_HEIGHT + 2 * GAP
    num_rows = -(-len(tiles) // columns)
    page = Image.new("RGB", (columns * (TILE + GAP) + GAP, num_rows * row_height + GAP), BACKGROUND)
    draw = ImageDraw.Draw(page)
    for index, (tile, caption) in enumerate(zip(tiles, captions, strict=True)):
        left = GAP + index % columns * (TILE + GAP)
        top = GAP + index // columns * row_height
        picture = Image.fromarray(fit(tile))
        page.paste(
            picture, (left + (TILE - picture.width) // 2, top + (TILE - picture.height) // 2)
        )
        font = find_font(caption, TEXT_SIZE) or plain_font(TEXT_SIZE)
        middle = top + TILE + GAP // 2 + LINE_HEIGHT // 2
        for line in _wrap(caption, font):
            draw.text((left, middle), line, fill=INK, font=font, anchor="lm")
            middle += LINE_HEIGHT
    return np.asarray(page)


def outlined(
    image: UInt8[np.ndarray, "h w 3"], mask: Bool[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "_ _ 3"]:
    """Return an image fitted into a square of the sheet, with the mask's outline on it.

    Args:
        image: RGB.
        mask: What is outlined.
    """
    shown = fit(image).copy()
    size = (shown.shape[1], shown.shape[0])
    soft = Image.fromarray(mask.view(np.uint8) * np.uint8(255)).resize(
        size, Image.Resampling.BILINEAR
    )
    # a vessel thinner than a pixel of the page is still to be seen whole
    least = 128 if shown.shape[0] >= mask.shape[0] else 50
    inside = np.pad(np.asarray(soft) >= least, 1, mode="edge")
    core = inside[1:-1, 1:-1]
    beside = inside[:-2, 1:-1] | inside[2:, 1:-1] | inside[1:-1, :-2] | inside[1:-1, 2:]
    # outside the mask, so that a thin vessel is not painted over
    shown[beside & ~core] = HIT
    return shown


def fit(image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "_ _ 3"]:
    """Return an image as large as a square of the sheet allows."""
    height, width = image.shape[:2]
    scale = TILE / max(height, width)
    if scale == 1:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    way = Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(image).resize(size, way))


def _wrap(text: str, font: ImageFont.FreeTypeFont) -> list[str]:
    """Return a caption in lines as wide as a square, cut after the last one that is allowed."""
    lines: list[str] = []
    rest = text.strip()
    while rest and len(lines) < NUM_LINES:
        end = _fitting(rest, font, len(lines) == NUM_LINES - 1)
        line, rest = rest[:end].rstrip(), rest[end:].lstrip()
        lines.append(f"{line}..." if rest and len(lines) == NUM_LINES - 1 else line)
    return lines


def _fitting(text: str, font: ImageFont.FreeTypeFont, last: bool) -> int:
    """Return how many letters of a text fit into a line, whole words where there are any."""
    if font.getlength(text) <= TILE:
        return len(text)
    mark = "..." if last else ""
    end = len(text)
    while end > 1 and font.getlength(text[:end] + mark) > TILE:
        end -= 1
    blank = text.rfind(" ", 0, end + 1)
    return end if last or blank <= 0 else blank
