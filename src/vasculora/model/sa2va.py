"""Sa2VA: a language-vision model whose `[SEG]` token prompts SAM 2.

    tokens and tiles -> mllm -> state at [SEG] -> projector -> third prompt token of SAM 2 -> mask
    logits

`forward` is one teacher-forced pass with a gradient from every mask back to every weight on that
path. `generate` decodes an answer without a graph and then runs the *same* forward pass over it: a
mask in use is computed by the lines that training went through, and a `[SEG]` at the very end of an
answer still has its state.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from vasculora.core.io import write_bytes, write_json
from vasculora.core.types import Batch, Output
from vasculora.model.grounding import best_candidate, build_grounding, decode_masks, encode_image
from vasculora.model.mllm import build_mllm, decode_greedily, find_family, token_states

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
MODEL_TYPE = "vasculora_sa2va"
_SETTINGS = ("family", "mllm", "grounding", "seg_token_id")


class Sa2VA(nn.Module):
    """A language-vision model, a projector and SAM 2, joined at the `[SEG]` token.

    Args:
        family: Name of the language-vision model's family.
        mllm: Its configuration, as transformers writes it.
        grounding: SAM 2's configuration, as transformers writes it.
        seg_token_id: Id of `[SEG]`.
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
        is_seg = batch.input_ids == self.seg_token_id
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
        self, prompts: Batch, *, max_new_tokens: int, stop_id: int, pad_id: int
    ) -> tuple[list[list[int]], Output, Tensor]:
        """Return each image's answer, the masks of all answers, and the image each mask belongs to.

        Args:
            prompts: A batch without answers.
            max_new_tokens: Longest answer in tokens.
            stop_id: Token that ends an answer.
            pad_id: Token to pad with.
        """
        answers = decode_greedily(
            self.mllm, prompts, max_new_tokens=max_new_tokens, stop_id=stop_id, pad_id=pad_id
        )
        batch = self._answered(prompts, answers, pad_id)
        return [answer.tolist() for answer in answers], self(batch), batch.image_index

    def _answered(self, prompts: Batch, answers: list[Tensor], pad_id: int) -> Batch:
        """Return the batch that holds each prompt followed by its answer."""
        lengths = prompts.attention_mask.sum(dim=1).tolist()
        rows = [
            torch.cat([ids[:length], answer])
            for ids, length, answer in zip(prompts.input_ids, lengths, answers, strict=True)
        ]
        input_ids = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad_id)
        ones = [torch.ones_like(row) for row in rows]
        is_seg = input_ids == self.seg_token_id
        return replace(
            prompts,
            input_ids=input_ids,
            attention_mask=nn.utils.rnn.pad_sequence(ones, batch_first=True),
            labels=torch.full_like(input_ids, -100),
            image_index=is_seg.nonzero()[:, 0],
        )

    def save_pretrained(self, path: Path, *, dtype: torch.dtype) -> None:
        """Write configuration and weights below `path`, the weights in `dtype`."""
        write_json(path / CONFIG_NAME, self.settings)
        state = {k: v.detach().to("cpu", dtype).clone() for k, v in self.state_dict().items()}
        write_bytes(path / WEIGHTS_NAME, save(state, metadata={"format": "pt"}))

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> "Sa2VA":
        """Return the model kept in a folder, in evaluation mode.

        Args:
            path: A folder that `save_pretrained` wrote.
            dtype: Number format of the weights in memory.
            device: Where to put them.

        Raises:
            FileNotFoundError: If the folder holds no model.
            ValueError: If its files are damaged or do not belong together.
        """
        path = Path(path)
        settings = read_model_config(path)
        model = cls(**{name: settings[name] for name in _SETTINGS})
        try:
            state = load_file(path / WEIGHTS_NAME)
        except (OSError, SafetensorError) as cause:
            raise ValueError(
                f"{path / WEIGHTS_NAME}: expected a safetensors file, but it cannot be read "
                f"({cause}). Copy the base again."
            ) from cause
        if faults := _unfit(model.state_dict(), state):
            raise ValueError(
                f"{path / WEIGHTS_NAME}: its tensors do not belong to {path / CONFIG_NAME}: "
                f"{faults}. Copy both files again."
            )
        model.load_state_dict(state)
        model.name_or_path = str(path)
        return model.to(device=device, dtype=dtype).eval()


def read_model_config(path: Path) -> dict[str, Any]:
    """Return the settings in a base's `config.json`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not one of ours.
    """
    config_path = path / CONFIG_NAME
    if not config_path.is_file():
        raise FileNotFoundError(
            f"{path}: expected a base model (with {CONFIG_NAME}) or a run folder (with adapter/), "
            "found neither. Give `nano`, a base's folder or a run's folder."
        )
    try:
        settings = json.loads(config_path.read_text())
    except ValueError as cause:
        raise ValueError(
            f"{config_path}: not valid JSON ({cause}). Copy the base again."
        ) from cause
    found = settings.get("model_type") if isinstance(settings, dict) else None
    if found != MODEL_TYPE:
        raise ValueError(
            f"{config_path}: expected model_type {MODEL_TYPE!r}, got {found!r}. "
            "Only bases that `vasculora pretrain` wrote can be loaded so far."
        )
    if absent := [name for name in _SETTINGS if name not in settings]:
        raise ValueError(
            f"{config_path}: the settings {', '.join(absent)} are missing. Copy the base again."
        )
    return dict(settings)


def _unfit(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """Return in what found tensors differ from the wanted ones, by name and shape, or nothing."""
    shapes = [n for n in wanted.keys() & found.keys() if wanted[n].shape != found[n].shape]
    kinds = {
        "missing": wanted.keys() - found.keys(),
        "unexpected": found.keys() - wanted.keys(),
        "of another shape": shapes,
    }
    return ", ".join(f"{kind}: {sorted(names)[:3]}" for kind, names in kinds.items() if names)
