"""The records that pass between rooms, with their shapes written on them.

One axis legend for the whole code base: `b` images, `s` conversations, `t` tokens, `n` masks, `c`
channels, `h w` pixels, `d` state width, `k` supervised tokens, `p` image tiles or patches, `m`
candidate masks. Masks of a batch are flat (`n`) with `image_index` (`n`) back to their image, so
nothing is padded to a fixed number of objects.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from vasculora.core.geometry import Box

Polygon = tuple[float, ...]
"""One closed ring, x and y in turn, in pixels of the image."""


@dataclass(frozen=True, kw_only=True)
class RunLengths:
    """A mask as COCO's run lengths: background and object in turn, down the columns.

    Attributes:
        size: Height and width in pixels.
        counts: Lengths of the runs, or COCO's compressed text of them.
    """

    size: tuple[int, int]
    counts: tuple[int, ...] | str


@dataclass(frozen=True, kw_only=True)
class Target:
    """One thing to segment in one image: what it is called and where its mask is kept.

    Either `mask_path` is given, or `polygons` and `runs`, whose union is the mask; nothing of them
    where the thing is absent.

    Attributes:
        phrase: The referring expression; None where the data set names none and the run's own
            phrase is used.
        mask_path: A mask file, or None.
        polygons: Rings, or None.
        runs: Run lengths, or None.
        absent: Whether the image is annotated as not showing it: its mask is empty on purpose.
    """

    phrase: str | None = None
    mask_path: Path | None = None
    polygons: tuple[Polygon, ...] | None = None
    runs: tuple[RunLengths, ...] | None = None
    absent: bool = False


@dataclass(frozen=True, kw_only=True)
class Record:
    """One image as a source lists it: names and places, no pixels.

    Attributes:
        case_id: Name of the case, safe to write anywhere (never a patient's name).
        group: Patient, eye or run the case belongs to; a split never divides a group.
        image_path: The image file.
        targets: What is annotated in it; none where the image is not annotated.
        fov_path: A file that is white where the case is scored; None for all of it.
        second_path: A second observer's mask file, of a case with one target; or None.
        spacing: Millimetres from one row of pixels to the next, and from one column to the next;
            None where they are not known.
        frame: Which picture of a DICOM file or a stack, from 0 on; None where the file is one.
    """

    case_id: str
    group: str
    image_path: Path
    targets: tuple[Target, ...]
    fov_path: Path | None = None
    second_path: Path | None = None
    spacing: tuple[float, float] | None = None
    frame: int | None = None


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One decoded and checked case.

    Attributes:
        case_id: Name of the case.
        group: Patient, eye or run.
        image: RGB, 0 to 255.
        masks: True where the phrase of the same index is.
        phrases: One a mask.
        lot: A random number drawn anew each time a case is taken, by which words are chosen.
        fov: True where the case is scored; None scores every pixel. It and the next two are of the
            image as it was decoded: one that was moved has none.
        second: True where a second observer saw the only mask's thing; None where there is none.
        spacing: Millimetres a pixel, down the rows and across the columns; None where not known.
    """

    case_id: str
    group: str
    image: UInt8[np.ndarray, "h w 3"]
    masks: Bool[np.ndarray, "n h w"]
    phrases: tuple[str, ...]
    lot: int = 0
    fov: Bool[np.ndarray, "h w"] | None = None
    second: Bool[np.ndarray, "h w"] | None = None
    spacing: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Everything one forward pass needs, as tensors.

    Attributes:
        case_ids: Name of each image.
        sizes: Own height and width of each image in pixels.
        input_ids: One conversation a row, prompt and answer, padded on the right. An image has one
            conversation with a turn a phrase, or one a phrase; their `[SEG]` are in the masks'
            order.
        attention_mask: 1 where a token is real.
        labels: Token to predict *at* each position, -100 where nothing is learnt (not shifted).
        mllm_pixels: Normalised tiles for the language-vision model, or flat patches where its
            family takes an image at its own shape; all conversations' in order.
        mllm_grid: Of flat patches: frames, rows and columns of each conversation's image.
        sam_pixels: Normalised squares for SAM 2.
        image_index: The image each mask belongs to.
        targets: One a mask: its truth in [0, 1], at the image's own size or on a coarser grid as
            area shares.
        boxes: Where each image lies in SAM 2's square, whose rest is empty; none where the images
            fill it. A coarse target is then that of the box's cells alone.
    """

    case_ids: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    input_ids: Int[Tensor, "s t"]
    attention_mask: Int[Tensor, "s t"]
    labels: Int[Tensor, "s t"]
    mllm_pixels: Float[Tensor, "p ..."]
    sam_pixels: Float[Tensor, "b 3 side side"]
    image_index: Int[Tensor, " n"]
    targets: tuple[Float[Tensor, "_ _"], ...] = ()
    mllm_grid: Int[Tensor, "s 3"] | None = None
    boxes: tuple[Box, ...] = ()

    @property
    def num_images(self) -> int:
        """Number of images."""
        return len(self.case_ids)

    @property
    def num_masks(self) -> int:
        """Number of masks over all images."""
        return len(self.image_index)

    @property
    def num_supervised(self) -> int:
        """Number of answer tokens that carry a text loss (position 0 predicts nothing)."""
        return int((self.labels[:, 1:] != -100).sum())

    def to(self, device: torch.device | str) -> "Batch":
        """Return the batch with every tensor on `device`."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """Return the batch in memory that a GPU copies from without waiting (torch's name)."""
        return self._each(lambda tensor: tensor.pin_memory())

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        def changed(value: Any) -> Any:
            if isinstance(value, Tensor):
                return change(value)
            if isinstance(value, tuple):
                return tuple(changed(item) for item in value)
            return value

        return replace(self, **{f.name: changed(getattr(self, f.name)) for f in fields(self)})


@dataclass(frozen=True, kw_only=True)
class Output:
    """What a forward pass returns.

    Attributes:
        mask_logits: Chosen mask of each `[SEG]`, on the decoder's own grid.
        candidate_logits: All of SAM 2's candidates, of which the chosen one has the highest
            predicted IoU.
        iou_scores: Predicted IoU of each candidate.
        text_logits: Scores over the vocabulary at each supervised position, in reading order.
        text_labels: Token to predict at each of them.
    """

    mask_logits: Float[Tensor, "n r r"]
    candidate_logits: Float[Tensor, "n m r r"]
    iou_scores: Float[Tensor, "n m"]
    text_logits: Float[Tensor, "k v"]
    text_labels: Int[Tensor, " k"]


@dataclass(frozen=True, kw_only=True)
class LossTerms:
    """Loss parts as sums and counts, so that batches of different sizes add up exactly.

    Attributes:
        sums: Each part summed over what it counts.
        counts: How many masks or tokens each sum runs over.
        weights: Weight of each part in the total.
        dice: Hard Dice of the chosen masks, summed over them; watched, not learnt.
        num_masks: Masks that sum runs over.
    """

    sums: Mapping[str, Tensor]
    counts: Mapping[str, int]
    weights: Mapping[str, float]
    dice: float = 0.0
    num_masks: int = 0

    def total(self, counts: Mapping[str, int] | None = None) -> Float[Tensor, ""]:
        """Return the weighted sum of the parts' means.

        Args:
            counts: Denominators to use instead of the own ones: those of a whole accumulated step.
        """
        counts = self.counts if counts is None else counts
        parts = [
            self.weights[name] * part / max(counts[name], 1) for name, part in self.sums.items()
        ]
        return torch.stack(parts).sum()


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The answer to one phrase on one image.

    Attributes:
        text: What the model said.
        seg_found: Whether it said `[SEG]`; without it the mask is empty.
        prob: Probability of each pixel, in [0, 1].
        mask: True where the probability is above the threshold.
    """

    text: str
    seg_found: bool
    prob: Float[np.ndarray, "h w"]
    mask: Bool[np.ndarray, "h w"]
