"""Traces of the replaced system: dictionaries of its own, one a line in `traces.jsonl` or one a file in `*.json`.

Its field names are known loosely, so several spellings of each are accepted, also one level down, as in
`usage.input_tokens`.
Where a trace has no id it gets one from a hash of its content, the same in whatever file it stands; where it has no
timestamp, the time at which its file was last written.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from pydantic import JsonValue, ValidationError

from schemas.events import Trace
from streams.imports.values import content_id

_SPELLINGS: dict[str, tuple[str, ...]] = {
    "trace_id": ("trace_id", "id", "uuid"),
    "timestamp": ("timestamp", "created_at", "datetime"),
    "kind": ("kind", "trace_type", "type", "call_type"),
    "prompt": ("prompt", "user_prompt", "user_query", "query", "question", "input"),
    "system": ("system", "system_prompt"),
    "thinking": ("thinking", "claude_thinking", "reasoning", "thinking_text", "thoughts"),
    "response": ("response", "claude_response", "answer", "output", "completion", "content", "text"),
    "model": ("model", "model_name", "claude_model"),
    "input_tokens": ("input_tokens", "prompt_tokens", "tokens_input", "tokens_in"),
    "output_tokens": ("output_tokens", "completion_tokens", "tokens_output", "tokens_out"),
    "latency_seconds": (
        "latency_seconds",
        "claude_time",
        "claude_time_s",
        "claude_time_seconds",
        "duration_seconds",
        "duration",
        "elapsed",
    ),
    "confidence": ("confidence",),
    "stop_reason": ("stop_reason", "finish_reason", "done_reason"),
    "experience_id": ("experience_id",),
}
_MILLISECONDS = ("latency_ms", "claude_time_ms", "duration_ms", "elapsed_ms")


def trace_of(fields: Mapping[str, JsonValue], written_at: datetime) -> Trace:
    """Map a dictionary of the replaced system to a trace.

    Args:
        fields: the dictionary.
        written_at: when its file was last written; the timestamp where it has none.

    Raises:
        ValueError: it has no prompt or no response, or a value is not of its field's type.
    """
    flat = _flat(fields)
    found = {name: flat[key] for name, keys in _SPELLINGS.items() if (key := _first_key(flat, keys)) is not None}
    milliseconds = _first_key(flat, _MILLISECONDS)
    if "latency_seconds" not in found and milliseconds is not None:
        value = flat[milliseconds]
        found["latency_seconds"] = value / 1000 if isinstance(value, (int, float)) else value
    found = {"kind": "unknown", "model": "unknown", "timestamp": written_at.isoformat(), **found}
    found["trace_id"] = str(found.get("trace_id") or content_id("legacy", fields))
    try:
        return Trace.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ValueError(f"{first['loc'][0]}: {first['msg']}") from error


def _flat(fields: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    flat: dict[str, JsonValue] = {}
    for outer, value in fields.items():
        if isinstance(value, dict):
            for inner, nested in value.items():
                flat.setdefault(f"{outer}_{inner}", nested)
                flat.setdefault(inner, nested)
    return flat | {name: value for name, value in fields.items() if not isinstance(value, dict)}


def _first_key(flat: Mapping[str, JsonValue], keys: tuple[str, ...]) -> str | None:
    return next((key for key in keys if flat.get(key) is not None), None)
