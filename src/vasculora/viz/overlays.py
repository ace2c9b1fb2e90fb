"""Pictures of a mask on its image, for people who read images.

Three colours that stay apart under every common colour blindness (they differ in lightness): blue
for what was found, yellow for what was missed, red for what was invented. Contours lie inside the
mask, so that an overlay never shows a vessel wider than it is.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image, ImageDraw, ImageFont

HIT = (64, 190, 255)
MISSED = (240, 228, 66)
INVENTED = (213, 62, 40)
BACKGROUND = (255, 255, 255)
INK = (40, 44, 52)
FAINT_INK = (110, 116, 126)

OPACITY = 0.5
"""Of the colour inside a contour."""
READABLE = 384
"""Pixels that a tile's longer side is magnified to at least, by a whole factor."""
GAP = 12
TEXT_SIZE = 18
LINE_HEIGHT = 30


def overlay(
    image: UInt8[np.ndarray, "h w 3"], mask: Bool[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "h w 3"]:
    """Return the image with the mask as a translucent colour inside a thin contour.

    Args:
        image: RGB.
        mask: True where the colour goes.
    """
    return _tint(image, mask, HIT)


def case_panel(
    image: UInt8[np.ndarray, "h w 3"],
    mask: Bool[np.ndarray, "h w"],
    pred: Bool[np.ndarray, "h w"],
    *,
    caption: str,
) -> UInt8[np.ndarray, "height width 3"]:
    """Return one case in a row of four: image, truth, prediction, differences.

    Args:
        image: RGB.
        mask: The truth.
        pred: The prediction.
        caption: Stands above the row; cut where the row ends.
    """
    factor = max(1, -(-READABLE // max(mask.shape)))
    image = np.asarray(
        Image.fromarray(image).resize(
            (image.shape[1] * factor, image.shape[0] * factor), Image.Resampling.BICUBIC
        )
    )
    mask, pred = (np.kron(m, np.ones((factor, factor), dtype=bool)) for m in (mask, pred))
    tiles = {
        "image": image,
        "truth": overlay(image, mask),
        "prediction": overlay(image, pred),
        "differences": _differences(image, mask, pred),
    }
    return _lay_out(tiles, caption)


def sheet(
    panels: Sequence[UInt8[np.ndarray, "_ _ 3"]],
) -> UInt8[np.ndarray, "height width 3"]:
    """Return panels stacked from top to bottom; narrower ones are filled up with the background.

    Args:
        panels: At least one, as `case_panel` makes them.

    Raises:
        ValueError: If there is none.
    """
    if not panels:
        raise ValueError("a sheet needs at least one panel, got none.")
    width = max(panel.shape[1] for panel in panels)
    height = sum(panel.shape[0] for panel in panels)
    page = np.full((height, width, 3), BACKGROUND, dtype=np.uint8)
    top = 0
    for panel in panels:
        page[top : top + panel.shape[0], : panel.shape[1]] = panel
        top += panel.shape[0]
    return page


def _differences(
    image: UInt8[np.ndarray, "h w 3"], mask: Bool[np.ndarray, "h w"], pred: Bool[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "h w 3"]:
    # Grey and dark, so that only the three colours speak.
    grey = image.mean(axis=2, keepdims=True) * 0.5
    shown = np.repeat(grey, 3, axis=2).astype(np.uint8)
    shown[mask & pred] = HIT
    shown[mask & ~pred] = MISSED
    shown[pred & ~mask] = INVENTED
    return shown


def _tint(
    image: UInt8[np.ndarray, "h w 3"], mask: Bool[np.ndarray, "h w"], colour: tuple[int, int, int]
) -> UInt8[np.ndarray, "h w 3"]:
    shown = image.copy()
    mixed = (1 - OPACITY) * image[mask] + OPACITY * np.array(colour)
    shown[mask] = mixed.round().astype(np.uint8)
    shown[_contour(mask)] = colour
    return shown


def _contour(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    # What lies beyond the image's edge is unknown, so no contour is drawn along it.
    padded = np.pad(mask, 1, mode="edge")
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    contour: Bool[np.ndarray, "h w"] = mask & ~inner
    return contour


def _lay_out(
    tiles: dict[str, UInt8[np.ndarray, "h w 3"]], caption: str
) -> UInt8[np.ndarray, "height width 3"]:
    height, width = next(iter(tiles.values())).shape[:2]
    page = Image.new(
        "RGB",
        (len(tiles) * (width + GAP) + GAP, height + 3 * LINE_HEIGHT + 2 * GAP),
        BACKGROUND,
    )
    draw = ImageDraw.Draw(page)
    font = _font()
    middle = LINE_HEIGHT // 2
    caption = _cut(caption, page.width - 2 * GAP, font)
    draw.text((GAP, GAP + middle), caption, fill=INK, font=font, anchor="lm")
    for index, (title, tile) in enumerate(tiles.items()):
        left = GAP + index * (width + GAP)
        draw.text((left, GAP + LINE_HEIGHT + middle), title, FAINT_INK, font, anchor="lm")
        page.paste(Image.fromarray(tile), (left, GAP + 2 * LINE_HEIGHT))
    left = GAP + (len(tiles) - 1) * (width + GAP)
    _draw_legend(draw, left, page.height - LINE_HEIGHT, font)
    return np.asarray(page)


def _font() -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(TEXT_SIZE)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
    return font


def _draw_legend(
    draw: ImageDraw.ImageDraw, left: float, middle: float, font: ImageFont.FreeTypeFont
) -> None:
    side = TEXT_SIZE - 4
    for name, colour in (("hit", HIT), ("missed", MISSED), ("invented", INVENTED)):
        box = (left, middle - side / 2, left + side, middle + side / 2)
        draw.rectangle(box, fill=colour)
        draw.text((left + side + 6, middle), name, fill=INK, font=font, anchor="lm")
        left += side + 6 + font.getlength(name) + 20


def _cut(text: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."
