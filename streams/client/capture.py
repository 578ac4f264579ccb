"""Traces of model calls: what an Anthropic SDK response becomes, and which calls are captured."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from schemas.errors import TierstreamError
from schemas.events import Trace, flat_prompt
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
    messages: str | Sequence[Any],
    kind: str = "user_query",
    system: str | Sequence[Any] | None = None,
    latency_seconds: float | None = None,
    confidence: float | None = None,
    experience_id: str | None = None,
    redact: Redact | None = None,
) -> Trace:
    """Make a trace of a response of the Anthropic SDK (a `Message`, or a stream's final one).

    Args:
        response: has `id`, `model`, `content` (blocks), `usage` and `stop_reason`.
        messages: the prompt, or the request's `messages`, with mappings or the SDK's own objects in them; of several
            the trace keeps the turns, and a prompt in which each has its role before it.
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
        blocks = response.content
        thinking = [text for block in blocks if _kind(block) == "thinking" if (text := str(_part(block, "thinking")))]
        hidden = any(_kind(block) == "thinking" for block in blocks)
        redacted = sum(_kind(block) == "redacted_thinking" for block in blocks)
        turns = None if isinstance(messages, str) else _turns(messages, clean)
        fields = {
            "trace_id": response.id,
            "timestamp": datetime.now(UTC),
            "kind": kind,
            "prompt": clean(str(messages)) if turns is None else flat_prompt(turns),
            "messages": turns if turns is not None and len(turns) > 1 else None,
            "system": None if system is None else clean(_text(system)),
            "thinking": clean("\n\n".join(thinking)) if thinking else None,
            "thinking_omitted": True if hidden and not thinking else None,
            "redacted_thinking": redacted or None,
            "response": clean("\n".join(_block(block) for block in blocks if _kind(block) in _ANSWERS)),
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
_NOT_SENT_AGAIN = ("thinking", "redacted_thinking")


def _input_tokens(usage: Any) -> int:
    """Return all tokens of the prompt: those that were read from a cache or written to it are counted apart."""
    cached = [getattr(usage, f"cache_{name}_input_tokens", None) or 0 for name in ("creation", "read")]
    return int(usage.input_tokens) + sum(cached)


def _turns(messages: Sequence[Any], clean: Redact) -> list[dict[str, str]]:
    """Return the request's messages as turns of text; one that says nothing but past reasoning is left out."""
    turns = [{"role": str(_part(one, "role")), "content": clean(_text(_part(one, "content")))} for one in messages]
    return [turn for turn in turns if turn["content"]]


def _text(content: Any) -> str:
    """Return a request's content as text: a string, or blocks, as mappings or as the SDK's own objects."""
    if isinstance(content, str):
        return content
    return "\n".join(_block(block) for block in content or () if _kind(block) not in _NOT_SENT_AGAIN)


def _block(block: Any) -> str:
    """Return a block as text: a call as JSON, a result as what came back; one without text is named."""
    kind = _kind(block)
    if kind == "text":
        return str(_part(block, "text"))
    if kind == "tool_use":
        return json.dumps({"tool": _part(block, "name"), "input": _part(block, "input")}, ensure_ascii=False)
    if kind == "tool_result":
        return _text(_part(block, "content"))
    return f"[{kind}]"


def _kind(block: Any) -> str:
    return str(_part(block, "type"))


def _part(thing: Any, name: str) -> Any:
    """Return a field of a mapping or of an object of the SDK; empty text where it has none."""
    found = thing.get(name) if isinstance(thing, Mapping) else getattr(thing, name, None)
    return "" if found is None else found
