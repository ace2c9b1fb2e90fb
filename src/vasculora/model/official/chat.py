"""What a Qwen checkpoint's own chat template puts before the first question.

The official Qwen models prompt with the template that is shipped in the folder, and stock
Qwen2.5-VL inserts a system turn there. All else in it must be the turns of our own table: the
template is rendered once, compared, and not used again.
"""

from transformers import PreTrainedTokenizerBase

from vasculora.model.mllm import find_family
from vasculora.model.official.config import Layout
from vasculora.model.prompts import PromptConfig, build_chat

_PROBE = "\nWhat is this?"


def system_turn(tokenizer: PreTrainedTokenizerBase, layout: Layout) -> str:
    """Return the text that stands before the first question; nothing for families without.

    Raises:
        ValueError: If the template's turns are not those of the checkpoint's named template.
    """
    family = find_family(layout.family)
    if not family.image_first or tokenizer.chat_template is None:
        return ""
    content = [{"type": "image"}, {"type": "text", "text": _PROBE}]
    rendered = tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
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
            f"the chat template in this folder renders a question as {rendered!r}, expected it to "
            f"end in {ours!r} (template {layout.template}). Copy chat_template.jinja again."
        )
    return str(rendered.removesuffix(ours))
