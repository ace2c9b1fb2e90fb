import numpy as np
import pytest

from vasculora.viz import fonts
from vasculora.viz.overlays import BACKGROUND, GAP, HIT
from vasculora.viz.sheet import LINE_HEIGHT, NUM_LINES, TILE, draw_sheet, fit, outlined

ROW = TILE + NUM_LINES * LINE_HEIGHT + 2 * GAP


def plain(height: int, width: int, value: int) -> np.ndarray:
    return np.full((height, width, 3), value, dtype=np.uint8)


def test_pictures_stand_in_rows_each_in_its_square() -> None:
    tiles = [plain(40, 40, 10), plain(40, 20, 20), plain(900, 900, 30)]
    page = draw_sheet(tiles, ["a", "b", "c"], 2)
    assert page.shape == (2 * ROW + GAP, 2 * (TILE + GAP) + GAP, 3)
    assert (page[GAP + TILE // 2, GAP + 5] == 10).all()
    second = GAP + TILE + GAP
    # half as wide as high, so centred with a quarter of the square left free at each side
    assert tuple(page[GAP + TILE // 2, second + TILE // 4 - 2]) == BACKGROUND
    assert (page[GAP + TILE // 2, second + TILE // 4 + 2] == 20).all()
    assert (page[ROW + GAP + 5, GAP + 5] == 30).all()


def test_a_caption_stands_under_its_picture_and_nowhere_else() -> None:
    page = draw_sheet([plain(8, 8, 255)] * 2, ["", "blood vessel"], 2)
    inked = np.argwhere((page < 200).all(axis=2))
    assert inked[:, 0].min() >= GAP + TILE
    assert inked[:, 1].min() >= TILE + 2 * GAP


def test_a_long_caption_is_wrapped_and_cut_inside_its_column() -> None:
    page = draw_sheet([plain(8, 8, 255)] * 2, ["vessel " * 60, ""], 2)
    inked = np.argwhere((page < 200).all(axis=2))
    assert inked[:, 1].max() < GAP + TILE
    assert inked[:, 0].max() < GAP + TILE + NUM_LINES * LINE_HEIGHT + GAP


def test_no_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one picture"):
        draw_sheet([], [], 4)


def test_an_outline_lies_round_the_mask_and_leaves_the_vessel_to_be_seen() -> None:
    image, mask = plain(TILE, TILE, 90), np.zeros((TILE, TILE), dtype=bool)
    mask[:, 100:103] = True
    shown = outlined(image, mask)
    assert (shown[:, 100:103] == 90).all()
    assert (shown[:, 99] == HIT).all()
    assert (shown[:, 103] == HIT).all()
    assert (shown == HIT).all(axis=2).sum() == 2 * TILE
    assert (image == 90).all()


def test_a_thin_vessel_of_a_large_image_is_outlined_without_gaps() -> None:
    rows, columns = np.mgrid[:1200, :1200]
    mask = np.abs(rows - 300 - columns / 3) < 1.5  # a pixel of the page is three of the image
    shown = outlined(plain(1200, 1200, 90), mask)
    assert (shown == HIT).all(axis=2).any(axis=0).all()


def test_fitting_keeps_the_shape() -> None:
    assert fit(plain(2336, 3504, 0)).shape == (round(TILE * 2 / 3), TILE, 3)
    assert fit(plain(1, 5000, 0)).shape == (1, TILE, 3)


def test_a_font_is_chosen_by_the_letters_it_has(monkeypatch) -> None:
    monkeypatch.setattr(fonts, "_wide_fonts", tuple)
    assert fonts.find_font("left vessel, 3 px (segment 9a)", 15) is not None
    assert fonts.find_font("左侧血管", 15) is None
