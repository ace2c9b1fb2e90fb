"""The base's angiograms: dark vessels that can be seen, without what is not vessel."""

import numpy as np
from scipy import ndimage
from skimage.morphology import skeletonize

from vasculora.data.synthetic.cine import draw_cine

NUM = 24


def _drawings() -> list[tuple[np.ndarray, dict[str, np.ndarray]]]:
    drawn = (draw_cine(np.random.default_rng(seed), 256) for seed in range(NUM))
    return [(image[:, :, 0].astype(float), masks) for image, masks in drawn]


def test_vessels_are_darker_than_what_lies_beside_them() -> None:
    for grey, masks in _drawings():
        mask = masks["blood vessel"]
        near = ndimage.binary_dilation(mask, iterations=5)
        near &= ~ndimage.binary_dilation(mask, iterations=2)
        if mask.sum() > 100:
            assert grey[mask].mean() < grey[near].mean()


def test_widths_go_from_twigs_to_trunks() -> None:
    widths = []
    for _, masks in _drawings():
        mask = masks["blood vessel"]
        widths.append(2.0 * ndimage.distance_transform_edt(mask)[skeletonize(mask)])
    every = np.concatenate(widths)
    assert np.percentile(every, 5) <= 2.0
    assert np.percentile(every, 99) >= 7.0


def test_what_cannot_be_seen_is_not_in_the_truth() -> None:
    for grey, masks in _drawings():
        seen = masks["blood vessel"]
        assert grey[seen].std() > 0 or not seen.any()
        assert not np.any(seen & (ndimage.maximum_filter(grey, 15) < 2))


def test_a_catheter_is_drawn_often_and_is_no_vessel() -> None:
    catheters = [masks for _, masks in _drawings() if "catheter" in masks]
    assert NUM / 2 < len(catheters) < NUM
    for masks in catheters:
        assert not np.any(masks["catheter"] & masks["blood vessel"])


def test_thick_and_thin_divide_the_tree() -> None:
    divided = [masks for _, masks in _drawings() if "thick vessel" in masks]
    assert divided
    for masks in divided:
        assert not np.any(masks["thick vessel"] & masks["thin vessel"])
        both = masks["thick vessel"] | masks["thin vessel"]
        assert np.array_equal(both, masks["blood vessel"])
