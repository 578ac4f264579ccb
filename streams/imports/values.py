"""Values that formats spell differently: times, durations, ids."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from streams.imports.found import Record

_TIMES = ("timestamp", "created_at", "created", "start_time", "time")
_SECONDS = ("latency_seconds", "latency", "duration_seconds", "duration", "elapsed")
_MILLISECONDS = ("latency_ms", "duration_ms", "elapsed_ms")


def first(thing: Any, *names: str) -> Any:
    """Return the first of the fields that is there, None where none is."""
    if not isinstance(thing, Mapping):
        return None
    return next((thing[name] for name in names if thing.get(name) is not None), None)


def time_of(record: Record, *things: Any) -> Any:
    """Return the time that the first of the things tells, else the one at which the file was written.

    A time without a zone is left to the event, which reads it as UTC; one in letters may have a space for its `T`.
    """
    for thing in things:
        if (found := first(thing, *_TIMES)) is not None:
            return found
    return record.written_at


def nanoseconds(value: Any) -> datetime:
    """Return the time of so many nanoseconds since 1970, as OTLP has it in text.

    Raises:
        ValueError: it is no time.
    """
    return datetime.fromtimestamp(int(value) / 1e9, UTC)


def latency_of(thing: Any) -> float | None:
    """Return a duration in seconds, None if there is none."""
    seconds, milliseconds = first(thing, *_SECONDS), first(thing, *_MILLISECONDS)
    if isinstance(seconds, (int, float)):
        return float(seconds)
    return milliseconds / 1000 if isinstance(milliseconds, (int, float)) else None


def content_id(prefix: str, content: Any) -> str:
    """Return an id that follows from the content: the same in whatever file it stands."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return f"{prefix}-{hashlib.sha256(text.encode()).hexdigest()[:32]}"
