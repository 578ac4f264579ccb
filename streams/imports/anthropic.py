"""Calls of Anthropic's Messages API: logged pairs of request and response, and the results of message batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from streams.imports.batches import MessageBatches
from streams.imports.found import Bad, Call, Format, Found, LeftOut, Record
from streams.imports.messages import content_text, part, prompt_fields, said, turns_of
from streams.imports.values import first, latency_of, time_of


def message_fields(response: Any, messages: Any, system: Any = None) -> dict[str, Any]:
    """Return the fields of a `Trace` that a response and its request tell.

    Args:
        response: a `Message`: the SDK's own object, or its JSON.
        messages: the prompt, or the request's `messages`; of several the turns are kept.
        system: the request's `system`.

    Raises:
        ValueError: the response or the request is not of this form.
    """
    usage, answer = part(response, "usage"), said(response)
    if not part(response, "id") or not isinstance(part(response, "content"), (list, tuple)):
        raise ValueError("no Message: id and content are needed")
    turns = [{"role": "user", "content": messages}] if isinstance(messages, str) else turns_of(messages)
    fields = {
        "trace_id": part(response, "id"),
        **prompt_fields(turns),
        "system": content_text(system) if system else None,
        **answer.fields,
        "model": str(part(response, "model")),
        "input_tokens": _input_tokens(usage),
        "output_tokens": part(usage, "output_tokens"),
        "stop_reason": part(response, "stop_reason"),
    }
    return {name: value for name, value in fields.items() if value not in (None, "") or name == "response"}


def _input_tokens(usage: Any) -> int | None:
    """Return all tokens of the prompt: those that were read from a cache or written to it are counted apart."""
    given = [part(usage, f"{name}input_tokens") for name in ("", "cache_creation_", "cache_read_")]
    return sum(int(count or 0) for count in given) if given[0] != "" else None


def call_of(record: Record, pair: Mapping[str, Any], request: Any, response: Any) -> Call:
    """Return the call that a request and a response make, with what the log says beside them."""
    fields = message_fields(response, request["messages"], request.get("system"))
    fields |= {"timestamp": time_of(record, pair, response), "kind": first(pair, "kind") or "user_query"}
    if (latency := latency_of(pair)) is not None:
        fields["latency_seconds"] = latency
    return Call(record.where, fields, record.value, calls_tool=said(response).calls_tool)


def _read(records: Iterable[Record]) -> Iterator[Found]:
    batches = MessageBatches(lambda *result: [call_of(*result)])

    def each(record: Record, value: Mapping[str, Any]) -> Iterable[Found]:
        if isinstance(value.get("params"), dict):
            return batches.ask(record, value["custom_id"], value["params"])
        if isinstance(value.get("result"), dict):
            if value["result"].get("type") != "succeeded":
                return [LeftOut(record.where, f"batch_{value['result'].get('type')}")]
            return batches.answer(record, value["custom_id"], value["result"]["message"])
        if "request" in value and "response" in value:
            return [call_of(record, value, value["request"], value["response"])]
        if value.get("type") == "message":
            return [LeftOut(record.where, "no_request")]
        return [Bad(record.where, "neither request and response, nor a line of a message batch")]

    return batches.read(records, each)


def _recognises(value: Mapping[str, Any]) -> bool:
    if isinstance(value.get("params"), dict) and "custom_id" in value:
        return "messages" in value["params"]
    result = value.get("result")
    if isinstance(result, dict) and "custom_id" in value:
        return True
    response = value.get("response")
    return "request" in value and isinstance(response, dict) and response.get("type") == "message"


FORMAT = Format(
    "anthropic",
    "Messages API: logged {request, response} pairs; a message batch's requests and results",
    _read,
    _recognises,
)
