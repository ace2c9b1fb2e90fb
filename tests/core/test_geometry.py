import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from vasculora.core.geometry import (
    area_shares,
    cut_box,
    in_cells,
    letterbox,
    nearest_pixels,
    upsample_logits,
)


def test_an_even_mask_stays_even():
    logits = torch.full((2, 4, 4), -1.5)
    torch.testing.assert_close(
        upsample_logits(logits, via=16, size=(5, 9)), torch.full((2, 5, 9), -1.5)
    )


def test_one_step_by_hand():
    logits = torch.tensor([[[0.0, 4.0], [0.0, 4.0]]])
    row = torch.tensor([0.0, 1.0, 3.0, 4.0])
    assert torch.equal(upsample_logits(logits, via=4, size=(4, 4))[0], row.repeat(4, 1))


def test_two_steps_by_hand():
    logits = torch.tensor([[[0.0, 4.0], [0.0, 4.0]]])
    # through 4 columns (0, 1, 3, 4) to 2, each the mean of its two; one step would return 0 and 4
    expected = torch.tensor([[[0.5, 3.5], [0.5, 3.5]]])
    assert torch.equal(upsample_logits(logits, via=4, size=(2, 2)), expected)


def test_two_steps_are_not_one():
    logits = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(0))
    single = F.interpolate(logits[None], (20, 30), mode="bilinear", align_corners=False)[0]
    assert (upsample_logits(logits, via=32, size=(20, 30)) - single).abs().max() > 0.01


def test_reference_masks_are_met(shared_dir):
    golden = load_file(shared_dir / "golden" / "internvl_qwen2" / "golden.safetensors")
    for index in range(2):
        low = golden[f"image/sam.low_res_masks.{index}"][0]
        logits = upsample_logits(low, via=128, size=(160, 240))
        torch.testing.assert_close(logits, golden[f"image/mask_logits.{index}"], atol=1e-4, rtol=0)
        truth = golden[f"image/mask.{index}"].bool()
        assert torch.equal(logits.sigmoid() > 0.5, truth)


def test_area_shares_by_hand():
    mask = torch.tensor([[1.0, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]])
    assert torch.equal(area_shares(mask, 2), torch.tensor([[1.0, 0.25], [0.0, 0.25]]))


def test_area_shares_keep_a_thin_vessel():
    mask = torch.zeros(64, 64)
    mask[:, 21] = 1
    assert torch.equal(area_shares(mask, 8).sum(), torch.tensor(8 / 8))


def test_nearest_pixels_keep_the_first_of_each_cell_and_lose_a_thin_vessel():
    mask = torch.tensor([[1.0, 1, 0, 1], [1, 1, 1, 1], [0, 0, 1, 0], [0, 0, 0, 0]])
    assert torch.equal(nearest_pixels(mask, 2), torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    thin = torch.zeros(64, 64)
    thin[:, 21] = 1
    assert nearest_pixels(thin, 8).sum() == 0


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((64, 64), (0, 0, 64, 64)),
        ((300, 300), (0, 0, 64, 64)),  # a square fills the square whatever its size
        ((50, 100), (16, 0, 32, 64)),
        ((100, 50), (0, 16, 64, 32)),
        ((70, 100), (10, 0, 44, 64)),  # 22.4 of 32 cells, in a number as even as 32: 22
        ((1, 999), (30, 0, 4, 64)),  # never less than the two cells in the middle
    ],
)
def test_a_letterbox_lies_in_the_middle_in_whole_cells(size, box):
    assert letterbox(size, side=64, cells=32) == box


def test_a_letterbox_keeps_the_shape_within_a_cell():
    for height in range(20, 101):
        top, left, tall, wide = letterbox((height, 100), side=64, cells=32)
        assert (left, wide) == (0, 64)
        assert (top % 2, tall % 2, 2 * top + tall) == (0, 0, 64)
        assert abs(tall - 0.64 * height) <= 2


def test_a_letterbox_needs_cells_of_whole_pixels():
    with pytest.raises(ValueError, match=r"30 cells of the decoder's grid share 64 pixels"):
        letterbox((50, 100), side=64, cells=30)


def test_logits_are_read_from_the_box_by_hand():
    logits = torch.tensor([[[0.0, 4.0], [0.0, 4.0]]])
    # 4 columns (0, 1, 3, 4); the box holds the middle two, whose own size is what is wanted
    found = upsample_logits(logits, via=4, size=(4, 2), box=(0, 1, 4, 2))
    assert torch.equal(found[0], torch.tensor([1.0, 3.0]).repeat(4, 1))
    # at twice its size the box's own edge is repeated: nothing leaks in from beside the image
    found = upsample_logits(logits, via=4, size=(1, 4), box=(1, 1, 1, 2))
    assert torch.equal(found[0], torch.tensor([[1.0, 1.5, 2.5, 3.0]]))


def test_a_box_of_the_whole_square_changes_no_bit():
    logits = torch.randn(2, 8, 8, generator=torch.Generator().manual_seed(0))
    for size in ((32, 32), (20, 30), (64, 64)):
        with_box = upsample_logits(logits, via=32, size=size, box=(0, 0, 32, 32))
        assert torch.equal(with_box, upsample_logits(logits, via=32, size=size))


def test_boxes_are_counted_in_cells_and_cut():
    assert in_cells((4, 0, 8, 16), 4) == (1, 0, 2, 4)
    maps = torch.arange(16.0).view(1, 4, 4)
    assert torch.equal(cut_box(maps, (1, 0, 2, 3))[0], torch.tensor([[4.0, 5, 6], [8, 9, 10]]))


def test_a_coarse_truth_may_have_more_columns_than_rows():
    mask = torch.tensor([[1.0, 1, 1, 0], [1, 1, 0, 0]])
    assert torch.equal(area_shares(mask, (1, 2)), torch.tensor([[1.0, 0.25]]))
    assert torch.equal(nearest_pixels(mask, (1, 4)), torch.tensor([[1.0, 1, 1, 0]]))
