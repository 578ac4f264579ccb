"""Reading a stretch of a table's changelog again, where somebody else has written to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiokafka import TopicPartition

from schemas.settings import Settings
from streams.kafka.consumer import Consumer
from streams.kafka.options import client_options

GENERATION = "tierstream-generation"
"""Header of a changelog record: the consumer group's generation in which its writer owned the partition."""

ReadChangelog = Callable[[str, int, int, int], Awaitable[list[tuple[int, bytes]]]]
"""Takes topic, partition, first offset and end; returns each record's generation and key, in order."""


def changelog_reader(settings: Settings) -> ReadChangelog:
    """Return the function that reads this deployment's changelogs."""

    async def read(topic: str, partition: int, start: int, end: int) -> list[tuple[int, bytes]]:
        tp = TopicPartition(topic, partition)
        async with Consumer(
            enable_auto_commit=False, auto_offset_reset="earliest", **client_options(settings)
        ) as consumer:
            consumer.assign([tp])
            consumer.seek(tp, start)
            found: list[tuple[int, bytes]] = []
            while await consumer.position(tp) < end:
                for record in (await consumer.getmany(tp, timeout_ms=1000)).get(tp, ()):
                    if record.offset < end:
                        generation = int(dict(record.headers).get(GENERATION, b"0"))
                        found.append((generation, record.key or b""))
            return found

    return read
