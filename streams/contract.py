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
    topics.JOBS: TopicContract(events.TrainingJob, "job_id", events.JobControl),
    topics.JOB_UPDATES: TopicContract(events.JobUpdate, "job_id"),
    topics.MODEL_VERSIONS: TopicContract(events.ModelVersion, "tier"),
    topics.DEAD_LETTERS: TopicContract(events.DeadLetter, None),
}
"""By topic name without prefix; a dead letter has the key of its source."""

EVENTS: Mapping[str, type[Event]] = {
    event.__name__: event for contract in CONTRACTS.values() for event in contract.events
}
"""Every event by its name."""

PRODUCIBLE = (topics.EXPERIENCES, topics.FEEDBACK, topics.TRACES)
"""Topics that the outside writes."""


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
