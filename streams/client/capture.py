"""Traces of model calls: what an Anthropic SDK response becomes, and which calls are captured."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from schemas.events import Trace, flat_prompt
from schemas.settings import Settings
from streams.imports.anthropic import message_fields

log = logging.getLogger("tierstream.client")

CAPTURE_VARIABLE = "ENABLE_TIER3_CAPTURE"

Redact = Callable[[str], str]
"""Takes a text and returns what of it may leave the process."""

_TEXTS = ("prompt", "system", "thinking", "response")
_counts: Counter[str] = Counter()


def stats() -> dict[str, int]:
    """Return what became of the calls that this process handed over, by outcome: `captured`, or why not.

    `off` (`ENABLE_TIER3_CAPTURE` is not true), `not_drawn` (beyond `traces.capture_rate`), `no_trace` (nothing a trace
    can be made of; the log says why).
    """
    return dict(_counts)


def should_capture(trace_id: str, confidence: float | None, settings: Settings, environ: Mapping[str, str]) -> bool:
    """Tell whether a model call is to be published as a trace: off unless `ENABLE_TIER3_CAPTURE=true`.

    Calls of at least `traces.capture_confidence` always are, and of the rest the share
    `traces.capture_rate`, chosen by the trace id's hash, so that every process decides alike.
    """
    if environ.get(CAPTURE_VARIABLE, "").lower() != "true":
        return False
    if confidence is not None and confidence >= settings.traces.capture_confidence:
        return True
    digest = hashlib.blake2b(trace_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < settings.traces.capture_rate * 2**64


def drawn(trace_id: str, confidence: float | None, settings: Settings, environ: Mapping[str, str]) -> bool:
    """Tell whether a call is to be captured, as `should_capture`, and count it where it is not."""
    wanted = should_capture(trace_id, confidence, settings, environ)
    if not wanted:
        _counts["not_drawn" if environ.get(CAPTURE_VARIABLE, "").lower() == "true" else "off"] += 1
    return wanted


def to_trace(
    response: Any,
    *,
    messages: str | Sequence[Any] | None = None,
    request: Mapping[str, Any] | None = None,
    kind: str = "user_query",
    system: str | Sequence[Any] | None = None,
    timestamp: datetime | None = None,
    latency_seconds: float | None = None,
    confidence: float | None = None,
    experience_id: str | None = None,
    redact: Redact | None = None,
) -> Trace | None:
    """Make a trace of a response of Anthropic's Messages API, as it comes or as it was logged.

    Args:
        response: a `Message` of the SDK, a stream's final one, or its JSON.
        messages: the prompt, or the request's `messages`, with mappings or the SDK's own objects in them; of several
            the trace keeps the turns, and a prompt in which each has its role before it.
        request: the request as it was logged, in place of `messages` and `system`.
        kind: what the call was for.
        system: the request's `system`.
        timestamp: when the call was made; now by default.
        latency_seconds: duration of the call.
        confidence: the assistant's own, 0 to 1.
        experience_id: the experience that the call led to.
        redact: applied to prompt, system, thinking, answer and every turn.

    Returns:
        The trace; None where none can be made of the call, which is logged and counted (`stats`): what a caller does
        next matters more to it.
    """
    try:
        told = request or {}
        asked = messages if messages is not None else told["messages"]
        fields = message_fields(response, asked, system or told.get("system")) | {
            "timestamp": timestamp or datetime.now(UTC),
            "kind": kind,
            "latency_seconds": latency_seconds,
            "confidence": confidence,
            "experience_id": experience_id,
        }
        trace = Trace.model_validate(fields if redact is None else _redacted(fields, redact))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        line = " ".join(str(error).split())[:300]
        log.warning("no trace can be made of %s: %s", type(response).__name__, line)
        _counts["no_trace"] += 1
        return None
    _counts["captured"] += 1
    return trace


def _redacted(fields: dict[str, Any], redact: Redact) -> dict[str, Any]:
    clean = {name: redact(fields[name]) for name in _TEXTS if name in fields}
    turns = [{**turn, "content": redact(turn["content"])} for turn in fields.get("messages", ())]
    return fields | clean | ({"messages": turns, "prompt": flat_prompt(turns)} if turns else {})
