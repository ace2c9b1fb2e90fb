import numpy as np
import pytest
import torch

from vasculora.metrics.surface import hd95, outline, surface_dice, surface_distances

EMPTY = np.zeros((12, 20), dtype=bool)


def line(row, left=0, right=20):
    mask = EMPTY.copy()
    mask[row, left:right] = True
    return mask


def test_an_outline_is_what_touches_the_outside_by_an_edge():
    mask = EMPTY.copy()
    mask[2:7, 3:9] = True
    expected = mask.copy()
    expected[3:6, 4:8] = False
    np.testing.assert_array_equal(outline(mask), expected)
    # beyond the image is outside
    assert outline(np.ones((4, 5), dtype=bool)).sum() == 14


def test_parallel_lines_by_hand():
    apart = surface_distances(line(2), line(5))
    assert hd95(apart, worst=99) == 3
    assert surface_dice(apart, tolerance=2) == 0
    assert surface_dice(apart, tolerance=3) == 1


def test_the_greater_way_and_its_percentile_by_hand():
    # from truth to prediction 0 ten times, then 1 to 10; the other way nothing is off
    found = surface_distances(line(4, 0, 10), line(4))
    assert hd95(found, worst=99) == pytest.approx(9 + 0.05)  # the 95th of 20 lies at 18.05
    assert surface_dice(found, tolerance=2) == (10 + 10 + 2) / 30


def test_nothing_and_one_pixel():
    both, missed = surface_distances(EMPTY, EMPTY), surface_distances(EMPTY, line(3))
    invented = surface_distances(line(3), EMPTY)
    assert [hd95(one, worst=23.5) for one in (both, missed, invented)] == [0, 23.5, 23.5]
    assert [surface_dice(one, tolerance=2) for one in (both, missed, invented)] == [1, 0, 0]
    dots = surface_distances(line(1, 2, 3), line(4, 6, 7))
    assert hd95(dots, worst=23.5) == 5


def test_millimetres_by_hand():
    mm = surface_distances(line(2, 3, 4), line(5, 7, 8), spacing=(0.5, 0.25))
    assert hd95(mm, worst=99) == pytest.approx(np.hypot(3 * 0.5, 4 * 0.25))


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 0.5), (0.7, 0.3)])
def test_agrees_with_monai(spacing):
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice

    rng = np.random.default_rng(0)
    for share in (0.02, 0.3, 0.7):
        pred, mask = rng.random((2, 23, 31)) < share
        found = surface_distances(pred, mask, spacing)
        tensors = [torch.from_numpy(m)[None, None].float() for m in (pred, mask)]
        options = {"include_background": True, "spacing": spacing}
        theirs = compute_hausdorff_distance(*tensors, percentile=95, **options)
        assert hd95(found, worst=99) == pytest.approx(theirs.item(), rel=1e-5)
        for tolerance in (0.0, 1.0, 2.0):
            theirs = compute_surface_dice(*tensors, class_thresholds=[tolerance], **options)
            assert surface_dice(found, tolerance=tolerance) == pytest.approx(
                theirs.item(), rel=1e-6
            )
