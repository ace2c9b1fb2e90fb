"""SAM 2 driven by a language prompt, differentiable from the mask back to the prompt.

transformers' own entry points for image and prompt embeddings run without a graph, so its parts are
composed here: the image encoder, the two "not a point" tokens that an absent click leaves behind,
and the mask decoder with the language prompt as a third token (Sa2VA, Yuan et al. 2025, section 3).
Masks are flat with an index to their image.
"""

from typing import Any, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import Sam2Config, Sam2Model, Sam2VideoConfig, Sam2VideoModel

Sam2: TypeAlias = Sam2Model | Sam2VideoModel
"""SAM 2 for images alone, or with its memory of earlier frames; their image parts are the same."""
NUM_CANDIDATES = 3
"""Masks that SAM 2 offers for an ambiguous prompt; the one with the highest predicted IoU is
taken."""


def build_grounding(config: dict[str, Any]) -> Sam2:
    """Return a SAM 2 with fresh weights; one with a memory where its configuration is a video's."""
    if config.get("model_type") == Sam2VideoConfig.model_type:
        return Sam2VideoModel(Sam2VideoConfig.from_dict(config))
    return Sam2Model(Sam2Config.from_dict(config))


def encode_image(sam2: Sam2, pixels: Float[Tensor, "b 3 side side"]) -> list[Tensor]:
    """Return the image's feature maps, finest first, each (b, c, h, w).

    The coarsest map carries the embedding that stands for "no memory of earlier frames".
    """
    maps = sam2.get_image_features(pixels.to(sam2.dtype), return_dict=True).fpn_hidden_states
    maps = [*maps[:-1], maps[-1] + sam2.no_memory_embedding]
    sizes = sam2.backbone_feature_sizes
    return [
        flat.permute(1, 2, 0).unflatten(2, tuple(size))
        for flat, size in zip(maps, sizes, strict=True)
    ]


def decode_masks(
    sam2: Sam2,
    features: list[Tensor],
    image_index: Int[Tensor, " n"],
    prompt_embedding: Float[Tensor, "n c"],
) -> tuple[Float[Tensor, "n m r r"], Float[Tensor, "n m"]]:
    """Return the candidate masks of each prompt, as logits, and their predicted IoU.

    Args:
        sam2: The SAM 2 model.
        features: What `encode_image` returned for the whole batch.
        image_index: The image each prompt asks about.
        prompt_embedding: The projected `[SEG]` states.
    """
    num_masks = len(image_index)
    if num_masks == 0:  # an answer without [SEG]; SAM 2 cannot reshape what is empty
        side = features[0].shape[-1]
        nothing = prompt_embedding.new_zeros(0, NUM_CANDIDATES, side, side)
        return nothing, prompt_embedding.new_zeros(0, NUM_CANDIDATES)
    nowhere = torch.zeros(num_masks, 1, 1, 2, device=prompt_embedding.device)
    absent = -torch.ones(num_masks, 1, 1, dtype=torch.int, device=prompt_embedding.device)
    sparse, dense = sam2.prompt_encoder(
        input_points=nowhere, input_labels=absent, input_boxes=None, input_masks=None
    )
    prompt = prompt_embedding[:, None, None].to(sparse.dtype)
    position = sam2.get_image_wide_positional_embeddings()
    masks, iou_scores, _, _ = sam2.mask_decoder(
        image_embeddings=features[-1][image_index],
        image_positional_embeddings=position.repeat(num_masks, 1, 1, 1),
        sparse_prompt_embeddings=torch.cat([sparse, prompt], dim=2),
        dense_prompt_embeddings=dense,
        multimask_output=True,
        high_resolution_features=[level[image_index] for level in features[:-1]],
    )
    return masks[:, 0], iou_scores[:, 0]


def best_candidate(
    masks: Float[Tensor, "n m r r"], iou_scores: Float[Tensor, "n m"]
) -> Float[Tensor, "n r r"]:
    """Return, for each prompt, the candidate with the highest predicted IoU."""
    rows = torch.arange(len(masks), device=masks.device)
    return masks[rows, iou_scores.argmax(dim=1)]
