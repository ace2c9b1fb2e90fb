from functools import cache

import numpy as np
import pytest
from scipy.ndimage import affine_transform, gaussian_filter

from vasculora.core.dicom import frames_of
from vasculora.data.peak import filling, find_peak
from vasculora.data.synthetic import backdrop
from vasculora.data.synthetic.tree import grow_tree, render

SIZE = 128
DRIFTS = ("none", "brighter", "darker", "wave", "jump")


def moved(picture, *, stretch, shift):
    """The picture as the heart's beat moves it."""
    matrix = np.eye(2) * (1 + stretch)
    centre = np.full(2, SIZE * 0.55)
    offset = centre - matrix @ centre + (shift, 0.6 * shift)
    return affine_transform(picture, matrix, offset, order=1, mode="nearest")


@cache
def draw_cine(number):
    """A drawn cine and the frame whose vessels hold the most contrast."""
    rng = np.random.default_rng(number)
    num_frames = int(rng.integers(14, 26))
    peak = (0, num_frames - 1, int(rng.integers(1, num_frames)))[min(number % 4, 2)]
    root = (rng.uniform(0.2, 0.6) * SIZE, rng.uniform(0.1, 0.3) * SIZE)
    tree = grow_tree(
        rng,
        SIZE,
        start=root,
        heading=rng.uniform(0.6, 1.4),
        length=rng.uniform(180, 260),
        width=(2.2, 6.0),
        num_levels=2,
        branch_gap=30.0,
        bend=0.018,
    )
    depth = render(tree, SIZE).depth * rng.uniform(0.16, 0.25)
    catheter = np.zeros((SIZE, SIZE))
    catheter[: int(root[1]), int(root[0]) : int(root[0]) + 2] = 0.5
    chest = 0.25 * backdrop.clouds(rng, SIZE, 3) + 0.05 * backdrop.clouds(rng, SIZE, 16)
    chest = chest + 0.15 * backdrop.ribs(rng, SIZE) + 0.35 * backdrop.spine(rng, SIZE)
    chest = chest + 0.4 * backdrop.diaphragm(rng, SIZE)
    time = np.arange(num_frames)
    width = np.where(time < peak, rng.uniform(3, 8), rng.uniform(4, 12))
    contrast = np.exp(-0.5 * ((time - peak) / width) ** 2)
    beat = np.sin(2 * np.pi * time / rng.uniform(12, 28) + rng.uniform(0, 6))
    stretch, shift = rng.uniform(0, 0.04), rng.uniform(0.5, 2.5)
    gain = {
        "none": np.ones(num_frames),
        "brighter": np.linspace(0.6, 1.2, num_frames),
        "darker": np.linspace(1.2, 0.6, num_frames),
        "wave": 1 + 0.25 * np.sin(time / 7),
        "jump": np.where(time < num_frames // 2, 0.7, 1.1),
    }[DRIFTS[number % len(DRIFTS)]]
    frames = []
    for k in range(num_frames):
        # The heart beats most, the chest behind it less, the catheter not at all.
        shadow = moved(chest, stretch=0.3 * stretch * beat[k], shift=0.3 * shift * beat[k])
        vessels = moved(depth, stretch=stretch * beat[k], shift=shift * beat[k])
        signal = gaussian_filter(np.exp(-shadow - contrast[k] * vessels - catheter), 0.5)
        grey = (20 + 190 * signal) * gain[k]
        grey += rng.standard_normal(grey.shape) * 0.5 * np.sqrt(np.maximum(grey, 1))
        frames.append(np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=2))
    return frames, peak


@pytest.mark.parametrize("number", range(20))
def test_the_peak_of_a_known_filling_curve(number):
    frames, peak = draw_cine(number)
    assert abs(find_peak(frames) - peak) <= 2


def test_some_drawn_peaks_are_the_first_and_the_last_frame():
    peaks = [(draw_cine(number)[1], len(draw_cine(number)[0])) for number in (0, 1)]
    assert peaks[0][0] == 0
    assert peaks[1][0] == peaks[1][1] - 1


def test_brightness_is_no_contrast():
    frames, _ = draw_cine(2)
    dimmed = [(frame * 0.7).astype(np.uint8) for frame in frames]
    assert find_peak(dimmed) == pytest.approx(find_peak(frames), abs=1)


def test_short_cines():
    frames, peak = draw_cine(4)
    for count in (1, 2, 3, 4):
        own = frames[peak : peak + count]
        curve = filling(iter(own))
        assert curve.shape == (count,)
        assert np.isfinite(curve).all()
        assert find_peak(own) < count
    with pytest.raises(ValueError, match="without frames"):
        find_peak([])


def test_the_real_run_is_filled_from_frame_30_on(shared_dir):
    curve = filling(frames_of(shared_dir / "data" / "xa_dicom" / "rubo" / "0002.DCM"))
    assert curve.shape == (96,)
    assert curve.argmax() > 30
    assert curve[:15].max() < 0.7 * curve[40:].min()
