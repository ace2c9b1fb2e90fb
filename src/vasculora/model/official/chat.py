"""What a Qwen checkpoint's own chat template puts before the first question.

The official Qwen models prompt with the template that is shipped in the folder, and stock
Qwen2.5-VL inserts a system turn there. All else in it must be the turns of our own table: the
template is rendered once, compared, and not used again.
"""

from transformers import PreTrainedTokenizerBase

from vasculora.model.mllm import find_family
from vasculora.model.official.config import Layout
from vasculora.model.prompts import PromptConfig, build_chat

_LONGEST_SHOWN = 200
_PROBE = "\nWhat is this?"


def system_turn(tokenizer: PreTrainedTokenizerBase, layout: Layout) -> str:
    """Return the text that stands before the first question; nothing for families without.

    Raises:
        ValueError: If a Qwen has no template, or one that cannot be used, or whose turns are not
            those of the checkpoint's named template.
    """
    family = find_family(layout.family)
    if not family.image_first:
        return ""
    if tokenizer.chat_template is None:
        raise ValueError(
            "expected the chat template that a Qwen-VL is asked with, in chat_template.jinja, "
            "chat_template.json or tokenizer_config.json, found none. Copy the published files."
        )
    rendered = _render(tokenizer)
    block = family.image_open + family.image_token + family.image_close
    ours = build_chat(
        _PROBE,
        PromptConfig(template=layout.template),
        past="",
        image_block=block,
        image_first=True,
    )
    if not rendered.endswith(ours):
        raise ValueError(
            f"the chat template renders a question as {rendered[:_LONGEST_SHOWN]!r}, expected it "
            f"to end in {ours!r} (template {layout.template}). Copy chat_template.jinja again."
        )
    return rendered.removesuffix(ours)


def _render(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return one question about an image as the tokenizer's own template writes it."""
    content = [{"type": "image"}, {"type": "text", "text": _PROBE}]
    try:
        return str(
            tokenizer.apply_chat_template(
                [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
            )
        )
    except Exception as cause:  # a template is a program and can fail in any way
        reason = " ".join(str(cause).split())
        raise ValueError(
            f"the chat template cannot be used ({type(cause).__name__}: {reason}). Copy "
            "chat_template.jinja again."
        ) from cause
