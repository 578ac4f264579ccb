"""Examples as they are trained on: what does not fit the base model's tokenizer and `max_length` is left out, counted.

Nothing is left to the trainer to cut or drop: what it is handed it learns from, whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from transformers import PreTrainedTokenizerBase

from schemas.events import LabelledAnswer, PreferencePair, Trace
from trainers.jobs.encode import Encoded, TemplateRefusalError, encode
from trainers.jobs.formats import conversations
from trainers.jobs.heldout import Example

Judged = TypeVar("Judged", PreferencePair, LabelledAnswer)

LEAST_PROMPT_SHARE = 4
"""A prompt is shortened to a quarter of `max_length` at most, before anything of the answer is."""


@dataclass(frozen=True, slots=True)
class Fitted(Generic[Example]):
    """An example as it is trained on, or why it is not."""

    example: Example | None
    """With prompt or reasoning shortened where that was needed; None where it is dropped."""
    rows: tuple[Encoded, ...] = ()
    """A conversation; a pair's two, the chosen first."""
    cut: bool = False
    """Whether something was shortened."""
    reason: str | None = None
    """Why it is dropped: `too_long`, `same_within_length` or `refused_by_template`."""
    detail: str = ""
    """What the template said, where it refused."""


def fit(tokenizer: PreTrainedTokenizerBase, example: Example, max_length: int) -> Fitted[Example]:
    """Fit an example: its prompt loses its beginning first, then its reasoning its end; its answer is never cut."""
    try:
        if isinstance(example, Trace):
            return fit_trace(tokenizer, example, max_length)
        return fit_answers(tokenizer, example, max_length)
    except TemplateRefusalError as error:
        return Fitted(None, reason="refused_by_template", detail=str(error))


def fit_answers(tokenizer: PreTrainedTokenizerBase, example: Judged, max_length: int) -> Fitted[Judged]:
    """Fit a labelled answer, or a pair: both answers fit after the same prompt, and differ there.

    Raises:
        TemplateRefusalError: the chat template cannot render it.
    """

    def rows_of(one: Judged) -> tuple[Encoded, ...]:
        return tuple(encode(tokenizer, messages) for messages in conversations(one))

    def alike(rows: Sequence[Encoded], length: int | None = None) -> bool:
        return len({row.ids[:length] for row in rows}) < len(rows)

    rows = rows_of(example)
    if alike(rows):
        return Fitted(None, reason="same_within_length")
    if _longest(rows) <= max_length:
        return Fitted(example, rows)

    def with_prompt(text: str) -> Judged:
        return example.model_copy(update={"prompt": text})

    shorter, over = _shorten_prompt(tokenizer, example.prompt, with_prompt, rows_of, max_length)
    rows = rows_of(shorter)
    if over > 0:
        return Fitted(None, reason="same_within_length" if alike(rows, max_length) else "too_long")
    return Fitted(shorter, rows, cut=True)


def fit_trace(tokenizer: PreTrainedTokenizerBase, trace: Trace, max_length: int) -> Fitted[Trace]:
    """Fit a trace: of a conversation the oldest turns go first, then its prompt's beginning, then its reasoning's end.

    Raises:
        TemplateRefusalError: the chat template cannot render it.
    """

    def rows_of(one: Trace) -> tuple[Encoded, ...]:
        return tuple(encode(tokenizer, messages) for messages in conversations(one))

    shorter, rows = trace, rows_of(trace)
    if _longest(rows) <= max_length:
        return Fitted(trace, rows)
    while shorter.messages is not None and len(shorter.messages) > 1 and _longest(rows) > max_length:
        # A conversation begins with a question: an answer goes with the one before it.
        rest = shorter.messages[1:]
        while len(rest) > 1 and rest[0].role != "user":
            rest = rest[1:]
        shorter = shorter.model_copy(update={"messages": rest})
        rows = rows_of(shorter)
    whole = shorter

    def with_prompt(text: str) -> Trace:
        if whole.messages is None:
            return whole.model_copy(update={"prompt": text})
        last = whole.messages[-1].model_copy(update={"content": text})
        return whole.model_copy(update={"messages": (*whole.messages[:-1], last)})

    asked = whole.prompt if whole.messages is None else whole.messages[-1].content
    shorter, over = _shorten_prompt(tokenizer, asked, with_prompt, rows_of, max_length)
    if over > 0:
        cut = _shorten_thinking(tokenizer, shorter, rows_of, max_length)
        if cut is None:
            return Fitted(None, reason="too_long")
        shorter = cut
    return Fitted(shorter, rows_of(shorter), cut=True)


def _shorten_prompt(
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    with_prompt: Callable[[str], Example],
    rows_of: Callable[[Example], tuple[Encoded, ...]],
    max_length: int,
) -> tuple[Example, int]:
    """Return the example with its prompt's beginning cut off, as far as that may be, and the tokens still too many."""
    tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
    least = min(len(tokens), max_length // LEAST_PROMPT_SHARE)
    keep = len(tokens)
    example = with_prompt(text)
    over = _longest(rows_of(example)) - max_length
    while over > 0 and keep > least:
        keep = max(least, keep - over)
        example = with_prompt(str(tokenizer.decode(tokens[-keep:])) if keep else "")
        # Tokens can merge otherwise where texts meet, so the length is measured and not assumed.
        over = _longest(rows_of(example)) - max_length
    return example, over


def _shorten_thinking(
    tokenizer: PreTrainedTokenizerBase,
    trace: Trace,
    rows_of: Callable[[Trace], tuple[Encoded, ...]],
    max_length: int,
) -> Trace | None:
    """Return the trace with its reasoning's end cut off, at a sentence's end if there is one; None if that won't do."""
    if not trace.thinking:
        return None
    thinking = tokenizer(trace.thinking, add_special_tokens=False)["input_ids"]
    spare = max_length - _longest(rows_of(trace.model_copy(update={"thinking": ""})))
    while spare > 0:
        kept = _to_sentence_end(str(tokenizer.decode(thinking[:spare])))
        cut = trace.model_copy(update={"thinking": kept})
        over = _longest(rows_of(cut)) - max_length
        if over <= 0:
            return cut
        spare -= over
    return None


def _longest(rows: Sequence[Encoded]) -> int:
    return max(len(row.ids) for row in rows)


def _to_sentence_end(text: str) -> str:
    end = max(text.rfind(mark) for mark in (". ", ".\n", "\n"))
    return text[: end + 1].rstrip() if end >= len(text) // 2 else text
