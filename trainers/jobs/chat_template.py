"""Chat templates that mark what the assistant said, so that only this is trained on and judged."""

from __future__ import annotations

import json
from collections.abc import Sequence

from jinja2 import TemplateError, TemplateSyntaxError
from transformers import PreTrainedTokenizerBase
from trl.chat_template_utils import get_training_chat_template, has_generation_markers

from schemas.errors import JobError
from trainers.jobs.encode import encode, first_line
from trainers.jobs.formats import Message, split_answer
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


_UNMARKED = "unmarked_chat_template"
_MARKS = (
    "put {% generation %} marks into the tokenizer's chat_template, around what the assistant says and the token that "
    "ends its turn"
)


def mark_assistant(tokenizer: PreTrainedTokenizerBase) -> None:
    """Give the tokenizer a template that renders the same text with the assistant's tokens marked.

    Raises:
        JobError: it has no template, one that does not parse, or one without marks for which none with marks is known.
    """
    template = tokenizer.chat_template
    setattr(tokenizer, _UNMARKED, template)
    if template is None:
        raise JobError(
            "the base model has no chat template", f"set jobs.base_model to one tuned for chat, then {RETRY}"
        )
    _parse(tokenizer)
    if has_generation_markers(template):
        return
    try:
        tokenizer.chat_template = MARKED_CHATML if template == CHATML else get_training_chat_template(tokenizer)
    except (ValueError, TypeError) as error:
        raise JobError(
            "the base model's chat template does not mark what the assistant says", f"{_MARKS}, then {RETRY}"
        ) from error


def _parse(tokenizer: PreTrainedTokenizerBase) -> None:
    try:
        tokenizer.apply_chat_template([{"role": "user", "content": "hello"}], tokenize=False)
    except TemplateSyntaxError as error:
        raise JobError(
            f"the base model's chat template does not parse: {first_line(error)}",
            f"fix the tokenizer's chat_template, then {RETRY}",
        ) from error
    except (TemplateError, TypeError, ValueError):
        return  # it parses; whether it takes a job's conversations is seen with each of them


def unmarked(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the chat template as the base model's files carry it."""
    template = getattr(tokenizer, _UNMARKED, tokenizer.chat_template)
    return template if isinstance(template, str) else json.dumps(template, sort_keys=True)


def prove_template(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> None:
    """Render one example, and see that what is to be taught is taught.

    Args:
        tokenizer: with a marked template.
        messages: a conversation that ends with the assistant's answer, its reasoning in it.

    Raises:
        JobError: the marked span lacks the reasoning, the answer or the token that ends a turn, or the marked template
            renders another text than the base model's own.
    """
    encoded = encode(tokenizer, messages)
    span = [token for token, said in zip(encoded.ids, encoded.said, strict=True) if said]
    said = str(tokenizer.decode(span))
    thinking, response = split_answer(messages[-1]["content"])
    wrong = None
    if not span:
        wrong = "marks nothing of what the assistant says"
    elif thinking and not _holds(said, thinking):
        wrong = "leaves out the reasoning: `<think>...</think>` of the answer is not in what is marked"
    elif not _holds(said, response):
        wrong = "leaves out a part of the answer"
    elif not _ends_turn(tokenizer, span):
        wrong = "leaves out the token that ends the assistant's turn, so that a model would never learn to stop"
    elif _text(tokenizer, messages, unmarked(tokenizer)) != _text(tokenizer, messages, None):
        wrong = "with marks renders another text than without"
    if wrong is not None:
        raise JobError(f"the base model's chat template {wrong}", f"{_MARKS}, then {RETRY}")


def _holds(said: str, part: str) -> bool:
    """Whether a text has a part in it, blanks aside."""
    return "".join(part.split()) in "".join(said.split())


def _ends_turn(tokenizer: PreTrainedTokenizerBase, span: Sequence[int]) -> bool:
    """Whether the last token that is no blank is one of the vocabulary's added ones, or the end of text."""
    ends = {*tokenizer.get_added_vocab().values(), tokenizer.eos_token_id}
    last = next((token for token in reversed(span) if str(tokenizer.decode([token])).strip()), None)
    return last in ends


def _text(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], template: str | None) -> str:
    return str(tokenizer.apply_chat_template(list(messages), tokenize=False, chat_template=template))
