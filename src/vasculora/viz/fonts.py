"""A font that can draw a text: Pillow's own, or a font of this machine for Chinese and the like.

Pillow brings Latin letters alone; what it lacks it draws as empty boxes, which tell a reader
nothing. So each text is asked for its letters first, and whoever draws can say where none has them.
"""

from functools import cache
from pathlib import Path

from PIL import ImageFont

_WIDE = (
    *("cjk", "sourcehan", "wqy", "droidsansfallback", "simhei", "simsun", "msyh", "pingfang"),
    *("hiragino", "heiti", "songti", "uming", "ukai", "unifont", "arialuni"),
)
"""Parts of the file names of fonts with Chinese letters, as systems ship them."""


def find_font(text: str, size: int) -> ImageFont.FreeTypeFont | None:
    """Return a font that has every letter of a text; None where this machine has none.

    Args:
        text: What is to be drawn.
        size: Height of the letters in pixels.
    """
    plain = plain_font(size)
    if _has(plain, text):
        return plain
    for path in _wide_fonts():
        font = ImageFont.truetype(path, size)
        if _has(font, text):
            return font
    return None


def plain_font(size: int) -> ImageFont.FreeTypeFont:
    """Return Pillow's own font."""
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
    return font


def _has(font: ImageFont.FreeTypeFont, text: str) -> bool:
    box = bytes(font.getmask("\uffff"))  # no font has this one: it is the mark of what is missing
    return all(bytes(font.getmask(letter)) != box for letter in set(text) if not letter.isspace())


@cache
def _wide_fonts() -> tuple[Path, ...]:
    # late: it takes a second to import, and few texts need it
    from matplotlib.font_manager import findSystemFonts

    paths = sorted(Path(path) for path in findSystemFonts())
    return tuple(
        path
        for path in paths
        if any(part in path.name.lower().replace("-", "").replace("_", "") for part in _WIDE)
    )
