"""The public contract: which event each topic carries, and the documents generated from that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic.json_schema import models_json_schema

from schemas import events
from schemas.base import Event
from schemas.settings import Settings
from streams import topics


@dataclass(frozen=True, slots=True)
class TopicContract:
    """What a public topic carries."""

    event: type[Event]
    """The model of its values."""
    key: str | None
    """The field of the event that is the record's key; None for a key that the event does not hold."""
    also: type[Event] | None = None
    """A second kind of record on the topic, with the same key."""

    @property
    def events(self) -> tuple[type[Event], ...]:
        """Every kind of record on the topic."""
        return (self.event,) if self.also is None else (self.event, self.also)


CONTRACTS: Mapping[str, TopicContract] = {
    topics.EXPERIENCES: TopicContract(events.Experience, "experience_id"),
    topics.FEEDBACK: TopicContract(events.Feedback, "experience_id"),
    topics.TRACES: TopicContract(events.Trace, "trace_id"),
    topics.SCORE_UPDATES: TopicContract(events.ScoreUpdate, "experience_id"),
    topics.PAIRS: TopicContract(events.PreferencePair, "pair_id"),
    topics.UNPAIRED: TopicContract(events.LabelledAnswer, "answer_id"),
    topics.JOBS: TopicContract(events.TrainingJob, "job_id", events.JobControl),
    topics.JOB_UPDATES: TopicContract(events.JobUpdate, "job_id"),
    topics.MODEL_VERSIONS: TopicContract(events.ModelVersion, "line"),
    topics.DEAD_LETTERS: TopicContract(events.DeadLetter, None),
}
"""By topic name without prefix; a dead letter has the key of its source."""

EVENTS: Mapping[str, type[Event]] = {
    event.__name__: event for contract in CONTRACTS.values() for event in contract.events
}
"""Every event by its name."""

PRODUCIBLE = (topics.EXPERIENCES, topics.FEEDBACK, topics.TRACES)
"""Topics that the outside writes."""


INTAKE_PATHS: Mapping[str, str] = {
    "/v1/experiences": topics.EXPERIENCES,
    "/v1/feedback": topics.FEEDBACK,
    "/v1/traces": topics.TRACES,
}
"""Where the worker's web server takes events of a topic."""
OTLP_PATH = "/v1/otlp/traces"
JSON_LINES = ("application/x-ndjson", "application/jsonl")


def json_schema(event: type[Event]) -> dict[str, Any]:
    """Return the JSON Schema of an event as producers write it."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **event.model_json_schema()}


def asyncapi(settings: Settings) -> dict[str, Any]:
    """Return the AsyncAPI 3 document of every public topic under these settings."""
    partitions = {spec.name: spec.partitions for spec in topics.topic_specs(settings)}
    channels, operations, messages = {}, {}, {}
    modes = [(event, "validation") for event in EVENTS.values()]
    _, schemas = models_json_schema(modes, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]
    for topic, contract in CONTRACTS.items():
        for event in contract.events:
            messages[event.__name__] = {
                "name": event.__name__,
                "summary": (event.__doc__ or "").splitlines()[0],
                "contentType": "application/json",
                "payload": {"$ref": f"#/components/schemas/{event.__name__}"},
                "bindings": {"kafka": {"key": {"type": "string", "description": contract.key or "the source's key"}}},
            }
        names = [event.__name__ for event in contract.events]
        channels[topic] = {
            "address": settings.topic(topic),
            "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
            "bindings": {"kafka": {"partitions": partitions[settings.topic(topic)]}},
        }
        # Seen from the application: it receives what the outside writes.
        action = "receive" if topic in PRODUCIBLE else "send"
        operations[f"{action}-{topic}"] = {"action": action, "channel": {"$ref": f"#/channels/{topic}"}}
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Tierstream", "version": "1"},
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": schemas["$defs"]},
    }


def openapi(settings: Settings) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of the worker's intake under these settings."""
    sent = [(CONTRACTS[topic].event, "validation") for topic in INTAKE_PATHS.values()]
    _, schemas = models_json_schema(sent, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]
    paths = {path: {"post": _post(CONTRACTS[topic].event)} for path, topic in INTAKE_PATHS.items()}
    paths[OTLP_PATH] = {
        "post": {
            "operationId": "take-otlp",
            "summary": "Take an OTLP export in JSON: calls of models by the GenAI semantic conventions",
            "requestBody": {"required": True, "content": {"application/json": {"schema": _SPANS}}},
            "responses": {"200": _answer("Acknowledged by the broker", {"type": "object"}), **_refusals()},
        }
    }
    refused = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
    bearer = {"type": "http", "scheme": "bearer", "description": "web.token, where one is set"}
    guarded = settings.web.token is not None or settings.web.token_file is not None
    return {
        "openapi": "3.1.0",
        "info": {"title": "Tierstream intake", "version": "1", "license": {"name": "Apache-2.0"}},
        "servers": [{"url": f"http://{settings.web.host}:{settings.web.port}"}],
        "security": [{"bearer": []}] if guarded else [{}, {"bearer": []}],
        "paths": paths,
        "components": {"schemas": {**schemas["$defs"], "Refused": refused}, "securitySchemes": {"bearer": bearer}},
    }


def _list_of(name: str, item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {name: {"type": ["array", "null"], "items": item}}}


_SPANS = _list_of("resourceSpans", _list_of("scopeSpans", _list_of("spans", {"type": "object"})))


def _post(event: type[Event]) -> dict[str, Any]:
    one = {"$ref": f"#/components/schemas/{event.__name__}"}
    lines = {kind: {"schema": {"type": "string", "description": "One JSON object a line"}} for kind in JSON_LINES}
    accepted = {"type": "object", "properties": {"accepted": {"type": "integer"}}, "required": ["accepted"]}
    return {
        "operationId": f"take-{event.__name__.lower()}",
        "summary": f"Take one {event.__name__.lower()}, or JSON lines of them; a known id changes nothing",
        "requestBody": {"required": True, "content": {"application/json": {"schema": one}, **lines}},
        "responses": {"202": _answer("Acknowledged by the broker", accepted), **_refusals()},
    }


def _answer(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _refusals() -> dict[str, Any]:
    told = {
        "400": "No event of this form: `error` names the field",
        "401": "No token, or another one",
        "403": "An origin that is not allowed, or, without a token, another name than localhost",
        "413": "The body is larger than intake.max_body_kib",
        "415": "Another content type",
        "429": "More than intake.events_per_second",
        "503": "The broker has not acknowledged: send it again",
    }
    return {code: _answer(text, {"$ref": "#/components/schemas/Refused"}) for code, text in told.items()}
