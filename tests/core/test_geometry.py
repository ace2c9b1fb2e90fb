import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from vasculora.core.geometry import area_shares, nearest_pixels, upsample_logits


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
