"""Strokes and trees: widths, places and crossings are as asked."""

import numpy as np
import pytest
from scipy import ndimage
from skimage.morphology import skeletonize

from vasculora.data.synthetic.tree import Stroke, draw_stroke, grow_tree, narrow, render


def _straight(width: float, *, y: float = 32.0, strength: float = 1.0) -> Stroke:
    x = np.arange(8.0, 56.0, 0.5)
    return Stroke(
        points=np.stack([x, np.full_like(x, y)], axis=1),
        radius=np.full_like(x, width / 2),
        strength=np.full_like(x, strength),
    )


@pytest.mark.parametrize("width", [2.0, 3.0, 4.0, 6.0, 11.0])
def test_a_stroke_is_as_wide_as_asked(width: float) -> None:
    column = render([_straight(width)], 64).coverage[:, 30]
    assert column.sum() == pytest.approx(width, abs=0.15)
    assert column[round(32 - width / 2) : round(32 + width / 2)].min() >= 0.5


def test_depth_grows_with_width_and_strength() -> None:
    thin, thick, pale = (
        render([_straight(width, strength=strength)], 64).depth.max()
        for width, strength in [(2.0, 1.0), (6.0, 1.0), (6.0, 0.5)]
    )
    assert thick > 2 * thin
    assert pale == pytest.approx(thick / 2)


def test_strokes_beyond_the_border_are_cut_not_wrapped() -> None:
    outside = _straight(4.0)
    outside.points[:, 0] += 40.0
    mask = render([outside], 64).mask
    assert mask[32, 50:].all()
    assert not mask[:, :40].any()


def test_nothing_to_draw_is_an_empty_mask() -> None:
    assert not render([], 32).mask.any()


def test_a_stenosis_narrows_its_place_only() -> None:
    sick = narrow(_straight(6.0), at=0.5, severity=0.5, extent=0.05)
    assert sick.radius[len(sick.radius) // 2] == pytest.approx(1.5, abs=0.02)
    assert sick.radius[0] == pytest.approx(3.0)


def test_a_stroke_without_bend_is_straight_and_tapers() -> None:
    rng = np.random.default_rng(0)
    stroke = draw_stroke(
        rng, start=(10.0, 20.0), heading=0.0, length=40.0, width=(6.0, 2.0), bend=0.0, scale=2.0
    )
    assert stroke.points[-1] == pytest.approx([90.0, 20.0])
    assert stroke.radius[[0, -1]] == pytest.approx([6.0, 2.0])


def test_branches_start_on_the_tree_and_are_never_wider_than_the_root() -> None:
    trunk, *branches = grow_tree(
        np.random.default_rng(1), 256, start=(20.0, 128.0), heading=0.0, width=(2.0, 6.0)
    )
    assert branches
    drawn = [trunk]
    for branch in branches:
        near = min(
            float(np.linalg.norm(stroke.points - branch.points[0], axis=1).min())
            for stroke in drawn
        )
        assert near < 1.0
        assert 1.0 - 1e-9 <= branch.radius.min() <= branch.radius.max() <= 3.0
        drawn.append(branch)


@pytest.mark.parametrize("size", [192, 256, 384])
def test_trees_keep_their_widths_and_look_at_every_size(size: int) -> None:
    strokes = grow_tree(
        np.random.default_rng(2),
        size,
        start=(0.1 * size, 0.5 * size),
        heading=0.0,
        width=(2.0, 6.0),
        length=180.0,
        num_levels=3,
    )
    mask = render(strokes, size).mask
    widths = 2.0 * ndimage.distance_transform_edt(mask)[skeletonize(mask)] * 256 / size
    assert 2.0 <= np.median(widths) <= 6.0
    assert ndimage.label(mask, structure=np.ones((3, 3)))[1] == 1
