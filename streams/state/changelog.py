"""Reading a stretch of a table's changelog again, where somebody else has written to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiokafka import TopicPartition

from schemas.settings import Settings
from streams.kafka.consumer import Consumer

GENERATION = "tierstream-generation"
"""Header of a changelog record: the consumer group's generation in which its writer owned the partition."""

ReadChangelog = Callable[[str, int, int, int], Awaitable[list[tuple[int, bytes]]]]
"""Takes topic, partition, first offset and end; returns each record's generation and key, in order."""


def changelog_reader(settings: Settings) -> ReadChangelog:
    """Return the function that reads this deployment's changelogs."""

    async def read(topic: str, partition: int, start: int, end: int) -> list[tuple[int, bytes]]:
        tp = TopicPartition(topic, partition)
        async with Consumer.of(settings) as consumer:
            return [
                (int(dict(record.headers).get(GENERATION, b"0")), record.key or b"")
                async for records in consumer.read({tp: (start, end)})
                for record in records
            ]

    return read
