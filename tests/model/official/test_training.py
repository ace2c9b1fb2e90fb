"""The official training step, and batches made as its data code makes them."""

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tests.model.official import parity
from tests.model.official.parity import Golden

from vasculora.core.types import Batch, Sample
from vasculora.losses.official import OfficialObjective
from vasculora.model.images import sam_square, to_rgb
from vasculora.model.processor import Processor
from vasculora.model.prompts import PromptConfig

NAMES = ("internvl_qwen2", "internvl_internlm2")


@pytest.fixture(scope="module", params=NAMES)
def golden(request, shared_dir):
    found = Golden(shared_dir, request.param)
    found.train = load_file(found.folder / "golden_train.safetensors")
    return found


@pytest.fixture(scope="module")
def model(golden):
    return golden.open()


def official_batch(golden) -> Batch:
    """Return the batch that the official data code made: two objects and one."""
    own = golden.train
    return Batch(
        case_ids=("image", "train_image1"),
        sizes=((160, 240), (180, 100)),
        input_ids=own["input_ids"],
        attention_mask=own["attention_mask"].long(),
        labels=own["labels"],
        mllm_pixels=torch.cat([golden.tensors["image/pixel_values"], own["pixel_values.1"]]),
        sam_pixels=torch.stack([own["g_pixel_values.0"], own["g_pixel_values.1"]]),
        image_index=torch.tensor([0, 0, 1]),
        targets=(*own["gt_masks.0"].float(), *own["gt_masks.1"].float()),
    )


def test_losses_and_gradients_are_the_official_ones(golden, model):
    own, batch = golden.train, official_batch(golden)
    model.zero_grad()
    objective = OfficialObjective(sam_size=model.sam_size, num_points=784)
    terms = objective(model(batch), batch, own["point_coords"])
    total = terms.total()
    parts = {
        name: float(terms.weights[name] * terms.sums[name].detach() / terms.counts[name])
        for name in terms.sums
    }
    assert sorted(parts.values()) == pytest.approx(
        sorted(float(own[name]) for name in ("llm_loss", "loss_mask", "loss_dice")), abs=1e-4
    )
    assert float(total.detach()) == pytest.approx(float(own["total_loss"]), abs=1e-4)
    total.backward()
    found = parity.named_gradients(golden, model, own)
    assert len(found) == 8
    assert {name: value for name, value in found.items() if not value <= 1e-3} == {}


def test_a_sample_becomes_the_official_batch(golden, model):
    """One turn, exact constants: as in the official training."""
    image = to_rgb(Image.open(golden.folder / "inputs" / "train_image1.png"))
    prompt = PromptConfig(
        phrase="object",
        question="Please segment the {phrase}.",
        answer="Sure, [SEG].",
        template=model.processor.prompt.template,
    )
    config = model.processor.config.model_copy(update={"numerics": "float32"})
    sample = Sample(
        case_id="train_image1",
        group="a",
        image=image,
        masks=golden.train["gt_masks.1"].bool().numpy(),
        phrases=("object",),
    )
    batch = Processor(model.processor.tokenizer, config, prompt).batch([sample])
    length = batch.input_ids.shape[1]
    own = golden.train
    assert torch.equal(batch.input_ids[0], own["input_ids"][1, :length])
    assert torch.equal(batch.labels[0], own["labels"][1, :length])
    # the official text ends with a separator that nothing is learnt from
    assert int(own["attention_mask"][1].sum()) - length in (1, 2)
    assert (own["labels"][1, length:] == -100).all()
    torch.testing.assert_close(batch.mllm_pixels, own["pixel_values.1"], atol=1e-5, rtol=0)
    torch.testing.assert_close(batch.sam_pixels[0], own["g_pixel_values.1"], atol=1e-5, rtol=0)


def test_both_normalisations_of_sam_are_the_official_ones(golden):
    pixels = to_rgb(golden.image)
    exact = sam_square(pixels, 128, numerics="float32")
    rounded = sam_square(pixels, 128, numerics="official")
    torch.testing.assert_close(exact, golden.train["g_pixel_values.0"], atol=1e-5, rtol=0)
    reference = golden.tensors["image/sam.g_pixel_values.0"][0]
    torch.testing.assert_close(rounded, reference, atol=1e-5, rtol=0)
    assert (exact - rounded).abs().max() > 1e-3
