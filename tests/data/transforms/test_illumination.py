from itertools import chain

import numpy as np
import pytest

from vasculora.data.modality import MODALITIES
from vasculora.data.transforms import illumination
from vasculora.data.transforms.illumination import LIGHTS

CHANGES = sorted(set(chain.from_iterable(LIGHTS.values())), key=lambda change: change.__name__)


def grey(value: int, size: tuple[int, int] = (200, 160)) -> np.ndarray:
    return np.full((*size, 1), value, dtype=np.uint8)


def test_every_kind_of_picture_has_its_light() -> None:
    assert tuple(LIGHTS) == MODALITIES


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("num_channels", [1, 3])
def test_a_change_keeps_shape_and_kind_and_hides_nothing(change, num_channels) -> None:
    image = np.repeat(grey(140), num_channels, axis=2)
    image[90:110] = 80  # a dark vessel
    image.flags.writeable = False
    for seed in range(12):
        changed = change(image, np.random.default_rng(seed))
        assert changed.shape == image.shape
        assert changed.dtype == np.uint8
        vessel, beside = changed[95:105].mean(), changed[[80, 81, 82, 118, 119, 120]].mean()
        assert beside - vessel > 15, seed


@pytest.mark.parametrize("change", [c for c in CHANGES if c is not illumination.tint])
def test_black_stays_black(change) -> None:
    # what lies outside a field of view has no light to change
    assert not change(grey(0), np.random.default_rng(0)).any()


def test_shade_is_uneven_smooth_and_bounded() -> None:
    for seed in range(8):
        ratio = illumination.shade(grey(100), np.random.default_rng(seed)) / 100
        assert 0.69 <= ratio.min() < 0.97 or 1.03 < ratio.max() <= 1.31
        assert np.abs(np.diff(ratio, axis=0)).max() <= 0.021


def test_a_vignette_is_darkest_in_a_corner() -> None:
    for seed in range(8):
        shown = illumination.vignette(grey(200), np.random.default_rng(seed))[..., 0]
        corners = shown[[0, 0, -1, -1], [0, -1, 0, -1]]
        assert shown.min() == corners.min() >= 0.54 * 200
        assert shown[80:120, 64:96].min() > shown.min()


def test_a_blade_darkens_one_edge_and_nothing_else() -> None:
    sides = set()
    for seed in range(40):
        shown = illumination.collimate(grey(200), np.random.default_rng(seed))[..., 0]
        dark = shown < 190
        assert 0 < dark.mean() < 0.2
        assert shown.min() >= 0.3 * 200 - 1
        assert not dark[40:160, 32:128].any()
        middles = {
            "top": dark[0, 80],
            "bottom": dark[-1, 80],
            "left": dark[100, 0],
            "right": dark[100, -1],
        }
        lit = [side for side, is_dark in middles.items() if is_dark]
        assert len(lit) == 1
        sides.update(lit)
    assert sides == {"top", "bottom", "left", "right"}


def test_quantum_noise_grows_with_the_root_of_the_signal() -> None:
    rng = (np.random.default_rng(3) for _ in range(2))
    faint, bright = (
        illumination.quanta(grey(value, (300, 300)), next(rng)).astype(float).std()
        for value in (40, 160)
    )
    assert bright / faint == pytest.approx(2, rel=0.1)


def test_speckle_grows_with_the_signal() -> None:
    rng = (np.random.default_rng(3) for _ in range(2))
    faint, bright = (
        illumination.speckle(grey(value, (300, 300)), next(rng)).astype(float).std()
        for value in (40, 120)
    )
    assert bright / faint == pytest.approx(3, rel=0.1)


def test_a_tint_moves_colours_and_leaves_grey_pictures() -> None:
    image = np.repeat(grey(100), 3, axis=2)
    image[..., 0], image[..., 2] = 160, 50
    tinted = {tuple(illumination.tint(image, np.random.default_rng(s))[0, 0]) for s in range(6)}
    assert len(tinted) == 6
    assert all(red > green > blue for red, green, blue in tinted)
    np.testing.assert_array_equal(illumination.tint(grey(9), np.random.default_rng(0)), grey(9))


def test_stripes_are_whole_rows() -> None:
    shown = illumination.stripe(grey(100), np.random.default_rng(2))[..., 0]
    assert (shown == shown[:, :1]).all()
    assert 0 < (shown[:, 0] != 100).mean() < 0.1
