"""Decoding a record batch: valid events, records that belong to another partition, and dead-lettered records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from pydantic import ValidationError

from schemas.base import Event
from schemas.events import DeadLetter
from streams.kafka.consumer import Unreadable
from streams.kafka.dead_letters import ATTEMPT_HEADER, UNREADABLE, Record, attempt_of, dead_letter, explain
from streams.kafka.publisher import Outgoing, partition_for
from streams.transport.batch import RecordBatch

E = TypeVar("E", bound=Event)

FORWARDED = ("tierstream-forwarded", b"1")
"""Header of a record that was sent on to its key's partition; it is sent on once only."""


@dataclass(slots=True)
class DecodedBatch(Generic[E]):
    """What a batch holds."""

    events: list[tuple[Record, E]] = field(default_factory=list)
    forwards: list[Outgoing] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)


def decode_batch(
    batch: RecordBatch,
    model: type[E],
    key_of: Callable[[E], str],
    partitions: int,
    owns_key: Callable[[bytes], bool] = lambda _: False,
) -> DecodedBatch[E]:
    """Decode a batch of a keyed topic.

    Producers' partitioners differ, so the key's partition is computed here; a record that lies elsewhere is
    forwarded once. One that was forwarded and still lies elsewhere means that the partition count in effect is not
    the topic's, and is dead-lettered as `misrouted`.

    Args:
        batch: records of one partition.
        model: of the event.
        key_of: returns the event's key.
        partitions: count of the topic's partitions.
        owns_key: says of a key that it is known to belong to this partition, which spares its hash.
    """
    intake: DecodedBatch[E] = DecodedBatch()
    for record in batch.records:
        try:
            event = model.from_json(record.value or b"")
        except ValidationError as error:
            intake.letters.append(letter(batch, record, *explain(error)))
            continue
        key = key_of(event).encode()
        home = batch.partition if owns_key(key) else partition_for(key, partitions)
        if home == batch.partition:
            intake.events.append((record, event))
        elif FORWARDED in tuple(record.headers):
            reason = f"its key belongs to partition {home} of {partitions}, it was forwarded to {batch.partition}"
            intake.letters.append(letter(batch, record, "misrouted", reason))
        else:
            kept = [header for header in record.headers if header[0] == ATTEMPT_HEADER]
            intake.forwards.append(Outgoing(batch.topic, home, key, record.value, (FORWARDED, *kept)))
    return intake


def letter(batch: RecordBatch, record: Record, error_type: str, error: str) -> DeadLetter:
    """Describe a record of `batch` that cannot be used; of one that cannot be unpacked, its place is all there is."""
    if isinstance(record, Unreadable):
        error_type, error = UNREADABLE, record.reason
    attempt = attempt_of(record.headers)
    return dead_letter(
        batch.topic, batch.partition, record.offset, record.key, record.value, error_type, error, attempt
    )
