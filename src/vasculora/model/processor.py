"""One door both ways: samples become a batch here, and a model's output becomes predictions.

Training and prediction go through the same lines, so tiles, fit, normalisation, prompt and
threshold cannot differ between them. Everything that must be remembered for that is in
ProcessorConfig and PromptConfig; so is the side of the windows into which large images are cut
before they come here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerFast

from vasculora.core.geometry import (
    Box,
    Fit,
    TargetRule,
    area_shares,
    in_cells,
    letterbox,
    nearest_pixels,
    upsample_logits,
)
from vasculora.core.types import Batch, Output, Prediction, Sample
from vasculora.model.decoding import Stop
from vasculora.model.images import MllmImage, Numerics, PatchConfig, Patcher, Tiler, sam_square
from vasculora.model.mllm import find_family
from vasculora.model.prompts import SEG_TOKEN, TEMPLATES, PromptConfig, build_chat, build_turns

IGNORED = -100
"""Label of a token that carries no text loss."""


class ProcessorConfig(BaseModel):
    """How pictures and words become tensors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: str = "internvl"
    """Family of the language-vision model."""
    tile_size: int = Field(default=448, ge=8)
    """Side of a tile for the language-vision model, in pixels."""
    tile_tokens: int = Field(default=256, ge=1)
    """Tokens that one tile becomes."""
    max_tiles: int = Field(default=12, ge=1)
    """Most tiles an image is cut into, beside its thumbnail."""
    patches: PatchConfig | None = None
    """Patches instead of tiles, for families that take an image at its own shape."""
    sam_size: int = Field(default=1024, ge=32)
    """Side of SAM 2's square input, in pixels."""
    mask_size: int = Field(default=256, ge=8)
    """Side of the mask decoder's grid, in cells."""
    fit: Fit = "squash"
    """How an image becomes SAM 2's square: `squash` pulls it to a square (official), `letterbox`
    keeps its shape and leaves two borders empty. The language-vision model's tiles are not
    touched."""
    window: int | None = Field(default=None, ge=1)
    """Side in pixels of the square windows into which a larger image is cut, each shown alone; None
    shows the whole image."""
    window_overlap: float = Field(default=0.25, ge=0, le=0.75)
    """Share of a window that at least lies in the next one too, in prediction."""
    numerics: Numerics = "float32"
    """SAM 2's normalisation: exact constants (`float32`, as in the official training) or rounded to
    bfloat16 (`official`, as in the official prediction)."""
    turns: Literal["joined", "separate"] = "joined"
    """Phrases of one image: turns of one conversation (official; its tokens are paid once), or a
    conversation each (as in use)."""
    target: TargetRule = "full"
    """Truth for the loss: `full` at the image's own size; on the decoder's grid (less memory) as
    `area` shares, or as the official training has it, `nearest`."""
    max_length: int = Field(default=8192, ge=16)
    """Longest text in tokens; a longer one is refused, since cutting it would lose its `[SEG]`."""
    max_new_tokens: int = Field(default=64, ge=1)
    """Longest answer in tokens."""
    threshold: float = Field(default=0.5, gt=0, lt=1)
    """Probability above which a pixel belongs to the mask."""


@dataclass(frozen=True)
class _Conversation:
    """What is asked of one image: its index, phrases in order, and the lot of their questions."""

    image: int
    phrases: tuple[str, ...]
    lot: int | None


class Processor:
    """Turns samples into batches and outputs into predictions.

    Args:
        tokenizer: The checkpoint's own.
        config: How pictures become tensors.
        prompt: The words around a phrase.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, config: ProcessorConfig, prompt: PromptConfig
    ) -> None:
        self.tokenizer = tokenizer
        self.config = config
        self.prompt = prompt
        self._family = find_family(config.family)
        self._images = (
            Patcher(config.patches)
            if config.patches
            else Tiler(
                tile_size=config.tile_size,
                tile_tokens=config.tile_tokens,
                max_tiles=config.max_tiles,
            )
        )
        self._opening = tokenizer.encode("")  # what stands before every text: InternLM2's <s>
        self.seg_id = self._token_id(SEG_TOKEN)
        self.image_id = self._token_id(self._family.image_token)
        eos_id, pad_id = tokenizer.eos_token_id, tokenizer.pad_token_id
        self.stop = Stop(
            ids=(eos_id,),
            words=TEMPLATES[prompt.template].stop_words,
            pad_id=eos_id if pad_id is None else pad_id,
            tokenizer=tokenizer,
        )

    def batch(self, samples: Sequence[Sample]) -> Batch:
        """Return samples with their questions, answers and targets, ready for training.

        Raises:
            ValueError: If a conversation is longer than `max_length` tokens.
        """
        counts = torch.tensor([len(sample.phrases) for sample in samples])
        return self._assemble(
            case_ids=[sample.case_id for sample in samples],
            images=[sample.image for sample in samples],
            conversations=[
                conversation
                for index, sample in enumerate(samples)
                for conversation in self._conversations(index, sample)
            ],
            answered=True,
            image_index=torch.repeat_interleave(torch.arange(len(samples)), counts),
            targets=tuple(self._target(mask) for sample in samples for mask in sample.masks),
        )

    def prompts(
        self,
        case_ids: Sequence[str],
        images: Sequence[UInt8[np.ndarray, "_ _ 3"]],
        phrases: Sequence[str],
    ) -> Batch:
        """Return questions without answers, one phrase an image, ready for `generate`."""
        return self._assemble(
            case_ids=case_ids,
            images=images,
            conversations=_one_each(phrases),
            answered=False,
            image_index=torch.zeros(0, dtype=torch.long),
            targets=(),
        )

    def answered(
        self,
        case_ids: Sequence[str],
        images: Sequence[UInt8[np.ndarray, "_ _ 3"]],
        phrases: Sequence[str],
    ) -> Batch:
        """Return the same questions with the answers that are trained on, without targets."""
        return self._assemble(
            case_ids=case_ids,
            images=images,
            conversations=_one_each(phrases),
            answered=True,
            image_index=torch.arange(len(images)),
            targets=(),
        )

    def chat(self, text: str, image: UInt8[np.ndarray, "h w 3"] | None, *, past: str) -> Batch:
        """Return one prompt made of a user's own whole text, with or without an image.

        Args:
            text: What is asked; `<image>` stands for the image.
            image: RGB, 0 to 255.
            past: What was said before, formatted.

        Raises:
            ValueError: If text and past together do not place the image exactly once.
        """
        images = [] if image is None else [self._images(image)]
        prompt = build_chat(
            text,
            self.prompt,
            past=past,
            image_block=self._block(images[0]) if images else None,
            image_first=self._family.image_first,
        )
        input_ids = torch.tensor(self.tokenizer.encode(prompt))
        found, wanted = int((input_ids == self.image_id).sum()), sum(i.num_tokens for i in images)
        if found != wanted:
            raise ValueError(
                f"the prompt has places for {found} image tokens, the image has {wanted}. Put "
                "<image> into text once where an image is given (not where past_text already "
                "holds its tokens), and nowhere else."
            )
        return Batch(
            case_ids=("image",) * len(images),
            sizes=() if image is None else (_size(image),),
            input_ids=input_ids[None],
            attention_mask=torch.ones_like(input_ids)[None],
            labels=torch.full_like(input_ids, IGNORED)[None],
            mllm_pixels=torch.cat([i.pixels for i in images]) if images else torch.zeros(0, 1),
            mllm_grid=_grids(images),
            sam_pixels=self._squares([] if image is None else [image]),
            image_index=torch.zeros(0, dtype=torch.long),
            boxes=self._boxes([] if image is None else [image]),
        )

    def predictions(
        self,
        prompts: Batch,
        answers: Sequence[Sequence[int]],
        output: Output,
        image_index: Int[Tensor, " n"],
    ) -> list[Prediction]:
        """Return one prediction an image, at the image's own size.

        Several `[SEG]` in one answer are united (largest probability a pixel); none is an empty
        mask.

        Args:
            prompts: What was asked.
            answers: Token ids answered to each image.
            output: The masks of all answers.
            image_index: The image each mask belongs to.
        """
        predictions = []
        for index, (size, answer) in enumerate(zip(prompts.sizes, answers, strict=True)):
            own = output.mask_logits[image_index == index]
            prob = self.probability(own, size)
            predictions.append(
                Prediction(
                    text=self._said(answer),
                    seg_found=len(own) > 0,
                    prob=prob,
                    mask=prob > self.config.threshold,
                )
            )
        return predictions

    @property
    def trained_answer(self) -> str:
        """The answer that is trained on, as a prediction's text gives it."""
        answer = self.prompt.answer + TEMPLATES[self.prompt.template].suffix
        return self._said(self.tokenizer.encode(answer, add_special_tokens=False))

    def probability(
        self, mask_logits: Float[Tensor, "n r r"], size: tuple[int, int]
    ) -> Float[np.ndarray, "h w"]:
        """Return the probability of each pixel that any of one image's masks covers it."""
        if len(mask_logits) == 0:
            return np.zeros(size, dtype=np.float32)
        return self.upsample(mask_logits, size).sigmoid().amax(dim=0).cpu().numpy()

    def upsample(
        self, mask_logits: Float[Tensor, "n r r"], size: tuple[int, int]
    ) -> Float[Tensor, "n h w"]:
        """Return mask logits at an image's own size, without what lay beside the image."""
        return upsample_logits(mask_logits, via=self.config.sam_size, size=size, box=self.box(size))

    def box(self, size: tuple[int, int]) -> Box | None:
        """Return where an image lies in SAM 2's square; None where every image fills it."""
        if self.config.fit == "squash":
            return None
        return letterbox(size, side=self.config.sam_size, cells=self.config.mask_size)

    def _said(self, answer: Sequence[int]) -> str:
        """Return the text of an answer's tokens, with the marks that end it."""
        return str(self.tokenizer.decode(list(answer), skip_special_tokens=False)).strip()

    def _conversations(self, index: int, sample: Sample) -> list[_Conversation]:
        """Return what is asked of one sample: all in one conversation, or one a phrase."""
        if self.config.turns == "joined":
            return [_Conversation(index, sample.phrases, sample.lot)]
        return [
            _Conversation(index, (phrase,), sample.lot + turn)
            for turn, phrase in enumerate(sample.phrases)
        ]

    def _assemble(
        self,
        *,
        case_ids: Sequence[str],
        images: Sequence[UInt8[np.ndarray, "_ _ 3"]],
        conversations: Sequence[_Conversation],
        answered: bool,
        image_index: Int[Tensor, " n"],
        targets: tuple[Float[Tensor, "_ _"], ...],
    ) -> Batch:
        seen = [self._images(image) for image in images]
        shown = [seen[conversation.image] for conversation in conversations]
        texts = [
            self._encode(case_ids[said.image], said, seen[said.image], answered=answered)
            for said in conversations
        ]
        input_ids = [torch.tensor(ids) for ids, _ in texts]
        labels = [torch.tensor(label) for _, label in texts]
        ones = [torch.ones_like(ids) for ids in input_ids]
        return Batch(
            case_ids=tuple(case_ids),
            sizes=tuple(_size(image) for image in images),
            input_ids=pad_sequence(input_ids, batch_first=True, padding_value=self.stop.pad_id),
            attention_mask=pad_sequence(ones, batch_first=True),
            labels=pad_sequence(labels, batch_first=True, padding_value=IGNORED),
            mllm_pixels=torch.cat([image.pixels for image in shown]),
            mllm_grid=_grids(shown),
            sam_pixels=self._squares(images),
            image_index=image_index,
            targets=targets,
            boxes=self._boxes(images),
        )

    def _encode(
        self, case_id: str, said: _Conversation, image: MllmImage, *, answered: bool
    ) -> tuple[list[int], list[int]]:
        """Return one conversation's token ids and labels; only answers are learnt."""
        input_ids = list(self._opening)
        labels = [IGNORED] * len(input_ids)
        block = self._block(image)
        for turn in build_turns(said.phrases, self.prompt, image_block=block, lot=said.lot):
            prompt = self.tokenizer.encode(turn.prompt, add_special_tokens=False)
            answer = self.tokenizer.encode(turn.answer, add_special_tokens=False)
            answer = answer if answered else []
            input_ids += prompt + answer
            labels += [IGNORED] * len(prompt) + answer
        if len(input_ids) > self.config.max_length:
            raise ValueError(
                f"{case_id}: its text has {len(input_ids)} tokens, processor.max_length allows "
                f"{self.config.max_length}. Raise it, shorten the phrase or lower max_tiles."
            )
        return input_ids, labels

    def _block(self, image: MllmImage) -> str:
        """Return the text whose tokens an image's features replace."""
        family = self._family
        return family.image_open + family.image_token * image.num_tokens + family.image_close

    def _squares(
        self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]]
    ) -> Float[Tensor, "b 3 side side"]:
        side, numerics = self.config.sam_size, self.config.numerics
        if not images:
            return torch.zeros(0, 3, side, side)
        return torch.stack(
            [
                sam_square(image, side, numerics=numerics, box=self.box(_size(image)))
                for image in images
            ]
        )

    def _boxes(self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> tuple[Box, ...]:
        boxes = (self.box(_size(image)) for image in images)
        return tuple(box for box in boxes if box is not None)

    def _target(self, mask: Bool[np.ndarray, "h w"]) -> Float[Tensor, "_ _"]:
        truth = torch.from_numpy(mask).float()
        if self.config.target == "full":
            return truth
        coarse = area_shares if self.config.target == "area" else nearest_pixels
        box = self.box((mask.shape[0], mask.shape[1]))
        if box is None:
            return coarse(truth, self.config.mask_size)
        return coarse(truth, in_cells(box, self.config.sam_size // self.config.mask_size)[2:])

    def _token_id(self, token: str) -> int:
        index = self.tokenizer.convert_tokens_to_ids(token)
        if not isinstance(index, int) or index == self.tokenizer.unk_token_id:
            raise ValueError(
                f"the tokenizer does not know {token}. Use the tokenizer that came with the base."
            )
        return index


def _one_each(phrases: Sequence[str]) -> list[_Conversation]:
    """Return what is asked in use: one phrase of each image."""
    return [_Conversation(index, (phrase,), None) for index, phrase in enumerate(phrases)]


def _size(image: UInt8[np.ndarray, "h w 3"]) -> tuple[int, int]:
    return image.shape[0], image.shape[1]


def _grids(images: Sequence[MllmImage]) -> Int[Tensor, "s 3"] | None:
    grids = [image.grid for image in images if image.grid is not None]
    return torch.stack(grids) if grids else None
