"""Examples as tokens, cut to the length that is trained on, and how likely a model finds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from schemas.events import Trace
from trainers.jobs.formats import Message, trace_messages


@dataclass(frozen=True, slots=True)
class Encoded:
    """A conversation as tokens."""

    ids: tuple[int, ...]
    said: tuple[bool, ...]
    """Whether the assistant said the token; the one that ends its turn included."""


@dataclass(frozen=True, slots=True)
class Likelihood:
    """How likely a model finds what the assistant said."""

    logprob: float
    """Sum over tokens, nats."""
    tokens: int

    @property
    def loss(self) -> float:
        """Nats a token."""
        return -self.logprob / self.tokens


def encode(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], max_length: int) -> Encoded:
    """Return a conversation's first `max_length` tokens."""
    made: Any = tokenizer.apply_chat_template(
        list(messages), tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    ids, said = made["input_ids"][:max_length], made["assistant_masks"][:max_length]
    return Encoded(tuple(ids), tuple(map(bool, said)))


def fit_trace(tokenizer: PreTrainedTokenizerBase, trace: Trace, max_length: int) -> tuple[Trace | None, bool]:
    """Return the trace with its reasoning cut so that the whole answer fits, and whether it was cut.

    The reasoning keeps its beginning, up to the end of a sentence where there is one. None where not even
    prompt and answer fit.
    """
    if len(encode(tokenizer, trace_messages(trace), max_length + 1).ids) <= max_length:
        return trace, False
    if trace.thinking is None:
        return None, True
    thinking = tokenizer(trace.thinking, add_special_tokens=False)["input_ids"]
    spare = max_length - len(encode(tokenizer, trace_messages(_thinking(trace, "")), 2**30).ids)
    while spare > 0:
        kept = _to_sentence_end(str(tokenizer.decode(thinking[:spare])))
        cut = _thinking(trace, kept)
        # Tokens can merge otherwise where texts meet, so the length is measured and not assumed.
        over = len(encode(tokenizer, trace_messages(cut), 2**30).ids) - max_length
        if over <= 0:
            return cut, True
        spare -= over
    return None, True


def likelihoods(model: torch.nn.Module, examples: Sequence[Encoded]) -> list[Likelihood]:
    """Return the likelihood of what the assistant said in each example, under the active adapter.

    One example at a time: without padding, a CPU does not work on nothing, and the figures of an example do not
    depend on its neighbours. The vocabulary's logits are worked out at the assistant's tokens only.
    """
    device = next(model.parameters()).device
    found = []
    for example in examples:
        ids = torch.tensor([example.ids], device=device)
        # The logits that judge a token stand one place before it.
        places = torch.tensor([place - 1 for place, said in enumerate(example.said) if said and place > 0])
        if len(places) == 0:
            raise ValueError("the assistant says nothing in an example")
        places = places.to(device)
        with torch.inference_mode():
            logits = model(input_ids=ids, logits_to_keep=places).logits[0].float()
        logprobs = logits.log_softmax(-1).gather(-1, ids[0, places + 1].unsqueeze(-1))
        found.append(Likelihood(float(logprobs.sum(dtype=torch.float64)), len(places)))
    return found


def _thinking(trace: Trace, thinking: str) -> Trace:
    return trace.model_copy(update={"thinking": thinking})


def _to_sentence_end(text: str) -> str:
    end = max(text.rfind(mark) for mark in (". ", ".\n", "\n"))
    return text[: end + 1].rstrip() if end >= len(text) // 2 else text
