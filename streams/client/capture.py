"""Traces of model calls: what an Anthropic SDK response becomes, and which calls are captured."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from schemas.errors import TierstreamError
from schemas.events import Trace
from schemas.settings import Settings

CAPTURE_VARIABLE = "ENABLE_TIER3_CAPTURE"

Redact = Callable[[str], str]
"""Takes a text and returns what of it may leave the process."""


class CaptureError(TierstreamError):
    """A response cannot be made into a trace."""


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


def to_trace(
    response: Any,
    *,
    messages: str | Sequence[Mapping[str, Any]],
    kind: str = "user_query",
    system: str | Sequence[Mapping[str, Any]] | None = None,
    latency_seconds: float | None = None,
    confidence: float | None = None,
    experience_id: str | None = None,
    redact: Redact | None = None,
) -> Trace:
    """Make a trace of a response of the Anthropic SDK (a `Message`, or a stream's final one).

    Args:
        response: has `id`, `model`, `content` (blocks), `usage` and `stop_reason`.
        messages: the prompt, or the request's `messages`; of several the roles are written before the texts.
        kind: what the call was for.
        system: the request's `system`.
        latency_seconds: duration of the call.
        confidence: the assistant's own, 0 to 1.
        experience_id: the experience that the call led to.
        redact: applied to prompt, system, thinking and answer.

    Raises:
        CaptureError: the response is not of this form, or a field is too long for a trace.
    """
    clean = redact or (lambda text: text)
    try:
        thinking = [block.thinking for block in response.content if block.type == "thinking"]
        fields = {
            "trace_id": response.id,
            "timestamp": datetime.now(UTC),
            "kind": kind,
            "prompt": clean(_prompt(messages)),
            "system": None if system is None else clean(_content(system)),
            "thinking": clean("\n\n".join(thinking)) if thinking else None,
            "response": clean("\n".join(_answer(block) for block in response.content if block.type in _ANSWERS)),
            "model": str(response.model),
            "input_tokens": _input_tokens(response.usage),
            "output_tokens": response.usage.output_tokens,
            "latency_seconds": latency_seconds,
            "confidence": confidence,
            "stop_reason": response.stop_reason,
            "experience_id": experience_id,
        }
        return Trace.model_validate(fields)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        line = " ".join(str(error).split())[:300]
        raise CaptureError(f"no trace can be made of {type(response).__name__}: {line}", "hand in a Message") from error


_ANSWERS = ("text", "tool_use")


def _answer(block: Any) -> str:
    if block.type == "text":
        return str(block.text)
    return json.dumps({"tool": block.name, "input": block.input}, ensure_ascii=False)


def _input_tokens(usage: Any) -> int:
    """Return all tokens of the prompt: those that were read from a cache or written to it are counted apart."""
    cached = [getattr(usage, f"cache_{name}_input_tokens", None) or 0 for name in ("creation", "read")]
    return int(usage.input_tokens) + sum(cached)


def _prompt(messages: str | Sequence[Mapping[str, Any]]) -> str:
    if isinstance(messages, str):
        return messages
    if len(messages) == 1:
        return _content(messages[0]["content"])
    return "\n\n".join(f"{message['role']}: {_content(message['content'])}" for message in messages)


def _content(content: str | Sequence[Mapping[str, Any]]) -> str:
    """Return the text of a request's content: a string, or blocks, of which those without text are named."""
    if isinstance(content, str):
        return content
    return "\n".join(str(block["text"]) if "text" in block else f"[{block['type']}]" for block in content)
