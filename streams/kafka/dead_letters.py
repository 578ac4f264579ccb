"""Dead letters: records that cannot be used, with their origin and the reason."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

from pydantic import ValidationError

from schemas.events import DeadLetter
from streams.kafka.publisher import Outgoing

MAX_VALUE_BYTES = 256 * 1024

ATTEMPT_HEADER = "tierstream-attempt"
"""Header of a record that is tried again: which attempt it is, from 2."""

UNREADABLE = "unreadable_batch"
"""Type of a letter about records that could not be unpacked; it tells which offsets, and holds no value."""

_HALF_CHARACTER = re.compile(r"(?:unexpected end of hex escape|lone leading surrogate in hex escape)( at .*)")

_MAX_ATTEMPT = 1_000_000


class Record(Protocol):
    """A consumed record."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


def attempt_of(headers: Sequence[tuple[str, bytes]]) -> int:
    """Return which attempt a record is: 1, unless it was tried again."""
    if not headers:
        return 1
    given = dict(headers).get(ATTEMPT_HEADER) or b"1"
    return min(max(int(given), 1), _MAX_ATTEMPT) if given.isdigit() and len(given) < 20 else 1


def dead_letter(
    topic: str,
    partition: int,
    offset: int,
    key: bytes | None,
    value: bytes | None,
    error_type: str,
    error: str,
    attempt: int = 1,
) -> DeadLetter:
    """Describe a record that cannot be used; its value is cut at 256 KiB, hash and size are of the whole."""
    whole = value or b""
    return DeadLetter(
        topic=topic,
        partition=partition,
        offset=offset,
        key=None if key is None else base64.b64encode(key).decode(),
        value=None if value is None else base64.b64encode(whole[:MAX_VALUE_BYTES]).decode(),
        value_sha256=hashlib.sha256(whole).hexdigest(),
        value_bytes=len(whole),
        error_type=error_type,
        error=error[:500],
        attempt=max(attempt, 1),
        timestamp=datetime.now(UTC),
    )


def to_outgoing(topic: str, letter: DeadLetter) -> Outgoing:
    """Address a dead letter; its key is the source's, so that one key's letters stay in order."""
    key = None if letter.key is None else base64.b64decode(letter.key)
    return Outgoing(topic, 0, key, letter.to_json())


def explain(error: ValidationError) -> tuple[str, str]:
    """Return a reason in one word and one line that names the field, without the offending value."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    said = first["msg"].removeprefix("Value error, ")
    line = f"{place}: {said}" if place else said
    if first["type"] == "json_invalid":
        half = _HALF_CHARACTER.search(line)
        return "invalid_json", line if half is None else f"half of a surrogate pair is no character:{half[1]}"
    if place == "schema_version":
        return "unknown_schema_version", line
    more = error.error_count() - 1
    return "invalid_event", line + (f" (and {more} more)" if more else "")
