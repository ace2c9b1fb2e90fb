import numpy as np
import pytest

from vasculora.metrics.calibration import Reliability, reliability


def test_bins_by_hand():
    prob = np.array([[0.0, 0.5, 0.6, 1.0]])
    mask = np.array([[False, True, False, True]])
    found = reliability(prob, mask, num_bins=2)  # 0.5 belongs to the lower bin
    assert found == Reliability(counts=(2, 2), confidence=(0.5, 1.6), truth=(1, 1))
    # the lower bin says 0.25 where 0.5 is true, the upper 0.8 where 0.5 is: each half of all
    assert found.ece == pytest.approx(0.5 * 0.25 + 0.5 * 0.3)
    assert found.to_dict()["bins"][1] == pytest.approx(
        {"low": 0.5, "high": 1.0, "count": 2, "confidence": 0.8, "frequency": 0.5}
    )


def test_a_bin_without_pixels_says_nothing():
    found = reliability(np.full((2, 2), 0.9), np.ones((2, 2), dtype=bool), num_bins=2)
    assert found.to_dict()["bins"][0] == {
        "low": 0.0,
        "high": 0.5,
        "count": 0,
        "confidence": None,
        "frequency": None,
    }
    assert found.ece == pytest.approx(0.1)


def test_cases_add_up_to_the_whole():
    rng = np.random.default_rng(0)
    prob, mask = rng.random((20, 30)), rng.random((20, 30)) < 0.4
    whole = reliability(prob, mask)
    halves = reliability(prob[:7], mask[:7]) + reliability(prob[7:], mask[7:])
    assert (halves.counts, halves.truth) == (whole.counts, whole.truth)
    assert halves.confidence == pytest.approx(whole.confidence)
    assert halves.ece == pytest.approx(whole.ece)
    with pytest.raises(ValueError, match="there are 15 and 3"):
        whole + reliability(prob, mask, num_bins=3)


def test_agrees_with_scikit_learn_and_knows_the_field_of_view():
    from sklearn.calibration import calibration_curve

    rng = np.random.default_rng(1)
    prob = rng.random((40, 40)).astype(np.float32)
    mask, fov = rng.random((40, 40)) < prob**2, rng.random((40, 40)) < 0.5
    found = reliability(prob, mask, fov, num_bins=10)
    frequency, confidence = calibration_curve(mask[fov], prob[fov], n_bins=10)
    bins = found.to_dict()["bins"]
    np.testing.assert_allclose([one["frequency"] for one in bins], frequency)
    np.testing.assert_allclose([one["confidence"] for one in bins], confidence, rtol=1e-6)
    assert sum(found.counts) == fov.sum()


def test_agrees_with_monai():
    import torch
    from monai.metrics.calibration import calibration_binning

    rng = np.random.default_rng(2)
    prob = rng.random((30, 30)).astype(np.float32)
    mask = rng.random((30, 30)) < prob
    found = reliability(prob, mask, num_bins=15)
    tensors = (torch.from_numpy(prob)[None, None], torch.from_numpy(mask)[None, None].float())
    confidence, frequency, counts = (
        part[0, 0].numpy() for part in calibration_binning(*tensors, num_bins=15)
    )
    np.testing.assert_array_equal(found.counts, counts)
    ece = (np.abs(confidence - frequency) * counts).sum() / counts.sum()
    assert found.ece == pytest.approx(ece, abs=1e-6)


def test_there_must_be_something_to_bin():
    nothing = np.zeros((2, 2), dtype=bool)
    with pytest.raises(ValueError, match="0 pixels"):
        reliability(np.zeros((2, 2)), nothing, nothing)
