"""Conversations as tokens, and how likely a model finds what the assistant says in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from schemas.errors import JobError
from trainers.jobs.formats import Message


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


class TemplateRefusalError(JobError):
    """The chat template cannot render a conversation."""


def encode(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], max_length: int | None = None) -> Encoded:
    """Return a conversation's tokens, at most the first `max_length`; of several answers the last one counts as said.

    Raises:
        TemplateRefusalError: the chat template cannot render it.
    """
    try:
        made: Any = tokenizer.apply_chat_template(
            list(messages), tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
    except (TemplateError, TypeError, ValueError) as error:
        raise TemplateRefusalError(f"the chat template refuses a conversation: {first_line(error)}") from error
    ids, said = tuple(made["input_ids"]), _last_run(made["assistant_masks"])
    return Encoded(ids[:max_length], said[:max_length])


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, at most 300 characters; its kind where it says nothing."""
    return (str(error).strip().partition("\n")[0] or type(error).__name__)[:300]


def _last_run(marks: Sequence[int]) -> tuple[bool, ...]:
    """Return the marks of the last answer alone: earlier ones were given without the reasoning that is taught."""
    end = len(marks)
    while end and not marks[end - 1]:
        end -= 1
    start = end
    while start and marks[start - 1]:
        start -= 1
    return tuple(start <= place < end for place in range(len(marks)))


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
