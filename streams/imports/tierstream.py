"""Our own exports and trace files, and the traces of the system that this one replaced."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from schemas.base import Event
from schemas.events import Experience, Feedback, Trace
from streams.imports.found import Bad, Format, Found, Ready, Record, reading
from streams.imports.legacy import trace_of
from streams.kafka.dead_letters import explain

_REQUIRED: dict[type[Event], set[str]] = {
    event: {name for name, field in event.model_fields.items() if field.is_required()}
    for event in (Feedback, Experience, Trace)
}


def _each(record: Record, value: Mapping[str, Any]) -> list[Found]:
    model = kind_of_event(value)
    try:
        if model is None:
            return [Ready(record.where, trace_of(value, record.written_at))]
        return [Ready(record.where, model.model_validate(value))]
    except ValidationError as error:
        return [Bad(record.where, explain(error)[1])]


def kind_of_event(value: Mapping[str, Any]) -> type[Event] | None:
    """Return the event that an object is written as, None for a dictionary of the replaced system."""
    if "feedback_id" in value:
        return Feedback
    if value.keys() >= _REQUIRED[Trace]:
        return Trace
    return Experience if "experience_id" in value and "intent" in value else None


FORMAT = Format(
    "tierstream",
    "our own export (JSONL) and trace files; the replaced system's traces.jsonl and *.json",
    reading(_each),
    lambda value: "schema_version" in value or any(value.keys() >= required for required in _REQUIRED.values()),
)
