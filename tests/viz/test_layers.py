from base64 import b64decode
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from vasculora.viz.layers import LONGEST, case_layers, shrink
from vasculora.viz.overlays import HIT, INVENTED, MISSED


def opened(address):
    return Image.open(BytesIO(b64decode(address.split(",", 1)[1])))


def case(height, width):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    mask, pred = (rng.random((height, width)) > 0.8 for _ in range(2))
    return image, mask, pred


def test_the_sheets_colour_each_pixel_by_what_it_is():
    mask = np.array([[True, True], [False, False]])
    pred = np.array([[True, False], [True, False]])
    layers = case_layers(np.zeros((2, 2, 3), np.uint8), mask, pred, budget=10_000)
    sheet = np.asarray(opened(layers.prediction).convert("RGBA"))
    assert [tuple(sheet[at][:3]) for at in ((0, 0), (0, 1), (1, 0))] == [HIT, MISSED, INVENTED]
    assert (sheet[..., 3] > 0).tolist() == (mask | pred).tolist()
    truth = np.asarray(opened(layers.truth).convert("RGBA"))
    assert (truth[..., 3] > 0).tolist() == mask.tolist()


def test_all_layers_have_one_size_within_bounds():
    layers = case_layers(*case(400, 1600), budget=10**7)
    sizes = {opened(address).size for address in (layers.image, layers.truth, layers.prediction)}
    assert sizes == {(layers.width, layers.height)} == {(LONGEST, 192)}


@pytest.mark.parametrize("budget", [150_000, 60_000])
def test_noise_is_kept_to_its_budget(budget):
    layers = case_layers(*case(512, 512), budget=budget)
    assert len(layers.image) + len(layers.truth) + len(layers.prediction) <= budget


def test_a_small_picture_is_not_blown_up_and_a_tiny_budget_ends():
    layers = case_layers(*case(40, 30), budget=1)
    assert (layers.width, layers.height) == (30, 40)


def test_a_thin_vessel_keeps_its_area_when_it_shrinks():
    mask = np.zeros((900, 900), dtype=bool)
    mask[:, 450] = True
    small = shrink(mask, (300, 300))
    assert small.any(axis=1).all()
    assert shrink(~np.zeros((90, 90), dtype=bool), (30, 30)).all()
    assert not shrink(np.zeros((90, 90), dtype=bool), (30, 30)).any()
