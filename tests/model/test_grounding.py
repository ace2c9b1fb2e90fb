import pytest
import torch
from safetensors.torch import load_file

from vasculora.model.grounding import best_candidate, decode_masks, encode_image


@pytest.fixture
def sam2(opened):
    """The tiny base's SAM 2, with nothing at the zero it starts from."""
    generator = torch.Generator().manual_seed(1)
    sam2 = opened.model.grounding
    with torch.no_grad():
        sam2.no_memory_embedding.copy_(torch.randn(1, 1, 32, generator=generator))
    return sam2


@pytest.fixture
def pixels():
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def prompts():
    return torch.randn(5, 32, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def handed_to_decoder(sam2):
    """What SAM 2's mask decoder was called with, call by call."""
    calls = []
    handle = sam2.mask_decoder.register_forward_pre_hook(
        lambda _, args, kwargs: calls.append(kwargs), with_kwargs=True
    )
    yield calls
    handle.remove()


def test_image_features_are_the_official_ones(sam2, pixels):
    official = sam2.get_image_embeddings(pixels)
    ours = encode_image(sam2, pixels)
    assert [level.shape[-1] for level in ours] == [32, 16, 8]
    for one, other in zip(ours, official, strict=True):
        assert torch.equal(one, other)


def test_the_coarsest_level_carries_no_memory(sam2, pixels):
    with_embedding = encode_image(sam2, pixels)
    with torch.no_grad():
        sam2.no_memory_embedding.zero_()
    without = encode_image(sam2, pixels)
    assert torch.equal(with_embedding[0], without[0])
    assert not torch.allclose(with_embedding[-1], without[-1])


def test_the_decoder_is_given_what_the_official_forward_gives_it(
    sam2, pixels, prompts, handed_to_decoder
):
    with torch.no_grad():
        sam2(pixel_values=pixels)
        decode_masks(sam2, encode_image(sam2, pixels), torch.tensor([0, 1]), prompts[:2])
    official, ours = handed_to_decoder
    tokens = ours["sparse_prompt_embeddings"]
    assert official["sparse_prompt_embeddings"].shape == (2, 1, 2, 32)
    assert tokens.shape == (2, 1, 3, 32)
    assert torch.equal(tokens[:, :, :2], official["sparse_prompt_embeddings"])
    assert torch.equal(tokens[:, 0, 2], prompts[:2])
    nowhere = sam2.prompt_encoder.not_a_point_embed.weight
    assert torch.equal(tokens[:, 0, :2], nowhere.expand(2, 2, 32))
    for name in (
        "image_embeddings",
        "image_positional_embeddings",
        "dense_prompt_embeddings",
        "multimask_output",
    ):
        torch.testing.assert_close(ours[name], official[name], rtol=0, atol=0)
    levels = zip(
        ours["high_resolution_features"], official["high_resolution_features"], strict=True
    )
    assert all(torch.equal(one, other) for one, other in levels)


def test_gathered_masks_are_those_of_several_prompts_on_one_image(sam2, pixels, prompts):
    """SAM 2's own way is a second axis of prompts an image; ours repeats the image."""
    features = encode_image(sam2, pixels)
    masks, scores = decode_masks(sam2, features, torch.tensor([1, 0, 1, 1, 0]), prompts)
    for image, rows in ((0, [1, 4]), (1, [0, 2, 3])):
        own = [level[image : image + 1] for level in features]
        nowhere = sam2.prompt_encoder.not_a_point_embed.weight.expand(1, len(rows), 2, 32)
        sparse = torch.cat([nowhere, prompts[rows][None, :, None]], dim=2)
        _, dense = sam2.prompt_encoder(
            input_points=torch.zeros(1, 1, 1, 2),
            input_labels=-torch.ones(1, 1, 1, dtype=torch.int),
            input_boxes=None,
            input_masks=None,
        )
        expected, expected_scores, _, _ = sam2.mask_decoder(
            image_embeddings=own[-1],
            image_positional_embeddings=sam2.get_image_wide_positional_embeddings(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=True,
            high_resolution_features=own[:-1],
        )
        torch.testing.assert_close(masks[rows], expected[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(scores[rows], expected_scores[0], atol=1e-5, rtol=1e-5)


def test_together_is_one_by_one(sam2, pixels, prompts):
    features = encode_image(sam2, pixels)
    image_index = torch.tensor([1, 0, 1, 1, 0])
    masks, scores = decode_masks(sam2, features, image_index, prompts)
    assert masks.shape == (5, 3, 32, 32)
    assert scores.shape == (5, 3)
    for row, image in enumerate(image_index.tolist()):
        alone, _ = decode_masks(
            sam2,
            encode_image(sam2, pixels[image : image + 1]),
            torch.tensor([0]),
            prompts[row : row + 1],
        )
        torch.testing.assert_close(alone[0], masks[row], atol=1e-5, rtol=1e-5)


def test_prompt_and_image_both_matter(sam2, pixels, prompts):
    masks, _ = decode_masks(
        sam2, encode_image(sam2, pixels), torch.tensor([0, 0, 1]), prompts[[0, 1, 0]]
    )
    assert (masks[0] - masks[1]).abs().max() > 1e-3
    assert (masks[0] - masks[2]).abs().max() > 1e-3


def test_no_prompt_gives_no_mask(sam2, pixels):
    masks, scores = decode_masks(
        sam2,
        encode_image(sam2, pixels),
        torch.zeros(0, dtype=torch.long),
        torch.zeros(0, 32),
    )
    assert masks.shape == (0, 3, 32, 32)
    assert scores.shape == (0, 3)
    assert best_candidate(masks, scores).shape == (0, 32, 32)


def test_the_best_candidate_has_the_highest_predicted_iou():
    masks = torch.arange(6.0)[:, None, None].expand(6, 4, 4).unflatten(0, (2, 3))
    scores = torch.tensor([[0.1, 0.9, 0.5], [-1.0, -3.0, -2.0]])
    assert best_candidate(masks, scores)[:, 0, 0].tolist() == [1.0, 3.0]


def test_the_reference_choice_is_met(shared_dir):
    golden = load_file(shared_dir / "golden" / "internvl_qwen2" / "golden.safetensors")
    for index in range(2):
        chosen = best_candidate(
            golden[f"image/sam.low_res_multimasks.{index}"], golden[f"image/sam.ious.{index}"]
        )
        assert torch.equal(chosen, golden[f"image/sam.low_res_masks.{index}"][:, 0])
