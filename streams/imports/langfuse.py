"""Langfuse: observations and scores of its exports (blob storage, API, a trace's download), in either spelling."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from schemas.base import MAX_ID_CHARACTERS
from streams.imports.found import Call, Format, Found, LeftOut, Record, Score, reading
from streams.imports.messages import prompt_fields, said, turns_of, without_system
from streams.imports.values import first

_CAPITAL = re.compile(r"(?<=[a-z0-9])([A-Z])")
_USER_SOURCES = ("API", "ANNOTATION")


def _each(record: Record, value: Mapping[str, Any]) -> Iterable[Found]:
    value = {_CAPITAL.sub(r"_\1", name).lower(): found for name, found in value.items()}
    if isinstance(value.get("trace"), dict):  # the download of one trace
        value = {**value["trace"], **value}
    if isinstance(value.get("observations"), list):
        parts = [*value["observations"], *(value.get("scores") or ())]
        name = value.get("name")
        found = [
            found for one in parts if isinstance(one, dict) for found in _each(record, {"trace_name": name, **one})
        ]
        return found or [LeftOut(record.where, "trace_without_observations")]
    if "data_type" in value and ("value" in value or "string_value" in value):
        return _score(record, value)
    if "type" in value and ("start_time" in value or "trace_id" in value):
        return _generation(record, value)
    if "timestamp" in value and "id" in value:
        return [LeftOut(record.where, "trace_without_observations")]
    raise ValueError("neither an observation, nor a score, nor a trace")


def _generation(record: Record, value: Mapping[str, Any]) -> Iterator[Found]:
    if value["type"] != "GENERATION":
        yield LeftOut(record.where, f"observation_{str(value['type']).lower()}")
        return
    asked, answer = _parsed(value.get("input")), _parsed(value.get("output"))
    if not asked or not answer:
        yield LeftOut(record.where, "no_answer" if asked else "no_prompt")
        return
    what = said(_message(answer))
    system, turns = without_system(turns_of(_messages(asked)))
    usage = _parsed(first(value, "usage_details", "usage")) or {}
    fields = {
        "trace_id": str(value["id"]),
        "timestamp": value["start_time"],
        "kind": str(value.get("name") or "generation")[:MAX_ID_CHARACTERS],
        **prompt_fields(turns),
        "system": first(asked, "system") if isinstance(first(asked, "system"), str) else system,
        **what.fields,
        "model": first(value, "provided_model_name", "model") or "unknown",
        "input_tokens": first(usage, "input", "prompt_tokens", "input_tokens"),
        "output_tokens": first(usage, "output", "completion_tokens", "output_tokens"),
        "latency_seconds": value.get("latency"),
        "stop_reason": first(answer, "stop_reason", "finish_reason"),
    }
    fields = {name: found for name, found in fields.items() if found is not None}
    known_as = tuple(str(value[name]) for name in ("trace_id", "session_id") if value.get(name))
    task = first(value, "trace_name", "name")
    yield Call(record.where, fields, dict(value), task, calls_tool=what.calls_tool, known_as=known_as)


def _score(record: Record, value: Mapping[str, Any]) -> Iterator[Found]:
    kind = value["data_type"]
    if kind in ("TEXT", "CORRECTION"):
        yield LeftOut(record.where, f"score_{kind.lower()}")
        return
    said_value = value["string_value"] if kind == "CATEGORICAL" else value["value"]
    yield Score(
        record.where,
        str(value["id"]),
        tuple(str(value[name]) for name in ("observation_id", "trace_id", "session_id") if value.get(name)),
        bool(said_value) if kind == "BOOLEAN" else said_value,
        first(value, "timestamp", "created_at"),
        "user" if value.get("source") in _USER_SOURCES else "evaluator",
        comment=value.get("comment"),
    )


def _messages(asked: Any) -> list[Any]:
    """Return what a generation was asked as messages: in the form of some API, or whatever a program handed over."""
    found = first(asked, "messages", "contents") if isinstance(asked, dict) else asked
    if isinstance(found, list) and found and all(isinstance(one, dict) and "role" in one for one in found):
        return found
    if isinstance(asked, dict) and "role" in asked:
        return [asked]
    return [{"role": "user", "content": asked if isinstance(asked, str) else json.dumps(asked, ensure_ascii=False)}]


def _message(answer: Any) -> Any:
    if isinstance(answer, dict):
        choices = answer.get("choices")
        found = choices[0].get("message") if isinstance(choices, list) and choices else answer.get("message") or answer
        if isinstance(found, dict) and not found.keys() & {"content", "tool_calls", "parts", "reasoning_content"}:
            return json.dumps(answer, ensure_ascii=False)
        return found
    if isinstance(answer, list) and all(isinstance(one, dict) and "role" in one for one in answer):
        return answer[-1]
    return answer


def _parsed(value: Any) -> Any:
    """Return input or output as structure: blob storage has them as JSON in text."""
    if isinstance(value, str) and value[:1] in ("[", "{", '"'):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _recognises(value: Mapping[str, Any]) -> bool:
    names = {_CAPITAL.sub(r"_\1", name).lower() for name in value}
    return (
        isinstance(value.get("observations"), list)
        or {"data_type", "name"} <= names
        or ("trace_id" in names and {"type", "start_time"} <= names)
    )


FORMAT = Format(
    "langfuse",
    "observations (generations) and scores of its exports and API; a trace's download",
    reading(_each),
    _recognises,
)
