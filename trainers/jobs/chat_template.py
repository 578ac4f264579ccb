"""Chat templates that mark what the assistant said, so that only this is trained on and judged."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase
from trl.chat_template_utils import get_training_chat_template, has_generation_markers

from schemas.errors import JobError
from trainers.jobs.snapshot import RETRY

CHATML = (
    "{% for message in messages %}"
    "{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}"
    "{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""The template of SmolLM2-Instruct as its files carry it."""

MARKED_CHATML = CHATML.replace(
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}",
    "{{'<|im_start|>' + message['role'] + '\n'}}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}"
    "{{ '\n' }}",
)
"""Renders the same text, with the assistant's words and the token that ends them marked."""


def mark_assistant(tokenizer: PreTrainedTokenizerBase) -> None:
    """Give the tokenizer a template that renders the same text with the assistant's tokens marked.

    Raises:
        JobError: its template has no marks and none with marks is known for it.
    """
    template = tokenizer.chat_template
    if template is None:
        raise JobError(
            "the base model has no chat template", f"set jobs.base_model to one tuned for chat, then {RETRY}"
        )
    if has_generation_markers(template):
        return
    if template == CHATML:
        tokenizer.chat_template = MARKED_CHATML
        return
    try:
        tokenizer.chat_template = get_training_chat_template(tokenizer)
    except ValueError as error:
        raise JobError(
            "the base model's chat template does not mark what the assistant says",
            "put {% generation %} marks into the tokenizer's chat_template",
        ) from error
