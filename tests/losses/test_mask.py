import math

import numpy as np
import pytest
import torch

from vasculora.losses.mask import bce_loss, dice_loss, focal_loss, iou_regression_loss
from vasculora.metrics.mask import count, dice, iou

SURE = 40.0
"""A score whose probability is 1 in float32."""


def hard(rows):
    """Return the scores of a mask that is sure of itself."""
    return (torch.tensor([rows], dtype=torch.float32) * 2 - 1) * SURE


def truth(rows):
    return torch.tensor([rows], dtype=torch.float32)


def softplus(x):
    return math.log1p(math.exp(x))


def test_dice_by_hand():
    # probabilities 1, 1/2, 1/2, 0 against 1, 1, 0, 0: overlap 1.5, sums 2 and 2, one added to both
    logits = torch.tensor([[[SURE, 0.0], [0.0, -SURE]]])
    loss = dice_loss(logits, truth([[1, 1], [0, 0]]))
    assert float(loss[0]) == pytest.approx(1 - (2 * 1.5 + 1) / (2 + 2 + 1), abs=1e-6)


def test_dice_of_empty_against_empty_is_no_loss():
    assert float(dice_loss(hard([[0, 0]]), truth([[0, 0]]))[0]) == pytest.approx(0, abs=1e-6)


def test_dice_of_an_invented_mask_grows_with_it():
    losses = [
        float(dice_loss(hard([[1] * n + [0] * (8 - n)]), truth([[0] * 8]))[0]) for n in (1, 4)
    ]
    assert losses == pytest.approx([1 - 1 / 2, 1 - 1 / 5])


def test_dice_of_hard_masks_is_one_minus_the_score():
    generator = np.random.default_rng(0)
    for share in (0.1, 0.5):
        pred = generator.random((64, 64)) < share
        mask = generator.random((64, 64)) < share
        loss = float(dice_loss(hard(pred.tolist()), truth(mask.tolist()))[0])
        # the pixel added to both sums moves a mask of 400 pixels by less than 1 / 400
        assert loss == pytest.approx(1 - dice(count(pred, mask)), abs=1 / (2 * mask.sum()))
        overlap, area = (pred & mask).sum(), pred.sum() + mask.sum()
        assert loss == pytest.approx(1 - (2 * overlap + 1) / (area + 1), abs=1e-6)


def test_dice_takes_area_shares():
    logits = torch.zeros(1, 1, 2)
    loss = dice_loss(logits, truth([[0.25, 0.75]]))
    assert float(loss[0]) == pytest.approx(1 - (2 * 0.5 + 1) / (1 + 1 + 1))


def test_bce_by_hand():
    logits = torch.tensor([[[2.0, -1.0]]])
    expected = (softplus(-2) + softplus(-1)) / 2
    assert float(bce_loss(logits, truth([[1, 0]]))[0]) == pytest.approx(expected, abs=1e-6)
    soft = 0.25 * softplus(-2) + 0.75 * softplus(2)
    assert float(bce_loss(logits[..., :1], truth([[0.25]]))[0]) == pytest.approx(soft, abs=1e-6)


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.75, 2.0), (0.25, 1.0)])
def test_focal_by_hand(alpha, gamma):
    p, q = 1 / (1 + math.exp(-2)), 1 / (1 + math.exp(1))
    expected = (
        alpha * (1 - p) ** gamma * -math.log(p) + (1 - alpha) * q**gamma * -math.log(1 - q)
    ) / 2
    logits = torch.tensor([[[2.0, -1.0]]])
    loss = focal_loss(logits, truth([[1, 0]]), alpha=alpha, gamma=gamma)
    assert float(loss[0]) == pytest.approx(expected, abs=1e-6)


def test_focal_without_focus_is_half_the_cross_entropy():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 5, generator=generator)
    target = (torch.rand(2, 5, 5, generator=generator) > 0.5).float()
    torch.testing.assert_close(
        focal_loss(logits, target, alpha=0.5, gamma=0.0), 0.5 * bce_loss(logits, target)
    )


@pytest.mark.parametrize("loss", [dice_loss, focal_loss, bce_loss])
def test_masks_do_not_mix_and_a_size_does_not_matter(loss):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 6, 8, generator=generator)
    target = (torch.rand(3, 6, 8, generator=generator) > 0.5).float()
    together = loss(logits, target)
    assert together.shape == (3,)
    alone = torch.cat([loss(logits[i : i + 1], target[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("loss", [dice_loss, focal_loss, bce_loss])
def test_better_is_less_and_gradients_point_there(loss):
    target = truth([[1, 1, 0, 0]])
    logits = torch.zeros(1, 1, 4, requires_grad=True)
    loss(logits, target).sum().backward()
    assert (logits.grad[0, 0].sign() == torch.tensor([-1.0, -1.0, 1.0, 1.0])).all()
    assert float(loss(hard([[1, 1, 0, 0]]), target)[0]) < float(loss(logits.detach(), target)[0])
    assert float(loss(hard([[1, 1, 0, 0]]), target)[0]) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("loss", [dice_loss, focal_loss, bce_loss])
def test_extreme_scores_stay_finite(loss):
    logits = torch.tensor([[[1e4, -1e4]]], requires_grad=True)
    value = loss(logits, truth([[0, 1]]))
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert torch.isfinite(logits.grad).all()


def test_iou_regression_by_hand():
    target = truth([[1, 1, 0, 0]])
    candidates = torch.cat([hard([[1, 1, 0, 0]]), hard([[1, 0, 1, 0]]), hard([[0, 0, 0, 1]])])[None]
    scores = torch.tensor([[1.0, 0.0, 0.5]], requires_grad=True)
    loss = iou_regression_loss(scores, candidates, target)
    # the true ones are 1, 1/3 and 0
    assert float(loss.detach()[0]) == pytest.approx((0 + 1 / 9 + 1 / 4) / 3)
    loss.sum().backward()
    assert scores.grad[0].tolist() == pytest.approx([0, 2 / 3 * -1 / 3, 2 / 3 * 0.5])


def test_iou_regression_teaches_the_score_only_and_knows_emptiness():
    candidates = hard([[0, 0], [0, 0]])[None].requires_grad_()
    scores = torch.tensor([[0.0]], requires_grad=True)
    loss = iou_regression_loss(scores, candidates, truth([[0, 0], [0, 0]]))
    assert float(loss.detach()[0]) == 1  # nothing against nothing is an IoU of 1
    loss.sum().backward()
    assert candidates.grad is None


def test_the_iou_that_is_taught_is_the_score():
    generator = np.random.default_rng(1)
    pred, mask = generator.random((2, 30, 40)) < 0.3
    known = torch.tensor([[iou(count(pred, mask))]], dtype=torch.float32)
    loss = iou_regression_loss(known, hard(pred.tolist())[:, None], truth(mask.tolist()))
    assert float(loss[0]) == pytest.approx(0, abs=1e-12)
