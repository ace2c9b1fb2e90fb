from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from vasculora.core.geometry import upsample_logits
from vasculora.core.types import Batch, Output
from vasculora.losses.mask import bce_loss, dice_loss, focal_loss, iou_regression_loss
from vasculora.losses.objective import Objective, ObjectiveConfig
from vasculora.metrics.mask import count, dice

SIDE, VIA, VOCABULARY = 8, 16, 11


def random_output(num_masks, num_tokens, seed=0):
    generator = torch.Generator().manual_seed(seed)
    candidates = torch.randn(num_masks, 3, SIDE, SIDE, generator=generator)
    scores = torch.rand(num_masks, 3, generator=generator)
    chosen = candidates[torch.arange(num_masks), scores.argmax(dim=1)]
    return Output(
        mask_logits=chosen,
        candidate_logits=candidates,
        iou_scores=scores,
        text_logits=torch.randn(num_tokens, VOCABULARY, generator=generator),
        text_labels=torch.randint(0, VOCABULARY, (num_tokens,), generator=generator),
    )


def random_batch(sizes, num_tokens, seed=0):
    """Return a batch of one image whose masks have the given sizes."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.full((1, num_tokens + 3), -100)
    labels[0, 3:] = 1
    return Batch(
        case_ids=("case",),
        sizes=((9, 9),),
        input_ids=torch.zeros(1, num_tokens + 3, dtype=torch.long),
        attention_mask=torch.ones(1, num_tokens + 3, dtype=torch.long),
        labels=labels,
        mllm_pixels=torch.zeros(1, 3, 4, 4),
        sam_pixels=torch.zeros(1, 3, VIA, VIA),
        image_index=torch.zeros(len(sizes), dtype=torch.long),
        targets=tuple((torch.rand(size, generator=generator) > 0.6).float() for size in sizes),
    )


def objective(**settings):
    return Objective(ObjectiveConfig(**settings), sam_size=VIA)


def full(output, batch, row):
    size = tuple(batch.targets[row].shape)
    return upsample_logits(output.mask_logits[row : row + 1], via=VIA, size=size)


def test_parts_are_sums_over_masks_and_tokens():
    output, batch = random_output(3, 5), random_batch([(9, 7)] * 3, 5)
    terms = objective()(output, batch)
    assert terms.counts == {"dice": 3, "focal": 3, "bce": 3, "text": 5}
    assert terms.weights == {"dice": 1.0, "focal": 1.0, "bce": 0.5, "text": 1.0}
    for name, loss in (("dice", dice_loss), ("focal", focal_loss), ("bce", bce_loss)):
        expected = sum(loss(full(output, batch, i), batch.targets[i][None]) for i in range(3))
        torch.testing.assert_close(terms.sums[name], expected[0])
    expected = F.cross_entropy(output.text_logits, output.text_labels, reduction="sum")
    torch.testing.assert_close(terms.sums["text"], expected)


def test_the_total_is_the_weighted_sum_of_means():
    output, batch = random_output(3, 5), random_batch([(9, 7)] * 3, 5)
    terms = objective(dice=2.0, focal=0.0, bce=0.5, text=3.0)(output, batch)
    expected = 2 * terms.sums["dice"] / 3 + 0.5 * terms.sums["bce"] / 3 + 3 * terms.sums["text"] / 5
    torch.testing.assert_close(terms.total(), expected)
    other = {"dice": 6, "bce": 6, "text": 10}
    torch.testing.assert_close(terms.total(other), expected / 2)


def test_sizes_may_differ_within_a_batch():
    sizes = [(9, 7), (20, 12), (9, 7), (5, 5)]
    output, batch = random_output(4, 2), random_batch(sizes, 2)
    terms = objective()(output, batch)
    for name, loss in (("dice", dice_loss), ("focal", focal_loss), ("bce", bce_loss)):
        expected = sum(loss(full(output, batch, i), batch.targets[i][None]) for i in range(4))
        torch.testing.assert_close(terms.sums[name], expected[0])


def test_area_targets_are_met_on_the_decoders_own_grid():
    output, batch = random_output(2, 2), random_batch([(SIDE, SIDE)] * 2, 2)
    batch = replace(batch, targets=tuple(target * 0.3 for target in batch.targets))
    terms = objective()(output, batch)
    expected = bce_loss(output.mask_logits, torch.stack(batch.targets)).sum()
    torch.testing.assert_close(terms.sums["bce"], expected)


def test_an_image_as_small_as_the_grid_is_met_as_its_prediction():
    output, batch = random_output(2, 2), random_batch([(SIDE, SIDE)] * 2, 2)
    batch = replace(batch, sizes=((SIDE, SIDE),))
    terms = objective()(output, batch)
    logits = torch.cat([full(output, batch, row) for row in range(2)])
    assert not torch.allclose(logits, output.mask_logits)
    torch.testing.assert_close(
        terms.sums["bce"], bce_loss(logits, torch.stack(batch.targets)).sum()
    )


def test_a_weight_of_zero_drops_its_part():
    output, batch = random_output(2, 4), random_batch([(9, 7)] * 2, 4)
    without = objective(text=0.0, focal=0.0)
    terms = without(output, batch)
    assert set(terms.sums) == set(without.counts(batch)) == {"dice", "bce"}
    poisoned = replace(output, text_logits=output.text_logits * float("nan"))
    assert torch.isfinite(without(poisoned, batch).total())
    assert not torch.isfinite(objective()(poisoned, batch).total())


def test_a_text_loss_alone_does_not_look_at_masks():
    output, batch = random_output(2, 4), random_batch([(9, 7)] * 2, 4)
    output.mask_logits.requires_grad_()
    output.text_logits.requires_grad_()
    terms = objective(dice=0, focal=0, bce=0)(output, batch)
    terms.total().backward()
    assert output.mask_logits.grad is None
    assert output.text_logits.grad.any()
    assert terms.num_masks == 2


def test_all_weights_zero_is_refused():
    with pytest.raises(ValueError, match=r"every loss weight is 0.*Raise objective\.dice"):
        objective(dice=0, focal=0, bce=0, text=0)


def test_unknown_and_negative_weights_are_refused():
    with pytest.raises(ValidationError, match="Extra inputs"):
        ObjectiveConfig(tversky=1.0)
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        ObjectiveConfig(dice=-1.0)


def test_focal_settings_reach_the_focal_loss():
    output, batch = random_output(2, 2), random_batch([(9, 7)] * 2, 2)
    terms = objective(focal_alpha=0.9, focal_gamma=0.5)(output, batch)
    logits = torch.cat([full(output, batch, row) for row in range(2)])
    expected = focal_loss(logits, torch.stack(batch.targets), alpha=0.9, gamma=0.5).sum()
    torch.testing.assert_close(terms.sums["focal"], expected)


def test_all_candidates_are_compared_on_demand():
    output, batch = random_output(2, 2), random_batch([(9, 7), (5, 6)], 2)
    terms = objective(masks="all", iou=1.0)(output, batch)
    dice_sum = iou_sum = 0.0
    for row in range(2):
        target = batch.targets[row][None]
        grown = upsample_logits(output.candidate_logits[row], via=VIA, size=tuple(target.shape[1:]))
        dice_sum += dice_loss(grown, target.repeat(3, 1, 1)).mean()
        iou_sum += iou_regression_loss(output.iou_scores[row : row + 1], grown[None], target)[0]
    torch.testing.assert_close(terms.sums["dice"], dice_sum)
    torch.testing.assert_close(terms.sums["iou"], iou_sum)
    assert terms.counts["dice"] == terms.counts["iou"] == 2


def test_the_watched_dice_is_the_metric():
    output, batch = random_output(3, 2), random_batch([(9, 7), (9, 7), (20, 12)], 2)
    batch = replace(batch, targets=(*batch.targets[:2], torch.zeros(20, 12)))
    output = replace(
        output, mask_logits=torch.cat([output.mask_logits[:2], torch.full((1, SIDE, SIDE), -9.0)])
    )
    expected = [
        dice(count((full(output, batch, i)[0] > 0).numpy(), batch.targets[i].bool().numpy()))
        for i in range(3)
    ]
    assert expected[2] == 1  # empty against empty
    terms = objective()(output, batch)
    assert terms.dice == pytest.approx(sum(expected), abs=1e-6)
    assert terms.num_masks == 3


def test_half_precision_scores_are_weighed_in_full():
    output, batch = random_output(2, 4), random_batch([(9, 7)] * 2, 4)
    half = replace(
        output,
        mask_logits=output.mask_logits.bfloat16(),
        candidate_logits=output.candidate_logits.bfloat16(),
        iou_scores=output.iou_scores.bfloat16(),
        text_logits=output.text_logits.bfloat16(),
    )
    terms = objective(iou=1.0)(half, batch)
    assert {value.dtype for value in terms.sums.values()} == {torch.float32}


def test_a_batch_without_masks_has_its_text_only():
    output, batch = random_output(0, 4), random_batch([], 4)
    output.text_logits.requires_grad_()
    terms = objective()(output, batch)
    assert terms.counts["dice"] == terms.num_masks == 0
    terms.total().backward()
    torch.testing.assert_close(
        terms.total().detach(), F.cross_entropy(output.text_logits, output.text_labels).detach()
    )


BOX = (4, 0, 8, 16)
"""A 9 x 18 image in the middle of the 16 pixels of `VIA`: cells 2 to 5 of 8."""


def test_a_letterboxed_image_is_met_as_its_prediction():
    output = random_output(2, 2)
    batch = replace(random_batch([(9, 18)] * 2, 2), sizes=((9, 18),), boxes=(BOX,))
    terms = objective(iou=1.0)(output, batch)
    own = upsample_logits(output.mask_logits, via=VIA, size=(9, 18), box=BOX)
    truth = torch.stack(batch.targets)
    torch.testing.assert_close(terms.sums["bce"], bce_loss(own, truth).sum())
    torch.testing.assert_close(terms.sums["dice"], dice_loss(own, truth).sum())
    squashed = objective(iou=1.0)(output, replace(batch, boxes=()))
    assert abs(float(terms.sums["bce"] - squashed.sums["bce"])) > 1e-3
    expected = [
        dice(count((logits > 0).numpy(), one.bool().numpy()))
        for logits, one in zip(own, truth, strict=True)
    ]
    assert terms.dice == pytest.approx(sum(expected), abs=1e-6)


def test_a_coarse_truth_is_met_in_the_cells_of_its_box_alone():
    output = random_output(1, 2)
    output.mask_logits.requires_grad_()
    batch = replace(random_batch([(4, 8)], 2), sizes=((90, 180),), boxes=(BOX,))
    terms = objective(text=0.0)(output, batch)
    inside = output.mask_logits[:, 2:6]
    torch.testing.assert_close(terms.sums["bce"], bce_loss(inside, batch.targets[0][None]).sum())
    terms.total().backward()
    grad = output.mask_logits.grad[0]
    assert (grad[2:6] != 0).all()
    assert (grad[:2] == 0).all()
    assert (grad[6:] == 0).all()


def test_images_with_and_without_borders_share_a_batch():
    output = random_output(2, 2)
    batch = replace(
        random_batch([(9, 18), (9, 18)], 2),
        sizes=((9, 18), (9, 18)),
        image_index=torch.tensor([0, 1]),
        boxes=(BOX, (0, 0, VIA, VIA)),
    )
    terms = objective()(output, batch)
    logits = [
        upsample_logits(output.mask_logits[i : i + 1], via=VIA, size=(9, 18), box=batch.boxes[i])
        for i in range(2)
    ]
    expected = bce_loss(torch.cat(logits), torch.stack(batch.targets)).sum()
    torch.testing.assert_close(terms.sums["bce"], expected)
