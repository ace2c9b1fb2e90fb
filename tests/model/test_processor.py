import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import load_file
from tests.conftest import draw
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from vasculora.core.types import Output, Sample
from vasculora.model.processor import IGNORED, Processor, ProcessorConfig
from vasculora.model.prompts import PromptConfig

WHITE = np.full((40, 60, 3), 255, np.uint8)
ANSWER = "Sure, it is [SEG].<|im_end|>"


def door(opened, **settings):
    """Return the tiny base's processor with other settings."""
    config = opened.processor.config.model_copy(update=settings)
    return Processor(opened.processor.tokenizer, config, opened.processor.prompt)


def sample(image=WHITE, phrases=("blood vessel",), case_id="case"):
    masks = np.zeros((len(phrases), *image.shape[:2]), dtype=bool)
    masks[:, :10, :20] = True
    return Sample(case_id=case_id, group=case_id, image=image, masks=masks, phrases=phrases)


def answers(opened, batch):
    """Return the text that each conversation learns."""
    decode = opened.processor.tokenizer.decode
    return [decode(row[row != IGNORED]) for row in batch.labels]


def test_only_the_answer_is_learnt(opened):
    batch = opened.processor.batch([sample()])
    text = opened.processor.tokenizer.decode(batch.input_ids[0])
    assert text == (
        "<|im_start|>user\n<img>" + "<IMG_CONTEXT>" * 4 + "</img>\nPlease segment the blood "
        "vessel.<|im_end|>\n<|im_start|>assistant\nSure, it is [SEG].<|im_end|>"
    )
    assert answers(opened, batch) == [ANSWER]
    learnt = batch.labels[0] != IGNORED
    assert torch.equal(batch.labels[0][learnt], batch.input_ids[0][learnt])
    assert learnt[-int(learnt.sum()) :].all()


def test_joined_turns_are_one_conversation(opened):
    phrases = ("blood vessel", "catheter", "background")
    batch = door(opened, turns="joined").batch([sample(phrases=phrases), sample(case_id="b")])
    assert batch.input_ids.shape[0] == 2
    assert batch.mllm_pixels.shape[0] == 2
    assert answers(opened, batch) == [ANSWER * 3, ANSWER]
    assert batch.image_index.tolist() == [0, 0, 0, 1]
    text = opened.processor.tokenizer.decode(batch.input_ids[0])
    assert text.count("<img>") == 1
    assert text.index("blood vessel") < text.index("catheter") < text.index("background")
    assert "<|im_end|>\n<|im_start|>user\nPlease segment the catheter." in text


def test_separate_turns_are_a_conversation_each_with_its_image(opened):
    phrases = ("blood vessel", "catheter")
    batch = door(opened, turns="separate").batch([sample(phrases=phrases), sample(case_id="b")])
    assert batch.input_ids.shape[0] == 3
    assert batch.mllm_pixels.shape[0] == 3
    assert batch.sam_pixels.shape[0] == 2
    assert batch.image_index.tolist() == [0, 0, 1]
    assert (batch.num_images, batch.num_masks, batch.num_supervised) == (2, 3, 3 * 8)


def test_padding_is_on_the_right_and_masked(opened):
    batch = opened.processor.batch(
        [sample(), sample(phrases=("a rather long name of the same thing",), case_id="b")]
    )
    short = int(batch.attention_mask[0].sum())
    assert short < batch.input_ids.shape[1]
    assert batch.attention_mask[0].tolist() == [1] * short + [0] * (len(batch.labels[0]) - short)
    assert (batch.input_ids[0, short:] == opened.processor.stop.pad_id).all()
    assert (batch.labels[0, short:] == IGNORED).all()


def test_prompts_hold_no_answer(opened):
    prompts = opened.processor.prompts(["case"], [WHITE], ["blood vessel"])
    assert opened.processor.tokenizer.decode(prompts.input_ids[0]).endswith("assistant\n")
    assert prompts.num_supervised == prompts.num_masks == len(prompts.targets) == 0
    taught = opened.processor.batch([sample()]).input_ids[0]
    length = prompts.input_ids.shape[1]
    assert torch.equal(prompts.input_ids[0], taught[:length])


def test_pixels_are_squashed_and_normalised(opened):
    grey = np.full((40, 60, 3), 128, np.uint8)
    batch = opened.processor.batch([sample(image=grey)])
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = ((128 / 255 - mean) / std)[None, :, None, None]
    assert batch.sam_pixels.shape == (1, 3, 64, 64)
    assert batch.mllm_pixels.shape == (1, 3, 48, 48)
    torch.testing.assert_close(batch.sam_pixels, expected.expand(1, 3, 64, 64))
    torch.testing.assert_close(batch.mllm_pixels, expected.expand(1, 3, 48, 48))


def test_the_whole_picture_is_seen(opened):
    image = np.zeros((40, 60, 3), np.uint8)
    image[:, 30:] = 255
    batch = opened.processor.batch([sample(image=image)])
    for pixels in (batch.sam_pixels, batch.mllm_pixels):
        side = pixels.shape[-1]
        assert (pixels[..., : side // 2 - 3] < -1).all()
        assert (pixels[..., side // 2 + 3 :] > 1).all()


def test_targets_at_full_size_and_on_the_grid(opened):
    one = sample()
    (full,) = opened.processor.batch([one]).targets
    assert torch.equal(full, torch.from_numpy(one.masks[0]).float())
    (area,) = door(opened, target="area").batch([one]).targets
    assert area.shape == (32, 32)
    assert float(area.mean()) == pytest.approx(one.masks[0].mean(), abs=0.02)
    assert float(area[0, 0]) == 1
    (nearest,) = door(opened, target="nearest").batch([one]).targets
    assert nearest.shape == (32, 32)
    assert set(nearest.unique().tolist()) == {0, 1}


def test_a_text_that_is_too_long_is_refused_with_its_case(opened):
    long = sample(phrases=tuple(f"vessel {i}" for i in range(20)), case_id="case-07")
    with pytest.raises(ValueError, match=r"case-07: its text has \d+ tokens.*allows 64. Raise it"):
        door(opened, turns="joined", max_length=64).batch([long])


def test_a_tokenizer_without_its_marks_is_refused(opened):
    config, prompt = opened.processor.config, opened.processor.prompt
    bare = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.BPE({"[UNK]": 0, "a": 1}, [], unk_token="[UNK]")),
        unk_token="[UNK]",
        eos_token="a",
    )
    with pytest.raises(ValueError, match=r"does not know \[SEG\]. Use the tokenizer that came"):
        Processor(bare, config, prompt)
    bare.add_tokens("[SEG]")
    with pytest.raises(ValueError, match=r"does not know <IMG_CONTEXT>"):
        Processor(bare, config, prompt)


def test_an_end_mark_that_is_no_token_is_a_stop_word(opened):
    prompt = opened.processor.prompt.model_copy(update={"template": "phi3_chat"})
    processor = Processor(opened.processor.tokenizer, opened.processor.config, prompt)
    assert processor.stop.words == ("<|end|>",)
    assert len(processor.tokenizer.encode("<|end|>")) > 1
    labels = processor.batch([draw("xray", 0)]).labels[0]
    assert processor.tokenizer.decode(labels[labels != IGNORED]).endswith("[SEG].<|end|>")


def test_settings_refuse_what_they_do_not_know():
    with pytest.raises(ValidationError, match="Extra inputs"):
        ProcessorConfig(tiles=3)
    with pytest.raises(ValidationError, match="less than 1"):
        ProcessorConfig(threshold=1.0)


def test_predictions_by_hand(opened):
    """Of three masks, none is the first image's and two are the second's."""
    prompts = opened.processor.prompts(["a", "b", "c"], [WHITE] * 3, ["blood vessel"] * 3)
    logits = torch.full((3, 32, 32), -4.0)
    logits[0, :, :16] = 4.0
    logits[1, :16] = 4.0
    output = Output(
        mask_logits=logits,
        candidate_logits=logits[:, None],
        iou_scores=torch.zeros(3, 1),
        text_logits=torch.zeros(0, 5),
        text_labels=torch.zeros(0, dtype=torch.long),
    )
    seg, stop = opened.processor.seg_id, opened.processor.stop.ids[0]
    spoken = [[stop], [seg, seg, stop], [seg, stop]]
    nothing, both, empty = opened.processor.predictions(
        prompts, spoken, output, torch.tensor([1, 1, 2])
    )
    assert (nothing.text, nothing.seg_found) == ("<|im_end|>", False)
    assert not nothing.mask.any()
    assert not nothing.prob.any()
    assert (both.text, both.seg_found) == ("[SEG][SEG]<|im_end|>", True)
    assert both.mask.shape == both.prob.shape == (40, 60)
    assert both.mask[:18].all()
    assert both.mask[:, :28].all()
    assert not both.mask[22:, 32:].any()
    assert both.prob.max() == pytest.approx(1 / (1 + np.exp(-4)), abs=1e-6)
    assert empty.seg_found
    assert not empty.mask.any()
    assert empty.prob.max() == pytest.approx(1 / (1 + np.exp(4)), abs=1e-6)


def test_the_threshold_decides(opened):
    prompts = opened.processor.prompts(["a"], [WHITE], ["blood vessel"])
    logits = torch.full((1, 32, 32), 0.5)  # a probability of 0.62
    output = Output(
        mask_logits=logits,
        candidate_logits=logits[:, None],
        iou_scores=torch.zeros(1, 1),
        text_logits=torch.zeros(0, 5),
        text_labels=torch.zeros(0, dtype=torch.long),
    )
    for threshold, found in ((0.5, True), (0.7, False)):
        strict = door(opened, threshold=threshold)
        (prediction,) = strict.predictions(prompts, [[strict.seg_id]], output, torch.tensor([0]))
        assert prediction.mask.all() == found


def test_a_batch_is_the_same_as_its_cases(opened):
    cases = [draw("xray", 0), draw("octa", 1, size=48)]
    whole = opened.processor.batch(cases)
    parts = [opened.processor.batch([case]) for case in cases]
    assert torch.equal(whole.sam_pixels, torch.cat([part.sam_pixels for part in parts]))
    assert torch.equal(whole.mllm_pixels, torch.cat([part.mllm_pixels for part in parts]))
    assert whole.num_supervised == sum(part.num_supervised for part in parts)
    assert [t.shape for t in whole.targets] == [t.shape for part in parts for t in part.targets]


@pytest.fixture
def reference(shared_dir):
    """The reference model's processor, its picture and its tensors."""
    folder = shared_dir / "golden" / "internvl_qwen2"
    config = ProcessorConfig(tile_size=112, tile_tokens=16, sam_size=128, mask_size=32)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder / "checkpoint")
    image = np.asarray(Image.open(folder / "inputs" / "image.png").convert("RGB"))
    golden = load_file(folder / "golden.safetensors")
    return Processor(tokenizer, config, PromptConfig()), image, golden


def test_the_reference_prompt_and_tiles_are_met(reference):
    processor, image, golden = reference
    prompts = processor.prompts(["image"], [image], ["red square in this image"])
    assert torch.equal(prompts.input_ids, golden["image/input_ids"])
    torch.testing.assert_close(prompts.mllm_pixels, golden["image/pixel_values"], atol=1e-5, rtol=0)
    # the reference rounds mean and deviation to bfloat16 here
    torch.testing.assert_close(
        prompts.sam_pixels, golden["image/sam.g_pixel_values.0"], atol=0.03, rtol=0
    )


def test_the_reference_training_text_is_met(reference, shared_dir):
    processor, image, _ = reference
    golden = load_file(shared_dir / "golden" / "internvl_qwen2" / "golden_grad.safetensors")
    prompt = PromptConfig(answer="Sure, it is [SEG].")
    processor = Processor(processor.tokenizer, processor.config, prompt)
    batch = processor.batch([sample(image=image, phrases=("red square in this image",))])
    # its answer goes on with a second [SEG], so only the text up to the first full stop is shared
    shared = batch.input_ids.shape[1] - 1
    assert torch.equal(batch.input_ids[:, :shared], golden["full_input_ids"][:, :shared])
    assert torch.equal(batch.labels[:, :shared], golden["labels"][:, :shared])


def test_reference_masks_become_the_reference_prediction(reference):
    processor, image, golden = reference
    prompts = processor.prompts(["image"], [image], ["red square in this image"])
    low = golden["image/sam.low_res_masks.0"][0]
    output = Output(
        mask_logits=low,
        candidate_logits=low[:, None],
        iou_scores=torch.zeros(1, 1),
        text_logits=torch.zeros(0, 5),
        text_labels=torch.zeros(0, dtype=torch.long),
    )
    answer = golden["image/generated_ids"].tolist()
    (prediction,) = processor.predictions(prompts, [answer], output, torch.tensor([0]))
    assert prediction.text == "Sure, it is [SEG]. It is [SEG].<|im_end|>"
    np.testing.assert_allclose(prediction.prob, golden["image/prob.0"][0], atol=1e-5)
    np.testing.assert_array_equal(prediction.mask, golden["image/mask.0"][0].bool())


def test_tiles_of_a_wide_picture_end_with_the_thumbnail(reference):
    processor, image, _ = reference
    few = Processor(
        processor.tokenizer, processor.config.model_copy(update={"max_tiles": 1}), PromptConfig()
    )
    one = few.prompts(["image"], [image], ["x"])
    many = processor.prompts(["image"], [image], ["x"])
    assert one.mllm_pixels.shape == (1, 3, 112, 112)
    assert torch.equal(many.mllm_pixels[-1], one.mllm_pixels[0])
    gap = many.input_ids.shape[1] - one.input_ids.shape[1]
    assert gap == 16 * (len(many.mllm_pixels) - 1)


def test_batches_move_with_all_their_tensors(opened):
    batch = opened.processor.batch([sample()])
    moved = batch.to("meta")
    assert moved.input_ids.is_meta
    assert moved.targets[0].is_meta
    assert moved.case_ids == batch.case_ids
