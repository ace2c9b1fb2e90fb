"""More ways to ask: drawn in training, never in use; and words of any script pass unharmed."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from tests.conftest import FAMILY_CONFIGS, TINY, draw

from vasculora.core.config import load_config
from vasculora.data.dataset import draw_lot
from vasculora.data.synthetic.styles import all_phrases
from vasculora.model.base import find_folder, read_base
from vasculora.model.images import PatchConfig
from vasculora.model.memory import Memory, read_memory, write_memory
from vasculora.model.mllm import find_family
from vasculora.model.official.config import OfficialConfig
from vasculora.model.processor import Processor
from vasculora.model.prompts import OFFICIAL_QUESTIONS, PromptConfig, build_turns
from vasculora.model.scratch import train_tokenizer

WAYS = PromptConfig(questions=("Show me the {phrase}.", "Where is the {phrase}?"))
ASKED = [
    "Please segment the vein.",
    "Show me the vein.",
    "Where is the vein?",
]


def asked(config, phrases, lot):
    turns = build_turns(phrases, config, image_block="", lot=lot)
    return [turn.prompt.split("<|im_start|>user\n")[1].split("<|im_end|>")[0] for turn in turns]


def test_the_lot_chooses_among_all_ways_and_each_phrase_has_its_own():
    assert [asked(WAYS, ["vein"], lot)[0].strip() for lot in range(4)] == [*ASKED, ASKED[0]]
    turns = asked(WAYS, ["vein", "artery", "vein", "artery"], 1)
    assert [text.strip() for text in turns] == [
        "Show me the vein.",
        "Where is the artery?",
        "Please segment the vein.",
        "Show me the artery.",
    ]


def test_without_a_lot_the_question_itself_is_asked():
    assert asked(WAYS, ["vein", "vein"], None) == asked(PromptConfig(), ["vein", "vein"], None)


def test_without_other_ways_no_lot_changes_anything():
    for lot in (0, 1, 7, 2**32 - 1):
        assert asked(PromptConfig(), ["vein", "vein"], lot) == asked(
            PromptConfig(), ["vein", "vein"], None
        )


def test_a_question_named_twice_is_one_way():
    twice = PromptConfig(questions=("Please segment the {phrase}.", "Where is the {phrase}?"))
    assert [asked(twice, ["vein"], lot)[0].strip() for lot in range(3)] == [
        ASKED[0],
        ASKED[2],
        ASKED[0],
    ]


def test_lots_are_even_and_differ_by_seed_epoch_and_place():
    # 3400 lots give each of 17 ways about 200, within four deviations
    lots = [draw_lot(0, epoch, index) for epoch in range(34) for index in range(100)]
    counts = np.bincount(np.array(lots) % 17, minlength=17)
    assert np.abs(counts - 200).max() < 4 * np.sqrt(200)
    assert len({draw_lot(0, 0, 0), draw_lot(1, 0, 0), draw_lot(0, 1, 0), draw_lot(0, 0, 1)}) == 4
    assert draw_lot(5, 6, 7) == draw_lot(5, 6, 7)


def test_the_official_list_is_known_by_its_name():
    config = PromptConfig(questions="official")
    assert config.questions == OFFICIAL_QUESTIONS
    assert len(set(OFFICIAL_QUESTIONS)) == len(OFFICIAL_QUESTIONS) == 10
    assert PromptConfig.model_validate_json(config.model_dump_json()) == config
    for questions in ("official", list(OFFICIAL_QUESTIONS)):
        assert load_config(PromptConfig, values={"questions": questions}) == config


@pytest.mark.parametrize(
    ("questions", "problem"),
    [
        (("Segment it.",), "must hold {phrase}"),
        (("Is {phrase} [SEG]?",), r"must not hold \[SEG\]"),
        ("Segment the {phrase}.", "tuple"),
    ],
)
def test_questions_are_checked_like_the_question(questions, problem):
    with pytest.raises(ValidationError, match=problem):
        PromptConfig(questions=questions)


def sample(lot, phrases=("blood vessel", "background")):
    drawn = draw("xray", 0, size=48)
    masks = np.repeat(drawn.masks[:1], len(phrases), axis=0)
    return replace(drawn, masks=masks, phrases=phrases, lot=lot)


def door(opened, **settings):
    config = opened.processor.config.model_copy(update=settings)
    return Processor(opened.processor.tokenizer, config, WAYS)


def said(door, batch):
    return [door.tokenizer.decode(row[row != 0]) for row in batch.input_ids]


def test_training_asks_by_the_lot_and_use_does_not(opened):
    joined, separate = door(opened, turns="joined"), door(opened, turns="separate")
    texts = {said(joined, joined.batch([sample(lot)]))[0] for lot in range(6)}
    assert len(texts) == 3
    (text,) = said(joined, joined.batch([sample(1)]))
    assert "Show me the blood vessel." in text
    assert "Where is the background?" in text
    first, second = said(separate, separate.batch([sample(1)]))
    assert "Show me the blood vessel." in first
    assert "Where is the background?" in second
    image = sample(1).image
    assert torch.equal(
        joined.prompts(["a"], [image], ["vein"]).input_ids,
        opened.processor.prompts(["a"], [image], ["vein"]).input_ids,
    )


def test_the_answer_and_the_targets_do_not_depend_on_the_lot(opened):
    joined = door(opened, turns="joined")
    one, other = (joined.batch([sample(lot)]) for lot in (0, 2))
    answers = [batch.labels[batch.labels != -100] for batch in (one, other)]
    assert torch.equal(*answers)
    assert all(torch.equal(a, b) for a, b in zip(one.targets, other.targets, strict=True))


CHINESE = ("左侧血管", "冠状动脉第6段", "视网膜血管、动脉", "毛细血管 capillary")


@pytest.mark.parametrize("family", FAMILY_CONFIGS)
def test_a_chinese_phrase_comes_out_of_the_tokens_as_it_went_in(family, opened):
    kind = find_family(family)
    tokenizer = train_tokenizer(all_phrases(), PromptConfig(), vocab_size=TINY.vocab_size)
    marks = [kind.image_token, kind.image_open, kind.image_close]
    tokenizer.add_special_tokens({"additional_special_tokens": marks})
    patches = PatchConfig(patch_size=14, min_pixels=28**2, max_pixels=64**2)
    settings = {"family": family, "patches": patches if kind.image_first else None}
    asking = Processor(
        tokenizer,
        opened.processor.config.model_copy(update=settings),
        PromptConfig(question="请分割{phrase}。"),
    )
    for phrase in CHINESE:
        (text,) = (tokenizer.decode(row) for row in asking.batch([sample(0, (phrase,))]).input_ids)
        assert f"请分割{phrase}。<|im_end|>" in text


def test_the_bundled_base_reads_chinese_letter_by_letter():
    nano = read_base(find_folder("nano"), OfficialConfig()).processor
    for phrase in CHINESE:
        ids = nano.tokenizer.encode(phrase)
        assert nano.tokenizer.decode(ids) == phrase
        assert nano.tokenizer.unk_token_id not in ids


def test_a_last_chinese_full_stop_goes_like_any_other():
    (turn,) = build_turns(["左侧血管。"], PromptConfig(), image_block="")
    assert "segment the 左侧血管." in turn.prompt


def test_chinese_words_are_remembered_as_they_are(tmp_path, opened):
    prompt = PromptConfig(
        phrase="血管", question="请分割{phrase}。", questions=("{phrase}在哪里?",)
    )
    memory = Memory(processor=opened.processor.config, prompt=prompt)
    write_memory(tmp_path, memory)
    assert read_memory(tmp_path) == memory
    assert "请分割{phrase}。" in (tmp_path / "vasculora.json").read_text("utf-8")
