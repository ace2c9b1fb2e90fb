"""Sa2VA: a language-vision model whose `[SEG]` token prompts SAM 2.

    tokens and tiles -> mllm -> state at [SEG] -> projector -> third prompt token of SAM 2 -> mask
    logits

`forward` is one teacher-forced pass with a gradient from every mask back to every weight on that
path. `generate` decodes an answer without a graph and then runs the *same* forward pass over it: a
mask in use is computed by the lines that training went through, and a `[SEG]` at the very end of an
answer still has its state.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from vasculora.core.io import write_bytes, write_json
from vasculora.core.runtime import pick_device, pick_dtype
from vasculora.core.types import Batch, Output
from vasculora.model.base import (
    CONFIG_NAME,
    MODEL_TYPE,
    Base,
    blaming_config,
    find_folder,
    read_base,
)
from vasculora.model.decoding import Stop, decode_greedily
from vasculora.model.grounding import best_candidate, build_grounding, decode_masks, encode_image
from vasculora.model.images import Numerics, Picture
from vasculora.model.memory import Memory, write_memory
from vasculora.model.mllm import build_mllm, find_family, token_states
from vasculora.model.modes import in_mode
from vasculora.model.official.config import Sam2Geometry, official_config
from vasculora.model.official.predict_forward import Answer, predict_forward
from vasculora.model.processor import Processor
from vasculora.model.weights.files import find_weights
from vasculora.model.weights.placing import place, weightless

WEIGHTS_NAME = "model.safetensors"


class Sa2VA(nn.Module):
    """A language-vision model, a projector and SAM 2, joined at the `[SEG]` token.

    Args:
        family: Name of the language-vision model's family.
        mllm: Its configuration, as transformers writes it.
        grounding: SAM 2's configuration, as transformers writes it.
        seg_token_id: Id of `[SEG]`.

    Attributes:
        processor: The checkpoint's own door, where it was loaded from one.
    """

    def __init__(
        self, *, family: str, mllm: dict[str, Any], grounding: dict[str, Any], seg_token_id: int
    ) -> None:
        super().__init__()
        self.settings = {
            "model_type": MODEL_TYPE,
            "family": family,
            "mllm": mllm,
            "grounding": grounding,
            "seg_token_id": seg_token_id,
        }
        self.name_or_path = ""  # peft writes it into an adapter's configuration
        self.processor: Processor | None = None
        self.family = find_family(family)
        self.seg_token_id = seg_token_id
        self.mllm = build_mllm(family, mllm)
        self.grounding = build_grounding(grounding)
        d = self.mllm.config.get_text_config().hidden_size
        self.seg_projector = nn.Sequential(
            nn.Linear(d, d), nn.ReLU(), nn.Linear(d, self.grounding.hidden_dim)
        )

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.seg_projector.parameters()).device

    @property
    def sam_size(self) -> int:
        """Side of SAM 2's square input in pixels."""
        return int(self.grounding.prompt_encoder.input_image_size)

    def forward(self, batch: Batch) -> Output:
        """Return the mask of every `[SEG]` and the text scores of every answer token, with a graph.

        Raises:
            ValueError: If the tokens hold another number of `[SEG]` than the batch holds masks.
        """
        seg_states, text_states = token_states(self.mllm, self.family, batch)
        is_seg = batch.labels == self.seg_token_id  # one that is quoted in a question is no answer
        num_seg = int(is_seg.sum())
        if num_seg != batch.num_masks:
            raise ValueError(
                f"expected one [SEG] a mask in {', '.join(batch.case_ids)}, got {num_seg} [SEG] "
                f"for {batch.num_masks} masks. Let prompt.answer hold [SEG] once."
            )
        prompt_embedding = self.seg_projector(seg_states[is_seg])
        features = encode_image(self.grounding, batch.sam_pixels)
        masks, iou_scores = decode_masks(
            self.grounding, features, batch.image_index, prompt_embedding
        )
        supervised = batch.labels[:, 1:] != -100
        return Output(
            mask_logits=best_candidate(masks, iou_scores),
            candidate_logits=masks,
            iou_scores=iou_scores,
            text_logits=self.mllm.lm_head(text_states[:, :-1][supervised]),
            text_labels=batch.labels[:, 1:][supervised],
        )

    @torch.no_grad()
    def generate(
        self, prompts: Batch, *, max_new_tokens: int, stop: Stop
    ) -> tuple[list[list[int]], Output, Tensor]:
        """Return each image's answer, the masks of all answers, and the image each mask belongs to.

        Args:
            prompts: A batch without answers.
            max_new_tokens: Longest answer in tokens.
            stop: Where an answer ends.
        """
        answers = self.answer(prompts, max_new_tokens=max_new_tokens, stop=stop)
        batch = self.answered(prompts, answers, stop.pad_id)
        return [answer.tolist() for answer in answers], self(batch), batch.image_index

    def answer(self, prompts: Batch, *, max_new_tokens: int, stop: Stop) -> list[Tensor]:
        """Return the tokens of each prompt's answer, decoded greedily, without graph or dropout."""
        with in_mode(self, training=False):
            return decode_greedily(self.mllm, prompts, max_new_tokens=max_new_tokens, stop=stop)

    def answered(self, prompts: Batch, answers: list[Tensor], pad_id: int) -> Batch:
        """Return the batch that holds each prompt followed by its answer."""
        lengths = prompts.attention_mask.sum(dim=1).tolist()
        asked = [ids[:length] for ids, length in zip(prompts.input_ids, lengths, strict=True)]
        rows = [torch.cat(pair) for pair in zip(asked, answers, strict=True)]
        labels = [
            torch.cat([torch.full_like(ids, -100), answer])
            for ids, answer in zip(asked, answers, strict=True)
        ]
        ones = [torch.ones_like(row) for row in rows]
        pad = nn.utils.rnn.pad_sequence
        padded = pad(labels, batch_first=True, padding_value=-100)
        return replace(
            prompts,
            input_ids=pad(rows, batch_first=True, padding_value=pad_id),
            attention_mask=pad(ones, batch_first=True),
            labels=padded,
            image_index=(padded == self.seg_token_id).nonzero()[:, 0],
        )

    def predict_forward(
        self,
        image: Picture | None = None,
        video: object = None,
        text: str | None = None,
        past_text: str = "",
        mask_prompts: object = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        processor: object = None,
        return_tensors: bool = False,
    ) -> Answer:
        """Return what the model says of an image, and a mask and a probability map a `[SEG]`.

        The official method, under which scripts for it run unchanged. With `return_tensors` and
        gradients enabled, the maps carry a graph back to every weight on their path, the language
        model's LoRA included: the answer is decoded without a graph, then read once more.

        Args:
            image: PIL image, path or uint8 array; None to talk without one.
            video: Not supported yet.
            text: What is asked; `<image>` stands for the image.
            past_text: Earlier turns as they were formatted, image tokens included.
            mask_prompts: Not supported yet.
            tokenizer: Instead of the checkpoint's own.
            processor: Official scripts for Qwen models pass one; its tokenizer is used, while
                images go through the checkpoint's own sizes, as in the official model.
            return_tensors: Leave the maps tensors instead of arrays.

        Returns:
            `prediction` (text), `prediction_masks` (boolean arrays) and `probability_maps` (in
            [0, 1], float32), each map (1, h, w) at the image's own size.

        Raises:
            ValueError: If the arguments do not go together, or the model was not loaded from a
                checkpoint.
        """
        return predict_forward(
            self,
            self._door(tokenizer or getattr(processor, "tokenizer", None)),
            image=image,
            video=video,
            text=text,
            past_text=past_text,
            mask_prompts=mask_prompts,
            return_tensors=return_tensors,
        )

    def _door(self, tokenizer: PreTrainedTokenizerBase | None) -> Processor:
        if self.processor is None:
            raise ValueError(
                "this model was built in memory and has no tokenizer. Load it with "
                "Sa2VA.from_pretrained."
            )
        if tokenizer is None:
            return self.processor
        return Processor(tokenizer, self.processor.config, self.processor.prompt)

    def save_pretrained(self, path: Path, *, dtype: torch.dtype) -> None:
        """Write the model below `path` as a base, with its door if it has one, in `dtype`."""
        if self.processor is not None:
            self.processor.tokenizer.save_pretrained(path)
            memory = Memory(processor=self.processor.config, prompt=self.processor.prompt)
            write_memory(path, memory)
        write_json(path / CONFIG_NAME, self.settings)
        state = {k: v.detach().to("cpu", dtype).clone() for k, v in self.state_dict().items()}
        write_bytes(path / WEIGHTS_NAME, save(state, metadata={"format": "pt"}))

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        sam2: Sam2Geometry | dict[str, Any] | None = None,
        numerics: Numerics | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        min_pixels: int | None = None,
        max_pixels: int | None = None,
    ) -> "Sa2VA":
        """Return the model kept in a folder, in evaluation mode; no code in it is ever run.

        Args:
            path: A base of ours, an official Sa2VA checkpoint, or `hf://ORG/NAME`, which downloads
                one.
            sam2: SAM 2's sizes in an official checkpoint that has not the official Hiera-large.
            numerics: SAM 2's normalisation: `official` (bfloat16 constants, what an official
                checkpoint predicts with unless told otherwise) or `float32` (exact ones, what it
                was trained with).
            dtype: Number format of the weights; None takes bfloat16 on a GPU, float32 on the CPU.
            device: Where to put them; None takes the first GPU, or the CPU.
            min_pixels: Smallest area of an image for a Qwen model; None takes the official one.
            max_pixels: Largest area likewise.

        Raises:
            FileNotFoundError: If the folder or a file of it is not there.
            ValueError: If files are damaged, do not belong together, or are of another model.
        """
        official = official_config(sam2=sam2, min_pixels=min_pixels, max_pixels=max_pixels)
        base = read_base(find_folder(path), official)
        where = pick_device() if device is None else torch.device(device)
        model = cls.of(base, dtype=pick_dtype(where) if dtype is None else dtype, device=where)
        if numerics is not None:
            config = base.processor.config.model_copy(update={"numerics": numerics})
            model.processor = Processor(base.processor.tokenizer, config, base.processor.prompt)
        return model

    @classmethod
    def of(cls, base: Base, *, dtype: torch.dtype, device: torch.device) -> "Sa2VA":
        """Return the model of a base, in evaluation mode.

        Args:
            base: What its folder holds.
            dtype: Number format of the weights.
            device: Where to put them.

        Raises:
            FileNotFoundError: If weights are missing.
            ValueError: If they are damaged or do not fit.
        """
        found = find_weights(base.folder)
        with blaming_config(base.folder), weightless():
            model = cls(**base.settings)
        place(
            model,
            found,
            base.origins(model.state_dict(), found),
            dtype=dtype,
            device=device,
        )
        model.processor = base.processor
        model.name_or_path = str(base.folder)
        return model.eval()
