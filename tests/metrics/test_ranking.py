import numpy as np
import pytest
import torch

from vasculora.metrics.ranking import auc_roc, average_precision, rank


def of(probs, truth, dtype=np.float32):
    return rank(np.array([probs], dtype=dtype), np.array([truth], dtype=bool))


def test_auc_by_hand():
    # pairs of vessel and other: 0.9 beats 0.5 and 0.2; 0.5 ties with 0.5 and beats 0.2
    assert auc_roc(of([0.9, 0.5, 0.5, 0.2], [1, 1, 0, 0])) == 3.5 / 4
    assert auc_roc(of([0.1, 0.9], [1, 0])) == 0.0


def test_average_precision_by_hand():
    # above 0.9: precision 1, recall 1/2; above 0.5: 2 of 3; 1/2 * 1 + 1/2 * 2/3
    found = average_precision(of([0.9, 0.5, 0.5, 0.2], [1, 1, 0, 0]))
    assert found == pytest.approx(0.5 + 0.5 * 2 / 3)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("decimals", [1, 12])
def test_agrees_with_scikit_learn(dtype, decimals):
    from sklearn.metrics import average_precision_score, roc_auc_score

    rng = np.random.default_rng(0)
    mask = rng.random((40, 50)) < 0.2
    prob = np.round(0.3 * mask + 0.7 * rng.random(mask.shape), decimals).astype(dtype)
    fov = rng.random(mask.shape) < 0.7
    for inside, chosen in ((np.ones_like(fov), None), (fov, fov)):
        ranked = rank(prob, mask, chosen)
        theirs = mask[inside], prob[inside].astype(np.float64)
        assert auc_roc(ranked) == pytest.approx(roc_auc_score(*theirs), abs=1e-12)
        assert average_precision(ranked) == pytest.approx(
            average_precision_score(*theirs), abs=1e-12
        )


def test_agrees_with_monai():
    from monai.metrics import compute_average_precision, compute_roc_auc

    rng = np.random.default_rng(1)
    mask = rng.random((30, 30)) < 0.3
    prob = (0.4 * mask + 0.6 * rng.random(mask.shape)).astype(np.float32)
    theirs = torch.from_numpy(prob).ravel(), torch.from_numpy(mask).float().ravel()
    ranked = rank(prob, mask)
    assert auc_roc(ranked) == pytest.approx(compute_roc_auc(*theirs), abs=1e-6)
    assert average_precision(ranked) == pytest.approx(compute_average_precision(*theirs), abs=1e-6)


def test_one_kind_of_pixel_cannot_be_ranked():
    assert auc_roc(of([0.1, 0.9], [0, 0])) is None
    assert auc_roc(of([0.1, 0.9], [1, 1])) is None
    assert average_precision(of([0.1, 0.9], [0, 0])) is None
    assert average_precision(of([0.1, 0.9], [1, 1])) == 1.0


def test_the_order_is_of_values_and_keeps_them():
    prob = np.array([[1.0, 0.0, 0.3, -0.0, 1e-30, 0.3]], dtype=np.float32)
    mask = np.array([[False, True, True, False, False, False]])
    ranked = rank(prob, mask)
    np.testing.assert_array_equal(ranked.probs, np.sort(prob[0]))
    np.testing.assert_array_equal(ranked.truth, [False, True, False, False, True, False])
