"""How far our model is from the official one, quantity by quantity, on tiny official checkpoints.

    python -m tests.model.official.parity SHARED > docs/parity.md

Everything is measured from outside: `Sa2VA.from_pretrained`, `predict_forward` and `forward`, with
hooks on the modules they run. The references were written by the official code (see the README
beside them).
"""

import json
import platform
import sys
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file

from vasculora.core.geometry import upsample_logits
from vasculora.model.base import read_base
from vasculora.model.images import to_rgb
from vasculora.model.official.config import OfficialConfig
from vasculora.model.sa2va import Sa2VA
from vasculora.model.weights.files import find_weights

FOLDERS = ("internvl_qwen2", "internvl_internlm2", "qwen2_5_vl", "qwen3_vl")
FORWARD, GRADIENT = 1e-4, 1e-4
"""Largest difference of a forward quantity, and of a gradient as a share of its largest entry."""


class Golden:
    """One folder of references."""

    def __init__(self, shared: Path, name: str) -> None:
        self.name = name
        self.folder = shared / "golden" / name
        self.meta = json.loads((self.folder / "meta.json").read_text())
        self.tensors = load_file(self.folder / "golden.safetensors")
        self.grad = load_file(self.folder / "golden_grad.safetensors")
        self.checkpoint = self.folder / "checkpoint"
        self.loading = {"sam2": self.meta["sam"]}
        self.loading |= {k: self.meta[k] for k in ("min_pixels", "max_pixels") if k in self.meta}
        self.image = Image.open(self.folder / "inputs" / "image.png")

    def open(self, **settings) -> Sa2VA:
        return Sa2VA.from_pretrained(self.checkpoint, **(self.loading | settings))

    def origins(self, model: Sa2VA):
        base = read_base(self.checkpoint, OfficialConfig.model_validate(self.loading))
        stored = find_weights(self.checkpoint)
        return base.origins(model.state_dict(), stored)

    def text(self, case: str) -> str:
        return self.meta["cases"][case]["text"]


@contextmanager
def recording(model: Sa2VA):
    """Keep what passes between the model's parts, the latest of each."""
    seen: dict[str, torch.Tensor] = {}
    hooks = [
        module.register_forward_hook(
            lambda _, inputs, output, name=name, pick=pick: seen.update({name: pick(output)})
        )
        for name, (module, pick) in outputs_of(model).items()
    ]
    hooks += [
        module.register_forward_pre_hook(
            lambda _, args, kwargs, name=name, pick=pick: seen.update({name: pick(args, kwargs)}),
            with_kwargs=True,
        )
        for name, (module, pick) in inputs_of(model).items()
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def outputs_of(model: Sa2VA):
    """Return which module's output each quantity is, and what of it."""
    mllm, sam = model.mllm.model, model.grounding

    def whole(output):
        return output

    found = {
        "seg_embeddings": (model.seg_projector, whole),
        "sam.fpn0.0": (sam.mask_decoder.conv_s0, whole),
        "sam.fpn1.0": (sam.mask_decoder.conv_s1, whole),
        "decoded": (sam.mask_decoder, whole),
    }
    if model.family.image_first:
        found["vit_embeds"] = (mllm.visual, lambda output: output.pooler_output)
        for index, merger in enumerate(getattr(mllm.visual, "deepstack_merger_list", ())):
            found[f"deepstack.{index}"] = (merger, whole)
    else:
        found["vit_last_hidden_state"] = (mllm.vision_tower, lambda out: out.last_hidden_state)
        found["vit_embeds"] = (mllm.multi_modal_projector, whole)
    if not model.family.state_before_norm:
        found["llm_states"] = (mllm.language_model.norm, whole)
    return found


def inputs_of(model: Sa2VA):
    """Return which module's input each quantity is, and which of them."""
    words, decoder = model.mllm.model.language_model, model.grounding.mask_decoder
    found = {
        "inputs_embeds": (words, lambda _, named: named["inputs_embeds"]),
        "seg_hidden_states": (model.seg_projector, lambda given, _: given[0]),
        "sam.pix_feat_with_mem": (decoder, lambda _, named: named["image_embeddings"]),
        "sam.sparse": (decoder, lambda _, named: named["sparse_prompt_embeddings"]),
        "sam.dense": (decoder, lambda _, named: named["dense_prompt_embeddings"]),
    }
    if model.family.state_before_norm:
        found["llm_states"] = (words.norm, lambda given, _: given[0])
    return found


def apart(ours, reference) -> float:
    assert tuple(ours.shape) == tuple(reference.shape), (ours.shape, reference.shape)
    return float((ours.detach().double() - reference.double()).abs().max())


def forward_differences(golden: Golden, model: Sa2VA) -> dict[str, float]:
    """Return the largest absolute difference of every forward quantity of the image's case."""
    own, result = golden.tensors, {}
    with recording(model) as seen, torch.no_grad():
        answer = model.predict_forward(golden.image, text=golden.text("image"), return_tensors=True)
    length = own["image/input_ids"].shape[1]
    seen["inputs_embeds"] = seen["inputs_embeds"][:, :length]
    # our pass reads the answer's last token as well, of which the official one has no state
    seen["llm_last_hidden_states"] = seen["llm_states"][0, :-1]
    masks, ious, _, scores = seen["decoded"]
    chosen = masks[:, 0][torch.arange(2), ious[:, 0].argmax(dim=1)]
    sam = model.grounding
    seen["sam.fpn2.0"] = seen["sam.pix_feat_with_mem"][:1] - sam.no_memory_embedding.view(
        1, -1, 1, 1
    )
    seen["sam.sparse.0"] = seen["sam.sparse"][:1, 0, :2]
    seen["sam.dense.0"] = seen["sam.dense"][:1, :, :1, :1]
    side, size = model.sam_size, golden.image.size[::-1]
    seen["masks_sam_res.0"] = upsample_logits(chosen[:1], via=side, size=(side, side))[None]
    for k in range(2):
        seen[f"sam.language_embd.{k}"] = seen["seg_embeddings"][k : k + 1, None]
        seen[f"sam.pix_feat_with_mem.{k}"] = seen["sam.pix_feat_with_mem"][k : k + 1]
        seen[f"sam.low_res_multimasks.{k}"] = masks[k]
        seen[f"sam.ious.{k}"] = ious[k]
        seen[f"sam.object_score_logits.{k}"] = scores[k]
        seen[f"sam.low_res_masks.{k}"] = chosen[k : k + 1, None]
        seen[f"mask_logits.{k}"] = upsample_logits(chosen[k : k + 1], via=side, size=size)
    seen["prob.0"] = answer["probability_maps"][0]
    seen["pixel_values"] = model.processor.chat(
        golden.text("image"), to_rgb(golden.image), past=""
    ).mllm_pixels
    for name, value in seen.items():
        if f"image/{name}" in own:
            label = name.removesuffix(".0").removesuffix(".1")
            result[label] = max(result.get(label, 0.0), apart(value, own[f"image/{name}"]))
    return result


def exact_differences(golden: Golden, model: Sa2VA) -> dict[str, int]:
    """Return how many ids, mask pixels and letters of an answer differ."""
    own, result = golden.tensors, {}
    for case in ("image", "text"):
        picture = golden.image if case == "image" else None
        pixels = None if picture is None else to_rgb(picture)
        prompts = model.processor.chat(golden.text(case), pixels, past="")
        result[f"{case}: prompt ids"] = _unequal(prompts.input_ids, own[f"{case}/input_ids"])
        stop = model.processor.stop
        (said,) = model.answer(prompts, max_new_tokens=64, stop=stop)
        result[f"{case}: generated ids"] = _unequal(said, own[f"{case}/generated_ids"])
        answer = model.predict_forward(picture, text=golden.text(case))
        expected = golden.meta["cases"][case]["prediction"]
        same = answer["prediction"].replace(" ", "") == expected.replace(" ", "")
        result[f"{case}: answer without blanks"] = int(not same)
    for k, mask in enumerate(
        model.predict_forward(golden.image, text=golden.text("image"))["prediction_masks"]
    ):
        result[f"image: pixels of mask {k}"] = int(
            (torch.from_numpy(mask) != own[f"image/mask.{k}"].bool()).sum()
        )
    return result


def gradient_differences(golden: Golden, model: Sa2VA) -> dict[str, float]:
    """Return the largest difference of each gradient, as a share of its largest entry."""
    answer = golden.tensors["image/generated_ids"]
    prompts = model.processor.chat(golden.text("image"), to_rgb(golden.image), past="")
    batch = model.answered(prompts, [answer], model.processor.stop.pad_id)
    assert torch.equal(batch.input_ids, golden.grad["full_input_ids"])
    assert torch.equal(batch.labels, golden.grad["labels"])
    model.zero_grad()
    output = model(batch)
    logits = upsample_logits(output.mask_logits, via=model.sam_size, size=golden.image.size[::-1])
    truth = golden.grad["gt_masks"]
    loss = F.binary_cross_entropy_with_logits(logits, truth)
    loss.backward()
    text = F.cross_entropy(output.text_logits, output.text_labels)
    result = {
        "loss": apart(loss, golden.grad["loss"]),
        "text loss": apart(text, golden.grad["llm_loss"]),
    }
    return result | named_gradients(golden, model, golden.grad)


def named_gradients(golden: Golden, model: Sa2VA, reference) -> dict[str, float]:
    """Return how far each of our gradients is from the official one it is cut from."""
    result, left = {}, {name for name in reference if name.startswith("grad:")}
    params = dict(model.named_parameters())
    for ours, origin in golden.origins(model).items():
        names = [f"grad:{name}" for name in origin.names]
        if ours in params and all(name in reference for name in names):
            expected = origin.take([reference[name] for name in names])
            label = names[0].removeprefix("grad:").replace("grounding_encoder.sam2_model.", "sam2.")
            size = float(expected.abs().max())
            share = apart(params[ours].grad, expected) / size
            result[label] = max(result.get(label, 0.0), share)
            left -= set(names)
    assert not left, left
    return result


def _unequal(ours, reference) -> int:
    if ours.numel() != reference.numel():
        return max(ours.numel(), reference.numel())
    return int((ours.flatten() != reference.flatten()).sum())


def write_page(shared: Path) -> str:
    """Return the page of all differences."""
    names = ("torch", "transformers")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in names)
    lines = [
        "# Parity with the official model",
        "",
        "Largest differences from what the official code computed on four tiny checkpoints of its",
        "own format, in float32, through `Sa2VA.from_pretrained`, `predict_forward` and `forward`.",
        "Made by `python -m tests.model.official.parity SHARED`, on "
        f"{platform.machine()} CPU, Python {platform.python_version()}, {versions}.",
        "",
    ]
    tables = {"Counts of what differs (ids, pixels, answers)": {}, "Forward (absolute)": {}}
    tables["Gradients (share of the largest entry; losses absolute)"] = {}
    for name in FOLDERS:
        golden = Golden(shared, name)
        model = golden.open()
        measured = (
            exact_differences(golden, model),
            forward_differences(golden, model),
            gradient_differences(golden, model),
        )
        for table, values in zip(tables.values(), measured, strict=True):
            for quantity, value in values.items():
                table.setdefault(quantity, {})[name] = value
    for title, table in tables.items():
        lines += [f"## {title}", "", f"| quantity | {' | '.join(FOLDERS)} |"]
        lines += [f"|{' --- |' * (len(FOLDERS) + 1)}"]
        for quantity, values in table.items():
            cells = [f"{values[n]:.1g}" if n in values else "" for n in FOLDERS]
            lines.append(f"| {quantity} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    torch.manual_seed(0)
    sys.stdout.write(write_page(Path(sys.argv[1])))
