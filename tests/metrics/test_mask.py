import inspect

import numpy as np
import pytest

from vasculora.metrics.mask import (
    SWEEP,
    Counts,
    best_threshold,
    count,
    dice,
    dice_by_threshold,
    iou,
    precision,
    prompt_sensitivity,
    sensitivity,
    specificity,
)

MASK = np.array([[1, 1, 0, 0], [1, 1, 0, 0]], dtype=bool)
PRED = np.array([[1, 0, 1, 0], [1, 0, 0, 0]], dtype=bool)
EMPTY = np.zeros((2, 4), dtype=bool)
OVERLAP = (dice, iou, sensitivity, precision)


def test_counts_by_hand():
    assert count(PRED, MASK) == Counts(tp=2, fp=1, fn=2, tn=3)


def test_only_the_field_of_view_counts():
    fov = np.array([[1, 1, 1, 1], [0, 0, 0, 0]], dtype=bool)
    assert count(PRED, MASK, fov) == Counts(tp=1, fp=1, fn=1, tn=1)


def test_scores_by_hand():
    counts = count(PRED, MASK)
    assert [metric(counts) for metric in OVERLAP] == pytest.approx([4 / 7, 2 / 5, 2 / 4, 2 / 3])


@pytest.mark.parametrize("metric", OVERLAP)
def test_empty_against_empty_is_one(metric):
    assert metric(count(EMPTY, EMPTY)) == 1


@pytest.mark.parametrize("metric", OVERLAP)
def test_a_missed_mask_scores_zero(metric):
    assert metric(count(EMPTY, MASK)) == 0


@pytest.mark.parametrize("metric", OVERLAP)
def test_an_invented_mask_scores_zero(metric):
    assert metric(count(PRED, EMPTY)) == 0


def test_swapping_masks_swaps_sensitivity_and_precision():
    one, other = count(PRED, MASK), count(MASK, PRED)
    assert sensitivity(one) == precision(other)
    assert dice(one) == dice(other)
    assert dice(one) == pytest.approx(2 * iou(one) / (1 + iou(one)))


def test_sizes_must_agree():
    # Shapes are checked by the signature while tests run; this is the check a user meets.
    with pytest.raises(ValueError, match=r"prediction \(2, 3\), mask \(2, 4\)"):
        inspect.unwrap(count)(PRED[:, :3], MASK)


def test_agrees_with_monai():
    import torch
    from monai.metrics import compute_dice, compute_iou

    rng = np.random.default_rng(0)
    pred, mask = rng.random((2, 5, 1, 17, 23)) > 0.6
    ours = [count(p[0], m[0]) for p, m in zip(pred, mask, strict=True)]
    tensors = torch.from_numpy(pred).float(), torch.from_numpy(mask).float()
    np.testing.assert_allclose([dice(c) for c in ours], compute_dice(*tensors)[:, 0], rtol=1e-6)
    np.testing.assert_allclose([iou(c) for c in ours], compute_iou(*tensors)[:, 0], rtol=1e-6)


def test_prompt_sensitivity_by_hand():
    first = np.array([[1.0, 0.5, 0.0]])
    second = np.array([[0.5, 0.5, 1.0]])
    third = np.zeros((1, 3))
    # min / max sums: first-second 1.0 / 2.5; the third shares nothing with either.
    expected = ((1 - 1.0 / 2.5) + 1 + 1) / 3
    assert prompt_sensitivity(np.stack([first, second, third])) == pytest.approx(expected)


def test_an_ignored_sentence_has_no_sensitivity():
    prob = np.random.default_rng(0).random((1, 5, 6), dtype=np.float32)
    assert prompt_sensitivity(np.repeat(prob, 4, axis=0)) == 0
    assert prompt_sensitivity(np.zeros((3, 5, 6), dtype=np.float32)) == 0


def test_prompt_sensitivity_needs_two_phrases():
    with pytest.raises(ValueError, match="got 1"):
        prompt_sensitivity(np.ones((1, 2, 2)))


def test_best_threshold_by_hand():
    prob = np.array([[0.9, 0.7, 0.4, 0.2]])
    mask = np.array([[True, True, False, False]])
    # Dice above 0.1, 0.3, 0.5, 0.8: 4/6, 4/5, 1, 2/3.
    assert best_threshold([prob], [mask], [0.8, 0.1, 0.3, 0.5]) == 0.5
    assert best_threshold([prob], [~mask], [0.8, 0.1, 0.3, 0.5]) == 0.1


def test_best_threshold_is_strictly_above():
    prob = np.array([[0.3, 0.6]], dtype=np.float32)
    mask = np.array([[False, True]])
    assert best_threshold([prob], [mask], [0.2, 0.3, 0.6]) == 0.3


def test_best_threshold_agrees_with_trying_them_all():
    rng = np.random.default_rng(1)
    masks = [rng.random((9, 11)) > 0.7, rng.random((6, 5)) > 0.5, np.zeros((4, 4), dtype=bool)]
    probs = [(0.4 * m + 0.6 * rng.random(m.shape)).astype(np.float32) for m in masks]
    grid = [step / 20 for step in range(20)]

    def mean_dice(threshold):
        pairs = zip(probs, masks, strict=True)
        return np.mean([dice(count(p > threshold, m)) for p, m in pairs])

    assert best_threshold(probs, masks, grid) == max(grid, key=mean_dice)


def test_best_threshold_needs_a_mask_an_image():
    with pytest.raises(ValueError, match="1 images and 0 masks"):
        best_threshold([np.ones((2, 2))], [])


def test_specificity_by_hand():
    assert specificity(count(PRED, MASK)) == 3 / 4
    assert specificity(count(EMPTY, MASK)) == specificity(count(EMPTY, EMPTY)) == 1
    # without any background
    assert specificity(count(~EMPTY, ~EMPTY)) == 1
    assert specificity(count(PRED, ~EMPTY)) == 0


def test_counts_agree_with_scikit_learn_and_monai():
    import torch
    from monai.metrics import compute_confusion_matrix_metric, get_confusion_matrix
    from sklearn.metrics import confusion_matrix, precision_score, recall_score

    rng = np.random.default_rng(2)
    pred, mask = rng.random((2, 19, 23)) > 0.6
    ours = count(pred, mask)
    theirs = confusion_matrix(mask.ravel(), pred.ravel()).ravel().tolist()
    assert [ours.tn, ours.fp, ours.fn, ours.tp] == theirs
    assert sensitivity(ours) == pytest.approx(recall_score(mask.ravel(), pred.ravel()))
    assert precision(ours) == pytest.approx(precision_score(mask.ravel(), pred.ravel()))
    matrix = get_confusion_matrix(
        *(torch.from_numpy(m)[None, None].float() for m in (pred, mask)), include_background=True
    )
    for name, metric in (
        ("sensitivity", sensitivity),
        ("specificity", specificity),
        ("precision", precision),
    ):
        value = compute_confusion_matrix_metric(name, matrix).item()
        assert metric(ours) == pytest.approx(value, rel=1e-6)


def test_the_sweep_is_the_dice_at_every_threshold_inside_the_field_of_view():
    rng = np.random.default_rng(3)
    mask, fov = rng.random((9, 11)) > 0.7, rng.random((9, 11)) > 0.3
    prob = (0.4 * mask + 0.6 * rng.random(mask.shape)).astype(np.float32)
    assert (len(SWEEP), SWEEP[0], SWEEP[-1]) == (19, 0.05, 0.95)
    np.testing.assert_allclose(
        dice_by_threshold(prob, mask, fov=fov), [dice(count(prob > t, mask, fov)) for t in SWEEP]
    )
