from dataclasses import replace
from math import log

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from vasculora.core.types import Batch, Output
from vasculora.losses.objective import Objective, ObjectiveConfig, TrainingLoss
from vasculora.losses.official import (
    OfficialObjective,
    draw_points,
    five_objects,
    nearest_targets,
    point_losses,
    sample_at,
)

SIDE, VIA, VOCABULARY, TOKENS, POINTS = 8, 16, 11, 3, 40
LOG2 = log(2)


def logits_like(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def make_output(logits, num_tokens=TOKENS):
    return Output(
        mask_logits=logits,
        candidate_logits=logits[:, None],
        iou_scores=torch.ones(len(logits), 1),
        text_logits=logits_like(num_tokens, VOCABULARY, seed=1),
        text_labels=torch.arange(num_tokens),
    )


def make_batch(image_index, size=(12, 10)):
    """Return a batch with random masks; every image has one conversation with `TOKENS` answers."""
    num_images = max(image_index, default=0) + 1
    labels = torch.full((num_images, TOKENS + 1), -100)
    labels[:, 1:] = 1
    targets = (logits_like(len(image_index), *size, seed=2) > 0.5).float()
    return Batch(
        case_ids=tuple(f"case{image}" for image in range(num_images)),
        sizes=(size,) * num_images,
        input_ids=torch.zeros_like(labels),
        attention_mask=torch.ones_like(labels),
        labels=labels,
        mllm_pixels=torch.zeros(num_images, 3, 4, 4),
        sam_pixels=torch.zeros(num_images, 3, VIA, VIA),
        image_index=torch.tensor(image_index, dtype=torch.long),
        targets=tuple(targets),
    )


def objective(num_points=POINTS):
    return OfficialObjective(sam_size=VIA, num_points=num_points)


def cells(rows, columns, side=SIDE):
    """Return the points at the centres of cells."""
    x, y = torch.tensor(columns), torch.tensor(rows)
    return ((torch.stack([x, y], dim=-1) + 0.5) / side)[None]


def test_sampling_reads_cells_mixes_neighbours_and_fades_at_the_border():
    grid = torch.tensor([[[1.0, 2.0], [3.0, 7.0]]])
    points = torch.tensor([[[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.5, 0.25], [0.5, 0.5]]])
    assert sample_at(grid, points).tolist() == [[1.0, 2.0, 3.0, 1.5, 3.25]]
    # on the outer border half of what is mixed lies outside, where everything is 0
    assert sample_at(grid, torch.tensor([[[0.0, 0.25], [1.0, 1.0]]])).tolist() == [[0.5, 1.75]]


def test_x_comes_before_y():
    grid = torch.arange(SIDE * SIDE, dtype=torch.float32).view(1, SIDE, SIDE)
    found = sample_at(grid, cells(rows=[0, 3], columns=[5, 1]))
    torch.testing.assert_close(found, torch.tensor([[5.0, 3.0 * SIDE + 1]]))


def test_a_point_on_a_border_has_a_soft_target():
    mask = torch.zeros(1, SIDE, SIDE)
    mask[:, :, 4:] = 1
    between = torch.tensor([[[0.5, 0.5], [4.25 / SIDE, 0.5]]])
    assert sample_at(mask, between).tolist() == [[0.5, 0.75]]
    losses = point_losses(torch.zeros(1, 2), sample_at(mask, between))
    assert losses["bce"].item() == pytest.approx(LOG2)
    assert losses["dice"].item() == pytest.approx(1 - (1.25 + 1) / (1 + 1.25 + 1))


def test_point_losses_by_hand():
    logits = torch.tensor([[0.0, 0.0], [log(3), -log(3)]])
    target = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    losses = point_losses(logits, target)
    expected = [LOG2, (-log(0.75) - log(0.25)) / 2]
    assert losses["bce"].tolist() == pytest.approx(expected)
    # 2 * 0.5 + 1 of 1 + 1 + 1, and 2 * (0.75 + 0.25) + 1 of 1 + 2 + 1
    assert losses["dice"].tolist() == pytest.approx([1 - 2 / 3, 1 - 3 / 4])


def test_an_empty_mask_found_empty_loses_nothing():
    losses = point_losses(torch.full((1, 5), -200.0), torch.zeros(1, 5))
    assert (losses["bce"].item(), losses["dice"].item()) == (0, 0)


@pytest.mark.parametrize(
    ("image_index", "rows"),
    [
        ([0], [0, 0, 0, 0, 0]),
        ([0, 0], [0, 1, 0, 1, 0]),
        ([0, 0, 0], [0, 1, 2, 0, 1]),
        ([0] * 5, [0, 1, 2, 3, 4]),
        ([1, 0, 1], [1, 1, 1, 1, 1, 0, 2, 0, 2, 0]),
        ([0, 2], [0] * 5 + [1] * 5),
    ],
)
def test_fewer_objects_come_round_again_image_by_image(image_index, rows):
    assert five_objects(torch.tensor(image_index)).tolist() == rows


def test_of_more_objects_five_are_drawn():
    torch.manual_seed(0)
    index = torch.tensor([0] * 7 + [1])
    draws = [five_objects(index).tolist() for _ in range(60)]
    assert all(len(set(rows[:5])) == 5 and set(rows[:5]) <= set(range(7)) for rows in draws)
    assert all(rows[5:] == [7] * 5 for rows in draws)
    assert {row for rows in draws for row in rows[:5]} == set(range(7))


def test_truth_is_that_of_one_pixel_a_cell():
    mask = torch.zeros(16, 16)
    mask[0, 0] = mask[2, 5] = mask[15, 15] = 1
    coarse = nearest_targets((mask, torch.ones(9, 4)), side=SIDE)
    expected = torch.zeros(SIDE, SIDE)
    expected[0, 0] = 1  # of two pixels the first; the odd ones are dropped, and that is the point
    torch.testing.assert_close(coarse, torch.stack([expected, torch.ones(SIDE, SIDE)]))


def test_points_gather_where_the_mask_is_unsure():
    logits = torch.full((2, SIDE, SIDE), 9.0)
    logits[0, :, 3], logits[1, 2] = 0.0, 0.0
    torch.manual_seed(0)
    points = draw_points(logits, 400)
    assert points.shape == (2, 400, 2)
    assert points.min() >= 0
    assert points.max() <= 1
    size = sample_at(logits, points).abs()
    anywhere = sample_at(logits, torch.rand(2, 4000, 2)).abs()
    assert (size[:, :300].amax(1) < anywhere.median(1).values).all()
    assert float(size[:, 300:].mean()) == pytest.approx(float(anywhere.mean()), rel=0.1)
    assert not points.requires_grad


def test_points_follow_the_official_order_of_random_numbers():
    logits = logits_like(3, SIDE, SIDE)
    torch.manual_seed(5)
    points = draw_points(logits, 16)
    torch.manual_seed(5)
    candidates, anywhere = torch.rand(3, 48, 2), torch.rand(3, 4, 2)
    torch.testing.assert_close(points[:, 12:], anywhere)
    order = sample_at(logits, candidates).abs().argsort(dim=1)[:, :12]
    torch.testing.assert_close(points[0, :12], candidates[0, order[0]])


def test_one_batch_has_the_official_value():
    logits, batch = logits_like(3, SIDE, SIDE), make_batch([0, 0, 0])
    points = torch.rand(5, POINTS, 2, generator=torch.Generator().manual_seed(3))
    output = make_output(logits)
    terms = objective()(output, batch, points)
    rows = [0, 1, 2, 0, 1]
    scores = sample_at(logits[rows], points)
    truth = sample_at(nearest_targets(batch.targets, side=SIDE)[rows], points)
    prob = scores.sigmoid()
    eps = torch.finfo(torch.float32).eps
    bce = F.binary_cross_entropy_with_logits(scores, truth, reduction="sum")
    shares = (2 * (prob * truth).sum(1) + 1) / (prob.sum(1) + truth.sum(1) + 1)
    expected = 2 * bce / (5 * POINTS + 1e-4 + eps) + 0.5 * (1 - shares).sum() / (5 + 1e-4 + eps)
    expected = expected + F.cross_entropy(output.text_logits, output.text_labels)
    torch.testing.assert_close(terms.total(), expected, rtol=1e-6, atol=0)
    assert terms.counts == objective().counts(batch) == {"bce": 5, "dice": 5, "text": TOKENS}
    assert terms.weights == {"bce": 2.0, "dice": 0.5, "text": 1.0}


def test_the_denominators_are_a_little_larger_than_the_counts():
    batch = make_batch([0])
    batch = replace(batch, targets=(torch.zeros(12, 10),))
    output = make_output(torch.zeros(1, SIDE, SIDE))
    terms = objective(4)(output, batch, torch.full((5, 4, 2), 0.5))
    assert terms.sums["bce"].double().item() == pytest.approx(5 * LOG2 * 20 / 20.0001, rel=3e-7)
    dice = 1 - 1 / (4 * 0.5 + 1)
    assert terms.sums["dice"].double().item() == pytest.approx(5 * dice * 5 / 5.0001, rel=3e-7)


def test_the_gradient_reaches_every_compared_mask_where_it_was_sampled():
    logits = torch.zeros(2, SIDE, SIDE, requires_grad=True)
    batch = replace(make_batch([0, 0]), targets=(torch.ones(12, 10), torch.zeros(12, 10)))
    points = cells(rows=[1, 6], columns=[2, 3]).repeat(5, 1, 1)
    terms = objective(2 + 2)(make_output(logits), batch, points)
    (terms.sums["bce"] / 5).backward()
    expected = torch.zeros(2, SIDE, SIDE)
    # mask 0 is compared thrice, mask 1 twice: (prob - truth) a point, over ten points
    expected[0, 1, 2] = expected[0, 6, 3] = 3 * -0.5 / 10
    expected[1, 1, 2] = expected[1, 6, 3] = 2 * 0.5 / 10
    torch.testing.assert_close(logits.grad, expected, rtol=2e-5, atol=1e-7)


def test_repeating_masks_is_repeating_prompts():
    logits, batch = logits_like(2, SIDE, SIDE), make_batch([0, 0])
    points = torch.rand(5, POINTS, 2, generator=torch.Generator().manual_seed(3))
    rows = torch.tensor([0, 1, 0, 1, 0])
    repeated = replace(
        make_batch([0] * 5), targets=tuple(batch.targets[row] for row in rows.tolist())
    )
    few = objective()(make_output(logits), batch, points)
    many = objective()(make_output(logits[rows]), repeated, points)
    assert few.counts == many.counts
    torch.testing.assert_close(few.total(), many.total())


def test_accumulated_batches_are_the_whole():
    logits, batch = logits_like(3, SIDE, SIDE), make_batch([0, 0, 1])
    points = torch.rand(10, POINTS, 2, generator=torch.Generator().manual_seed(3))
    alone = make_output(logits)
    both = replace(
        alone,
        text_logits=alone.text_logits.repeat(2, 1),
        text_labels=alone.text_labels.repeat(2),
    )
    whole = objective()(both, batch, points)
    first = objective()(
        make_output(logits[:2]), replace(make_batch([0, 0]), targets=batch.targets[:2]), points[:5]
    )
    second = objective()(
        make_output(logits[2:]), replace(make_batch([0]), targets=batch.targets[2:]), points[5:]
    )
    assert {n: first.counts[n] + second.counts[n] for n in first.counts} == whole.counts
    for name, total in whole.sums.items():
        # the slack in the denominator counts once a batch: 1e-4 of five masks
        torch.testing.assert_close(first.sums[name] + second.sums[name], total, rtol=3e-5, atol=0)
    parts = first.total(whole.counts) + second.total(whole.counts)
    torch.testing.assert_close(parts, (first.total() + second.total()) / 2)
    assert whole.dice == pytest.approx(first.dice + second.dice)


def test_drawn_points_agree_with_given_ones():
    output, batch = make_output(logits_like(2, SIDE, SIDE)), make_batch([0, 0])
    torch.manual_seed(7)
    drawn = objective()(output, batch)
    torch.manual_seed(7)
    points = draw_points(output.mask_logits[[0, 1, 0, 1, 0]], POINTS)
    torch.testing.assert_close(objective()(output, batch, points).total(), drawn.total())
    assert not torch.equal(objective()(output, batch).total(), drawn.total())


def test_the_score_beside_it_is_the_own_objectives():
    output, batch = make_output(logits_like(3, SIDE, SIDE)), make_batch([0, 1, 1])
    own = Objective(ObjectiveConfig(), sam_size=VIA)(output, batch)
    terms = objective()(output, batch)
    assert (terms.dice, terms.num_masks) == (own.dice, own.num_masks)
    assert terms.num_masks == 3


def test_a_batch_without_masks_has_its_text_only():
    output, batch = make_output(torch.zeros(0, SIDE, SIDE)), make_batch([])
    output.text_logits.requires_grad_()
    terms = objective()(output, batch)
    assert (terms.counts["dice"], terms.num_masks, terms.dice) == (0, 0, 0)
    terms.total().backward()
    torch.testing.assert_close(
        terms.total(), F.cross_entropy(output.text_logits, output.text_labels)
    )
    assert output.text_logits.grad.any()


def test_half_precision_scores_are_weighed_in_full():
    output, batch = make_output(logits_like(2, SIDE, SIDE)), make_batch([0, 0])
    half = replace(
        output,
        mask_logits=output.mask_logits.bfloat16(),
        candidate_logits=output.candidate_logits.bfloat16(),
        text_logits=output.text_logits.bfloat16(),
    )
    terms = objective()(half, batch)
    assert {value.dtype for value in terms.sums.values()} == {torch.float32}


def test_it_fits_where_the_own_objective_fits_and_wants_some_points():
    assert isinstance(objective(), TrainingLoss)
    assert OfficialObjective(sam_size=VIA).num_points == 112**2
    with pytest.raises(ValueError, match=r"num_points of at least 4, got 3"):
        objective(3)


@pytest.fixture(params=["internvl_qwen2", "internvl_internlm2"])
def golden(request, shared_dir):
    """What the original forward pass of the official training computed, on two images."""
    path = shared_dir / "golden" / request.param / "golden_train.safetensors"
    if not path.is_file():
        pytest.skip(f"no reference tensors at {path}")
    return load_file(path)


def golden_masks(golden):
    """Return the truth at the images' own sizes, and the image of each."""
    targets = [tuple(golden[f"gt_masks.{image}"].float()) for image in range(2)]
    index = [image for image, masks in enumerate(targets) for _ in masks]
    return (*targets[0], *targets[1]), torch.tensor(index)


def test_the_original_s_coarse_truth_is_met(golden):
    targets, image_index = golden_masks(golden)
    assert golden["nf_nobj"].tolist() == [2, 5]
    side = golden["pred_masks"].shape[-1]
    coarse = nearest_targets(targets, side=side)[five_objects(image_index)]
    torch.testing.assert_close(coarse, golden["gt_masks_resized"].float(), rtol=0, atol=0)


def test_the_original_s_points_are_drawn(golden):
    torch.manual_seed(1234)
    points = draw_points(golden["pred_masks"], golden["point_coords"].shape[1])
    torch.testing.assert_close(points, golden["point_coords"], rtol=0, atol=1e-6)


def test_the_original_s_values_at_its_points_are_met(golden):
    points = golden["point_coords"]
    for maps, sampled in (("pred_masks", "sampled_pred"), ("gt_masks_resized", "sampled_gt")):
        found = sample_at(golden[maps].float(), points)
        torch.testing.assert_close(found, golden[sampled], rtol=0, atol=1e-6)


def test_the_original_s_losses_are_met(golden):
    targets, image_index = golden_masks(golden)
    # its masks are repeated already; the first of each are the ones the loss repeats itself
    logits = golden["pred_masks"][[0, 1, 5]]
    torch.testing.assert_close(golden["pred_masks"], logits[five_objects(image_index)])
    batch = replace(
        make_batch(image_index.tolist()),
        sizes=tuple(tuple(golden[f"gt_masks.{image}"].shape[1:]) for image in range(2)),
        targets=targets,
    )
    terms = objective()(make_output(logits, num_tokens=0), batch, golden["point_coords"])
    parts = {n: terms.weights[n] * terms.sums[n] / terms.counts[n] for n in ("bce", "dice")}
    torch.testing.assert_close(parts["bce"], golden["loss_mask"], rtol=0, atol=1e-6)
    torch.testing.assert_close(parts["dice"], golden["loss_dice"], rtol=0, atol=1e-6)
    torch.testing.assert_close(terms.total(), golden["loss_mask"] + golden["loss_dice"])


def test_letterboxed_images_are_refused():
    batch = replace(make_batch([0]), boxes=((4, 0, 8, 16),))
    with pytest.raises(ValueError, match="knows squashed images alone"):
        objective()(make_output(logits_like(1, SIDE, SIDE)), batch)
