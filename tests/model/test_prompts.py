import numpy as np
import pytest
from pydantic import ValidationError

from vasculora.model.prompts import PromptConfig, build_chat, build_turns

IMAGE = "<img><IMG_CONTEXT></img>"


def test_one_turn_in_the_official_words():
    (turn,) = build_turns(["blood vessel"], PromptConfig(), image_block=IMAGE)
    assert turn.prompt == (
        "<|im_start|>user\n<img><IMG_CONTEXT></img>\nPlease segment the blood vessel.<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert turn.answer == "Sure, it is [SEG].<|im_end|>"


def test_later_turns_follow_without_the_image():
    turns = build_turns(["artery", "vein"], PromptConfig(), image_block=IMAGE)
    assert turns[1].prompt == (
        "\n<|im_start|>user\nPlease segment the vein.<|im_end|>\n<|im_start|>assistant\n"
    )
    assert IMAGE in turns[0].prompt


@pytest.mark.parametrize(
    ("template", "prompt", "answer"),
    [
        (
            "qwen_chat",
            "<|im_start|>user\nI\nPlease segment the x.<|im_end|>\n<|im_start|>assistant\n",
            "Sure, it is [SEG].<|im_end|>",
        ),
        (
            "internlm2_chat",
            "<|im_start|>user\nI\nPlease segment the x.<|im_end|>\n<|im_start|>assistant\n",
            "Sure, it is [SEG].<|im_end|>",
        ),
        (
            "phi3_chat",
            "<|user|>\nI\nPlease segment the x.<|end|>\n<|assistant|>\n",
            "Sure, it is [SEG].<|end|>",
        ),
        (
            "vicuna",
            "USER: I\nPlease segment the x. ASSISTANT:",
            "Sure, it is [SEG].</s>",
        ),
    ],
)
def test_every_template_without_a_system_turn(template, prompt, answer):
    (turn,) = build_turns(["x"], PromptConfig(template=template), image_block="I")
    assert (turn.prompt, turn.answer) == (prompt, answer)
    assert "system" not in turn.prompt


@pytest.mark.parametrize("phrase", ["blood vessel.", " blood vessel ", "blood vessel"])
def test_blanks_and_the_last_full_stop_go(phrase):
    (turn,) = build_turns([phrase], PromptConfig(), image_block="")
    assert "the blood vessel.<" in turn.prompt


@pytest.mark.parametrize("phrase", ["", "  ", "."])
def test_an_empty_phrase_is_refused(phrase):
    with pytest.raises(ValueError, match=r"phrase is empty. Say what to segment"):
        build_turns([phrase], PromptConfig(), image_block="")


@pytest.mark.parametrize(
    "token",
    ["[SEG]", "<image>", "<IMG_CONTEXT>", "<img>", "</img>", "<|im_end|>", "<|endoftext|>", "</s>"],
)
def test_special_tokens_in_a_phrase_are_refused(token):
    with pytest.raises(ValueError, match="special token") as caught:
        build_turns([f"the vessel {token} here"], PromptConfig(), image_block="")
    assert token in str(caught.value)


def test_braces_and_comparisons_are_ordinary_text():
    config = PromptConfig(question="Segment {phrase}, {if any}.")
    (turn,) = build_turns(["{vessels} < 3 mm and > 1 mm"], config, image_block="")
    assert "Segment {vessels} < 3 mm and > 1 mm, {if any}.<|im_end|>" in turn.prompt


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"question": "Segment it."}, "must hold {phrase}"),
        ({"question": "{phrase} as [SEG]"}, r"must not hold \[SEG\]"),
        ({"answer": "Sure."}, r"must hold \[SEG\] once"),
        ({"answer": "[SEG] and [SEG]"}, r"must hold \[SEG\] once"),
        ({"template": "llama"}, "unknown template 'llama'. Known: qwen_chat"),
        ({"sytem": "You are"}, "Extra inputs"),
    ],
)
def test_words_that_cannot_work_are_refused(setting, message):
    with pytest.raises(ValidationError, match=message):
        PromptConfig(**setting)


def test_other_scripts_go_through_the_tokenizer_unharmed(opened):
    phrase = "请分割冠状动脉血管"
    batch = opened.processor.prompts(["case"], [np.zeros((48, 48, 3), np.uint8)], [phrase])
    assert f"Please segment the {phrase}.<|im_end|>" in opened.processor.tokenizer.decode(
        batch.input_ids[0]
    )


SYSTEM, USER = "<|im_start|>system\nBe brief.<|im_end|>\n", "<|im_start|>user\n"
ASKED = "<|im_end|>\n<|im_start|>assistant\n"
PAST = f"{USER}{IMAGE}What?{ASKED}Nothing.<|im_end|>\n"


@pytest.mark.parametrize(
    ("text", "past", "block", "first", "expected"),
    [
        ("<image>\nWhat?", "", IMAGE, False, f"{SYSTEM}{USER}{IMAGE}\nWhat?{ASKED}"),
        ("What is <image>?", "", IMAGE, False, f"{SYSTEM}{USER}What is {IMAGE}?{ASKED}"),
        ("What is <image>?", "", IMAGE, True, f"{SYSTEM}{USER}{IMAGE}What is ?{ASKED}"),
        ("<image>Hello {you}", "", None, False, f"{SYSTEM}{USER}Hello {{you}}{ASKED}"),
        ("And now?", PAST, IMAGE, False, f"{PAST}{USER}And now?{ASKED}"),
        ("And now?", PAST, IMAGE, True, f"{PAST}{USER}And now?{ASKED}"),
    ],
)
def test_a_whole_text_is_placed_as_the_official_model_does(text, past, block, first, expected):
    config = PromptConfig(system=SYSTEM)
    assert build_chat(text, config, past=past, image_block=block, image_first=first) == expected


def test_a_base_s_own_system_turn_stands_before_the_first_question():
    first, second = build_turns(["artery", "vein"], PromptConfig(system=SYSTEM), image_block=IMAGE)
    assert first.prompt.startswith(SYSTEM + USER + IMAGE)
    assert second.prompt.startswith("\n" + USER + "Please segment the vein.")
