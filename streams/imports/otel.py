"""Spans and events of OpenTelemetry's GenAI semantic conventions, as OTLP's JSON has them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from streams.imports.found import Bad, Call, Format, Found, LeftOut, Record, Score, guarded, reading
from streams.imports.messages import content_text, prompt_fields, said, turns_of, without_system
from streams.imports.values import first, nanoseconds

_EVALUATION = "gen_ai.evaluation.result"
_STOP_REASONS = {"tool_call": "tool_use"}


def _each(record: Record, value: Mapping[str, Any]) -> Iterator[Found]:
    """Each span and each log record of an export is accounted for by itself."""
    for outer, middle, inner, of_one in (
        ("resourceSpans", "scopeSpans", "spans", _of_span),
        ("resourceLogs", "scopeLogs", "logRecords", _of_log),
    ):
        for resource in _array(value, outer):
            about = attributes((resource.get("resource") or {}).get("attributes"))
            for scope in _array(resource, middle):
                for one in _array(scope, inner):
                    yield from _told(record, one, about, of_one)
    if "resourceMetrics" in value:
        yield LeftOut(record.where, "metrics")
    elif not value.keys() & {"resourceSpans", "resourceLogs"}:
        yield Bad(record.where, "no OTLP: resourceSpans or resourceLogs is needed")


def _array(value: Mapping[str, Any], name: str) -> list[Any]:
    found = value.get(name)
    if not isinstance(found, list | None):
        raise ValueError(f"{name} is no array")
    return found or []


def _told(record: Record, one: Any, about: dict[str, Any], of_one: Any) -> Iterable[Found]:
    span = Record(f"{record.where} span {first(one, 'spanId') or '?'}", one, record.written_at)
    return guarded(span, lambda _, told: of_one(span.where, told, about | attributes(told.get("attributes"))))


def _of_span(where: str, span: Mapping[str, Any], told: Mapping[str, Any]) -> Iterator[Found]:
    start, end = nanoseconds(span["startTimeUnixNano"]), nanoseconds(span["endTimeUnixNano"])
    name = f"{span['traceId']}-{span['spanId']}"
    for event in span.get("events") or ():
        more = attributes(event.get("attributes"))
        if event.get("name") == _EVALUATION:
            yield _score(where, name, more, nanoseconds(event["timeUnixNano"]))
        told = {**told, **more} if _is_call(more) else told
    if not _is_call(told):
        yield LeftOut(where, "no_messages" if "gen_ai.operation.name" in told else "no_model_call")
        return
    yield _call(where, name, told, timestamp=start, latency_seconds=(end - start).total_seconds())


def _of_log(where: str, log: Mapping[str, Any], told: Mapping[str, Any]) -> Iterator[Found]:
    body = _plain(log.get("body") or {})
    told = {**told, **body} if isinstance(body, dict) else told
    name = f"{log.get('traceId')}-{log.get('spanId')}"
    at = nanoseconds(first(log, "timeUnixNano", "observedTimeUnixNano"))
    if first(log, "eventName") == _EVALUATION or told.get("event.name") == _EVALUATION:
        yield _score(where, name, told, at)
    elif _is_call(told):
        yield _call(where, name, told, timestamp=at)
    else:
        yield LeftOut(where, "no_model_call")


def _is_call(told: Mapping[str, Any]) -> bool:
    return "gen_ai.input.messages" in told and "gen_ai.output.messages" in told


def _call(where: str, name: str, told: Mapping[str, Any], **fields: Any) -> Call:
    answers = _parsed(told["gen_ai.output.messages"])
    what = said(answers[0])
    system, turns = without_system(turns_of(_parsed(told["gen_ai.input.messages"])))
    instructions = told.get("gen_ai.system_instructions")
    reasons = told.get("gen_ai.response.finish_reasons") or [answers[0].get("finish_reason")]
    stop_reason = reasons[0] if isinstance(reasons, list) else reasons
    fields |= {
        "trace_id": name,
        "kind": told.get("gen_ai.operation.name") or "chat",
        **prompt_fields(turns),
        "system": content_text(_parsed(instructions)) if instructions else system,
        **what.fields,
        "model": first(told, "gen_ai.response.model", "gen_ai.request.model") or "unknown",
        "input_tokens": told.get("gen_ai.usage.input_tokens"),
        "output_tokens": told.get("gen_ai.usage.output_tokens"),
        "stop_reason": _STOP_REASONS.get(stop_reason, stop_reason),
    }
    fields = {key: value for key, value in fields.items() if value is not None}
    known_as = tuple(str(told[key]) for key in ("gen_ai.response.id",) if told.get(key))
    task = first(told, "gen_ai.agent.name", "service.name")
    return Call(where, fields, dict(told), task, calls_tool=what.calls_tool, known_as=known_as)


def _score(where: str, name: str, told: Mapping[str, Any], at: Any) -> Score:
    value = first(told, "gen_ai.evaluation.score.value", "gen_ai.evaluation.score.label")
    if value is None:
        raise ValueError("an evaluation without score.value and score.label")
    of = (str(told["gen_ai.response.id"]), name) if told.get("gen_ai.response.id") else (name,)
    score_id = f"{of[0]}-{told.get('gen_ai.evaluation.name') or 'evaluation'}-{int(at.timestamp() * 1000)}"
    return Score(where, score_id, of, value, at, "evaluator", comment=told.get("gen_ai.evaluation.explanation"))


def attributes(pairs: Any) -> dict[str, Any]:
    """Return OTLP's list of keys and typed values as a dictionary."""
    return {pair["key"]: _plain(pair.get("value") or {}) for pair in pairs or ()}


def _plain(value: Mapping[str, Any]) -> Any:
    """Return a typed value of OTLP as plain JSON: 64-bit integers stand in text."""
    if "arrayValue" in value:
        return [_plain(one) for one in value["arrayValue"].get("values") or ()]
    if "kvlistValue" in value:
        return attributes(value["kvlistValue"].get("values"))
    if "intValue" in value:
        return int(value["intValue"])
    return first(value, "stringValue", "boolValue", "doubleValue", "bytesValue")


def _parsed(value: Any) -> Any:
    """Return messages as structure: on spans many libraries write them as JSON in text."""
    return json.loads(value) if isinstance(value, str) and value[:1] in "[{" else value


FORMAT = Format(
    "otel",
    "OTLP JSON of the GenAI semantic conventions: spans, their events, evaluations",
    reading(_each),
    lambda value: bool(value.keys() & {"resourceSpans", "resourceLogs"}),
)
