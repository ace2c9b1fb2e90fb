import re
import xml.etree.ElementTree as ET

import pytest

from vasculora.viz.figures import cases_figure, epochs_figure, reliability_figure, sweep_figure

EPOCHS = [{"epoch": n, "train_dice": 0.5 + n / 10, "val_dice": 0.4 + n / 10} for n in (1, 2, 3)]
BINS = [
    {"low": 0.0, "high": 0.5, "count": 9, "confidence": 0.1, "frequency": 0.2},
    {"low": 0.5, "high": 1.0, "count": 0, "confidence": None, "frequency": None},
]
FIGURES = {
    "epochs": lambda name: epochs_figure(EPOCHS, baseline=0.3, name=name),
    "sweep": lambda name: sweep_figure([0.25, 0.5], [0.6, 0.7], chosen=0.5, name=name),
    "reliability": lambda name: reliability_figure(BINS, ece=0.1, name=name),
    "cases": lambda name: cases_figure([0.9, 0.5], mean=0.7, name=name),
}


@pytest.mark.parametrize("kind", FIGURES)
def test_it_is_one_named_drawing_in_the_pages_own_colours_and_letters(kind):
    text = FIGURES[kind]("mine")
    drawing = ET.fromstring(text)  # also well formed
    ids = re.findall(r'\bid="([^"]*)"', text)
    assert drawing.get("aria-label") == drawing[0].text
    assert ids
    assert all(name.startswith("mine-") for name in ids)
    # what refers finds its own figure's part
    meant = re.findall(r'(?:href="|url\()#([^")]*)', text)
    assert meant
    assert set(meant) <= set(ids)
    assert "var(--ink)" in text
    assert "DejaVu" not in text
    assert "<style" not in text
    assert not re.findall(r"#0\d0\d0\d|https?://(?!www\.w3\.org)", text)


def test_it_says_what_it_shows():
    assert "best 0.700 in epoch 3" in FIGURES["epochs"]("e")
    assert "highest 0.700 at 0.5" in FIGURES["sweep"]("s")
    assert "from 0.500 to 0.900" in FIGURES["cases"]("c")


@pytest.mark.parametrize(
    "draw",
    [
        lambda: epochs_figure([], baseline=None),
        lambda: sweep_figure([0.5], [], chosen=None),
        lambda: cases_figure([], mean=0.0),
    ],
)
def test_nothing_to_draw_is_refused(draw):
    with pytest.raises(ValueError, match="needs"):
        draw()
