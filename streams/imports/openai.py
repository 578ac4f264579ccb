"""Chat completions of OpenAI's API and its many kin: fine-tuning files, stored completions, logged pairs, batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from streams.imports.batches import MessageBatches
from streams.imports.found import Bad, Call, Format, Found, LeftOut, Record, Score
from streams.imports.messages import last_answer, prompt_fields, said, turns_of, without_system
from streams.imports.values import content_id, first, latency_of, time_of

CERTAIN = 1.0
"""Confidence of a comparison: that one answer was preferred to the other is what the record says."""


def call_of(record: Record, call_id: str, asked: Sequence[Any], answer: Any, **fields: Any) -> Call:
    """Return the call of a conversation and the message that ends it."""
    what = said(answer)
    system, turns = without_system(turns_of(asked))
    told = {
        "trace_id": call_id,
        "timestamp": record.written_at,
        "kind": "user_query",
        **prompt_fields(turns),
        "system": system,
        **what.fields,
        "model": "unknown",
        **{name: value for name, value in fields.items() if value is not None},
    }
    about = {name: value for name, value in told.items() if value is not None}
    return Call(record.where, about, record.value, calls_tool=what.calls_tool)


def completion_calls(record: Record, asked: Sequence[Any], completion: Mapping[str, Any], log: Any) -> list[Found]:
    """Return the call of each choice of a completion."""
    usage = completion.get("usage") or {}
    calls: list[Found] = []
    for number, choice in enumerate(completion["choices"]):
        call_id = str(completion["id"]) + (f"-{number}" if number else "")
        call = call_of(
            record,
            call_id,
            asked,
            choice["message"],
            timestamp=time_of(record, log, completion),
            model=completion.get("model"),
            input_tokens=first(usage, "prompt_tokens"),
            output_tokens=first(usage, "completion_tokens") if len(completion["choices"]) == 1 else None,
            stop_reason=choice.get("finish_reason"),
            latency_seconds=latency_of(log),
        )
        # Models of OpenAI's own reason and say how much, not what.
        details = usage.get("completion_tokens_details") or {}
        if first(details, "reasoning_tokens") and "thinking" not in call.fields:
            call.fields["thinking_omitted"] = True
        calls.append(call)
    return calls or [LeftOut(record.where, "no_answer")]


def compared(record: Record, prefix: str, asked: Sequence[Any], better: Any, worse: Any) -> list[Found]:
    """Return two answers to one conversation of which one was preferred, each with its judgement."""
    found: list[Found] = []
    for answer, preferred in ((better, True), (worse, False)):
        call = call_of(record, content_id(prefix, (asked, answer)), asked, answer)
        name = call.fields["trace_id"]
        found += [
            call,
            Score(record.where, f"{name}-preference", (name,), preferred, record.written_at, "evaluator", CERTAIN),
        ]
    return found


def _example(record: Record, value: Mapping[str, Any]) -> list[Found]:
    """Return the last answer of a fine-tuning example, with the turns before it."""
    if (found := last_answer(value["messages"])) is None:
        return [LeftOut(record.where, "no_answer")]
    asked, answer = found
    return [call_of(record, content_id("openai", found), asked, answer, timestamp=time_of(record, value))]


def _batched(record: Record, value: Mapping[str, Any], request: Any, completion: Any) -> list[Found]:
    asked = request.get("messages")
    if asked is None:
        return [LeftOut(record.where, "no_request")]
    return completion_calls(record, asked, completion, value)


def _read(records: Iterable[Record]) -> Iterator[Found]:
    batches = MessageBatches(_batched)

    def each(record: Record, value: Mapping[str, Any]) -> Iterable[Found]:
        response = value.get("response")
        if "preferred_output" in value:
            return compared(
                record,
                "openai",
                value["input"]["messages"],
                value["preferred_output"][-1],
                value["non_preferred_output"][-1],
            )
        if "custom_id" in value and "body" in value:
            return batches.ask(record, value["custom_id"], value["body"])
        if "custom_id" in value:
            if not isinstance(response, dict) or response.get("status_code") != 200:
                return [LeftOut(record.where, "batch_errored")]
            return batches.answer(record, value["custom_id"], response["body"])
        if "request" in value and isinstance(response, dict):
            return completion_calls(record, value["request"]["messages"], response, value)
        if "choices" in value:
            asked = first(value, "messages", "input")
            return completion_calls(record, asked, value, value) if asked else [LeftOut(record.where, "no_request")]
        if "messages" in value:
            return _example(record, value)
        return [Bad(record.where, "none of: messages; request and response; a stored completion; a line of a batch")]

    return batches.read(records, each)


def _recognises(value: Mapping[str, Any]) -> bool:
    response = value.get("response")
    return (
        "choices" in value
        or "preferred_output" in value
        or (isinstance(value.get("messages"), list) and not {"trace_id", "conversations"} & value.keys())
        or ("custom_id" in value and ("body" in value or isinstance(response, dict)))
        or (isinstance(response, dict) and "choices" in response)
    )


FORMAT = Format(
    "openai",
    "chat fine-tuning (JSONL, preferences too), stored completions, {request, response} pairs, batches",
    _read,
    _recognises,
)
