"""Which traces can be trained on, and why not the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import JsonValue

from schemas.events import Trace
from schemas.settings import TracesSettings

Grade = Literal["excellent", "limited", "unusable"]

REASONS = (
    "empty",
    "thinking_omitted",
    "no_thinking",
    "redacted_thinking",
    "truncated",
    "tool_use",
    "unfinished",
    "too_long",
)
"""What can be wrong with a trace; its first reason is the one that it is counted under."""

NATURAL_ENDS = frozenset({"end_turn", "stop", "stop_sequence", "eos"})
"""The stop reasons of an answer that came to its end; a trace that names none is taken for one."""
_CUT_OFF = frozenset({"max_tokens", "length"})
_TOOL_USE = frozenset({"tool_use", "tool_calls", "function_call"})
_LIMITED = frozenset({"thinking_omitted", "no_thinking", "redacted_thinking"})
"""What leaves a whole answer, though not its whole reasoning."""
_CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Suitability:
    """How well a trace serves training, and what is wrong with it, in the order of `REASONS`."""

    grade: Grade
    reasons: tuple[str, ...]


def estimated_tokens(trace: Trace) -> int:
    """Return the trace's length in tokens: as reported, and 4 characters a token where a side reports none."""
    asked = len(trace.system or "") + len(trace.prompt)
    answered = len(trace.thinking or "") + len(trace.response)
    before = trace.input_tokens if trace.input_tokens is not None else -(-asked // _CHARACTERS_PER_TOKEN)
    after = trace.output_tokens if trace.output_tokens is not None else -(-answered // _CHARACTERS_PER_TOKEN)
    return before + after


def assess(trace: Trace, settings: TracesSettings) -> Suitability:
    """Grade a trace: limited where only its thinking is missing, in part or whole, else unusable for any reason.

    Stop reasons are allowed, not denied: a refusal, a pause, an overflow, a filter, an error and whatever an API will
    call its next one are no end of an answer. A turn that calls a tool is no answer either: its call stands in the
    text, in no form that the base model's own template gives to calls.
    """
    has_thinking = bool((trace.thinking or "").strip())
    stop = trace.stop_reason
    found = {
        "empty": not trace.prompt.strip() or not trace.response.strip(),
        "thinking_omitted": not has_thinking and bool(trace.thinking_omitted),
        "no_thinking": not has_thinking and not trace.thinking_omitted,
        "redacted_thinking": bool(trace.redacted_thinking),
        "truncated": stop in _CUT_OFF or _reasons_to_its_end(trace.response),
        "tool_use": stop in _TOOL_USE,
        "unfinished": stop is not None and stop not in NATURAL_ENDS | _CUT_OFF | _TOOL_USE,
        "too_long": estimated_tokens(trace) > settings.max_tokens,
    }
    reasons = tuple(name for name in REASONS if found[name])
    if not reasons:
        return Suitability("excellent", ())
    return Suitability("limited" if _LIMITED.issuperset(reasons) else "unusable", reasons)


def _reasons_to_its_end(response: str) -> bool:
    """Whether an answer is reasoning that never ended; what ended was parted from its answer as the trace was read."""
    return response.lstrip().startswith("<think>") and "</think>" not in response


def stamp(settings: TracesSettings) -> dict[str, JsonValue]:
    """Return the rules that a trace is counted by, for the trace to carry."""
    return {"require_thinking": settings.require_thinking, "max_tokens": settings.max_tokens}


def is_eligible(assessment: Suitability, settings: TracesSettings) -> bool:
    """Whether the trace advances the threshold."""
    return assessment.grade == "excellent" or (assessment.grade == "limited" and not settings.require_thinking)
