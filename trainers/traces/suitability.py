"""Which traces can be trained on, and why not the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from schemas.events import Trace
from schemas.settings import TracesSettings

Grade = Literal["excellent", "limited", "unusable"]

REASONS = ("empty", "no_thinking", "truncated", "too_long")
"""What can be wrong with a trace; its first reason is the one that it is counted under."""

_CUT_OFF = frozenset({"max_tokens", "length"})
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
    """Grade a trace: unusable where it is empty, truncated or too long, limited where only its thinking is missing."""
    found = {
        "empty": not trace.prompt.strip() or not trace.response.strip(),
        "no_thinking": not (trace.thinking or "").strip(),
        "truncated": trace.stop_reason in _CUT_OFF,
        "too_long": estimated_tokens(trace) > settings.max_tokens,
    }
    reasons = tuple(name for name in REASONS if found[name])
    if not reasons:
        return Suitability("excellent", ())
    return Suitability("limited" if reasons == ("no_thinking",) else "unusable", reasons)


def is_eligible(assessment: Suitability, settings: TracesSettings) -> bool:
    """Whether the trace advances the threshold."""
    return assessment.grade == "excellent" or (assessment.grade == "limited" and not settings.require_thinking)
