"""All words: the question, the answer, the templates around them, the special tokens.

Training and prediction build their text here and nowhere else, so the model is asked in use exactly
as it was taught. The template table follows the official model's: no system turn is ever emitted.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, field_validator

SEG_TOKEN = "[SEG]"
IMAGE_MARK = "<image>"
"""Where an image stands in a text that a user writes whole (official scripts)."""
_SPECIAL = re.compile(r"\[SEG\]|</?\w+>|<\|\w+\|>")
"""What a tokenizer of any family takes for a mark of its own, not for words."""


OFFICIAL = "official"
OFFICIAL_QUESTIONS = (
    "Can you segment the {phrase} in this image?",
    "Please segment {phrase} in this image.",
    "What is {phrase} in this image? Please respond with segmentation mask.",
    "What is {phrase} in this image? Please output segmentation mask.",
    "What is {phrase} in this image? Please respond with segmentation mask?",
    "What is {phrase} in this image? Please output segmentation mask?",
    "Could you provide a segmentation mask for the {phrase} in this image?",
    "Please identify and segment the {phrase} in this image.",
    "Where is the {phrase} in this picture? Please respond with a segmentation mask.",
    "Can you highlight the {phrase} in this image with a segmentation mask?",
)
"""What Sa2VA was taught to answer, word for word: `SEG_QUESTIONS` of
projects/sa2va/datasets/common.py in bytedance/Sa2VA, whose 16 entries hold these ten and repeat
six of them."""


class PromptConfig(BaseModel):
    """The words around a phrase."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    phrase: str = "blood vessel"
    """What to segment where the data set names nothing itself."""
    question: str = "Please segment the {phrase}."
    """What is asked; `{phrase}` stands for the phrase."""
    questions: tuple[str, ...] = ()
    """More ways to ask, of which training draws one each time, `question` among them; `official`
    stands for the list of the official training. Prediction asks `question` alone."""
    answer: str = "Sure, it is [SEG]."
    """What is trained on; it holds `[SEG]` once."""
    template: str = "qwen_chat"
    """Chat template around question and answer: qwen_chat, internlm2_chat, phi3_chat or vicuna."""
    system: str = ""
    """What stands before the first question, marks included: a base's own system turn."""

    @field_validator("questions", mode="before")
    @classmethod
    def _takes_a_list_by_its_name(cls, questions: object) -> object:
        if questions == OFFICIAL:
            return OFFICIAL_QUESTIONS
        return tuple(questions) if isinstance(questions, list) else questions  # JSON has no tuples

    @field_validator("question", "questions")
    @classmethod
    def _asks_for_the_phrase(cls, asked: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for question in (asked,) if isinstance(asked, str) else asked:
            if "{phrase}" not in question:
                raise ValueError(f"the question must hold {{phrase}}, got {question!r}")
            if found := _SPECIAL.search(question):
                raise ValueError(f"the question must not hold {found[0]}, got {question!r}")
        return asked

    @field_validator("answer")
    @classmethod
    def _says_seg_once(cls, answer: str) -> str:
        if answer.count(SEG_TOKEN) != 1:
            raise ValueError(f"the answer must hold {SEG_TOKEN} once, got {answer!r}")
        return answer

    @field_validator("template")
    @classmethod
    def _is_known(cls, template: str) -> str:
        if template not in TEMPLATES:
            raise ValueError(f"unknown template {template!r}. Known: {', '.join(TEMPLATES)}")
        return template


@dataclass(frozen=True)
class Template:
    """The marks of one chat format.

    Attributes:
        turn: A user turn and the opening of the answer; `{input}` stands for the question.
        suffix: What ends an answer; trained on.
        separator: What stands between two turns.
        stop_words: Texts that end an answer when decoding.
    """

    turn: str
    suffix: str
    separator: str
    stop_words: tuple[str, ...]


@dataclass(frozen=True)
class Turn:
    """One formatted question, up to where the answer begins, and its formatted answer."""

    prompt: str
    answer: str


def build_turns(
    phrases: Sequence[str], config: PromptConfig, *, image_block: str, lot: int | None = None
) -> list[Turn]:
    """Return one turn a phrase, the image standing in the first.

    Args:
        phrases: What to segment, in order.
        config: The words around each phrase.
        image_block: The text whose tokens the image's features replace.
        lot: A random number that chooses among the ways to ask, for each phrase another; None asks
            `question`, as in use.

    Raises:
        ValueError: If a phrase is empty or holds a special token.
    """
    template = TEMPLATES[config.template]
    others = () if lot is None else config.questions
    ways = tuple(dict.fromkeys((config.question, *others)))
    turns = []
    for index, phrase in enumerate(phrases):
        question = ways[((lot or 0) + index) % len(ways)].replace("{phrase}", _clean(phrase))
        first = (config.system, f"{image_block}\n")
        before, within = first if index == 0 else (template.separator, "")
        prompt = before + template.turn.replace("{input}", within + question)
        turns.append(Turn(prompt=prompt, answer=config.answer + template.suffix))
    return turns


def build_chat(
    text: str, config: PromptConfig, *, past: str, image_block: str | None, image_first: bool
) -> str:
    """Return a prompt made of a user's own whole text, as the official model makes it.

    Args:
        text: What is asked; `<image>` stands for the image.
        config: Names the template.
        past: What was said before, formatted, from its first mark to the last answer's end; the
            image's tokens are in it if it was shown there.
        image_block: The text whose tokens the image's features replace; None without an image.
        image_first: Whether the image stands before all text, wherever the mark is.
    """
    block = "" if image_block is None or image_block in past else image_block
    asked = block + text.replace(IMAGE_MARK, "") if image_first else text.replace(IMAGE_MARK, block)
    # cut, not format: a user's text may hold braces
    before, after = TEMPLATES[config.template].turn.split("{input}")
    return (past or config.system) + before + asked + after


def _clean(phrase: str) -> str:
    """Return the phrase as it is asked for: no outer blanks, no trailing full stop."""
    text = phrase.strip().removesuffix(".").removesuffix("。")
    if not text:
        raise ValueError(
            "the phrase is empty. Say what to segment, such as --phrase 'blood vessel'."
        )
    if found := _SPECIAL.search(text):
        raise ValueError(f"the phrase {phrase!r} holds the special token {found[0]}. Leave it out.")
    return text


TEMPLATES: dict[str, Template] = {
    "qwen_chat": Template(
        turn="<|im_start|>user\n{input}<|im_end|>\n<|im_start|>assistant\n",
        suffix="<|im_end|>",
        separator="\n",
        stop_words=("<|im_end|>", "<|endoftext|>"),
    ),
    "internlm2_chat": Template(
        turn="<|im_start|>user\n{input}<|im_end|>\n<|im_start|>assistant\n",
        suffix="<|im_end|>",
        separator="\n",
        stop_words=("<|im_end|>",),
    ),
    "phi3_chat": Template(
        turn="<|user|>\n{input}<|end|>\n<|assistant|>\n",
        suffix="<|end|>",
        separator="\n",
        stop_words=("<|end|>",),
    ),
    "vicuna": Template(
        turn="USER: {input} ASSISTANT:", suffix="</s>", separator="", stop_words=("</s>",)
    ),
}
