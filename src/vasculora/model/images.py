"""Pictures for the two encoders: tiles or patches for the one of the words, a square for SAM 2.

The language-vision side is transformers' own (tiles of GOT-OCR2 for InternVL, patches of Qwen2-VL);
SAM 2's side is written here, since theirs needs torchvision.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from transformers import GotOcr2ImageProcessorPil, Qwen2VLImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from vasculora.core.geometry import Box
from vasculora.core.io import read_image

Picture = Image.Image | Path | str | np.ndarray
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
Numerics = Literal["official", "float32"]
_FIRST_FACTOR = 28
_FIRST_PIXELS = (4 * 28**2, 16384 * 28**2)
"""What qwen_vl_utils resizes to before the image processor does, for every Qwen model."""
_MAX_RATIO = 200


class PatchConfig(BaseModel):
    """How an image becomes flat patches at its own shape (Qwen families)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    patch_size: int = Field(default=14, ge=1)
    """Side of a patch in pixels."""
    merge_size: int = Field(default=2, ge=1)
    """Patches a side that become one token."""
    min_pixels: int = Field(default=512 * 28**2, ge=1)
    """Smallest area in pixels; a smaller image is enlarged."""
    max_pixels: int = Field(default=2048 * 28**2, ge=1)
    """Largest area in pixels; a larger image is shrunk."""
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    """Mean of each colour, of 0 to 1."""
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)
    """Standard deviation of each colour."""


@dataclass(frozen=True)
class MllmImage:
    """One image as the language-vision model takes it.

    Attributes:
        pixels: Normalised tiles, the thumbnail last, or flat patches.
        num_tokens: Tokens it becomes.
        grid: Of flat patches: frames, rows and columns.
    """

    pixels: Float[Tensor, "p ..."]
    num_tokens: int
    grid: Int[Tensor, " 3"] | None = None


class Tiler:
    """Cuts an image into square tiles of the encoder's size (InternVL).

    Args:
        tile_size: Side of a tile in pixels.
        tile_tokens: Tokens a tile becomes.
        max_tiles: Most tiles beside the thumbnail.
    """

    def __init__(self, *, tile_size: int, tile_tokens: int, max_tiles: int) -> None:
        self.tile_tokens = tile_tokens
        self._process = GotOcr2ImageProcessorPil(
            size={"height": tile_size, "width": tile_size},
            crop_to_patches=max_tiles > 1,
            max_patches=max_tiles,
            image_mean=IMAGENET_MEAN,
            image_std=IMAGENET_STD,
        )

    def __call__(self, image: UInt8[np.ndarray, "h w 3"]) -> MllmImage:
        """Return an image's tiles."""
        pixels = self._process(Image.fromarray(image), return_tensors="pt")["pixel_values"]
        tiles = pixels.flatten(0, -4) if pixels.ndim > 4 else pixels
        return MllmImage(pixels=tiles, num_tokens=self.tile_tokens * len(tiles))


class Patcher:
    """Cuts an image into patches, rows and columns following its own shape (Qwen families).

    Args:
        config: Sizes and colour statistics.
    """

    def __init__(self, config: PatchConfig) -> None:
        self._merge = config.merge_size**2
        self._process = Qwen2VLImageProcessorPil(
            patch_size=config.patch_size,
            merge_size=config.merge_size,
            min_pixels=config.min_pixels,
            max_pixels=config.max_pixels,
            image_mean=config.mean,
            image_std=config.std,
        )

    def __call__(self, image: UInt8[np.ndarray, "h w 3"]) -> MllmImage:
        """Return an image's patches.

        Raises:
            ValueError: If one side is more than 200 times the other.
        """
        height, width = image.shape[:2]
        if max(height, width) > _MAX_RATIO * min(height, width):
            raise ValueError(
                f"an image is {height}x{width}, and a Qwen model takes none with one side more "
                f"than {_MAX_RATIO} times the other. Crop it."
            )
        least, most = _FIRST_PIXELS
        height, width = smart_resize(
            height, width, factor=_FIRST_FACTOR, min_pixels=least, max_pixels=most
        )
        picture = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)
        found = self._process(picture, return_tensors="pt")
        grid = found["image_grid_thw"][0]
        return MllmImage(
            pixels=found["pixel_values"],
            num_tokens=int(grid.prod()) // self._merge,
            grid=grid,
        )


def sam_square(
    image: UInt8[np.ndarray, "h w 3"], side: int, *, numerics: Numerics, box: Box | None = None
) -> Float[Tensor, "3 side side"]:
    """Return an image resized to its place in SAM 2's square and normalised.

    What the image leaves empty is 0, its mean colour to SAM 2.

    Args:
        image: RGB, 0 to 255.
        side: Side of the square in pixels.
        numerics: `float32` for ImageNet's constants as they are (as in the official training),
            `official` for their bfloat16 roundings (as in the official prediction).
        box: Where the image lies; None for all of the square.
    """
    top, left, height, width = (0, 0, side, side) if box is None else box
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.asarray(resized, dtype=np.float32) / 255).permute(2, 0, 1)
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    if numerics == "official":
        mean, std = mean.bfloat16().float(), std.bfloat16().float()
    square = torch.zeros(3, side, side)
    square[:, top : top + height, left : left + width] = (pixels - mean) / std
    return square


def to_rgb(image: Picture) -> UInt8[np.ndarray, "h w 3"]:
    """Return a picture as an RGB array.

    Raises:
        ValueError: If an array is not uint8 of shape (h, w) or (h, w, 3).
    """
    if isinstance(image, Path | str):
        return read_image(Path(image))
    if isinstance(image, Image.Image):
        return np.asarray(image.convert("RGB"))
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)):
        raise ValueError(
            f"expected an image of dtype uint8 and shape (h, w) or (h, w, 3), got {image.dtype} "
            f"{image.shape}. Scale it to 0-255 and convert it with .astype('uint8')."
        )
    return image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)
