"""Reading topics once, from their first record to where they end now."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field

from aiokafka import TopicPartition
from aiokafka.structs import ConsumerRecord

from schemas.settings import Settings
from streams.kafka.admin import admin_client
from streams.kafka.consumer import Consumer

Progress = Callable[[str, int], None]
"""Told the topic and how many records more were read."""


@dataclass(frozen=True, slots=True)
class TableContent:
    """A table as its changelog has it: the last value of every key."""

    partitions: dict[int, dict[bytes, bytes]] = field(default_factory=dict)

    def items(self) -> Iterable[tuple[int, bytes, bytes]]:
        """Yield partition, key and value."""
        for partition, values in self.partitions.items():
            for key, value in values.items():
                yield partition, key, value


class TopicReader:
    """Reads whole topics with one consumer that belongs to no group, so that nobody is disturbed.

    Args:
        settings: where the broker is.
        progress: called with every batch.
    """

    def __init__(self, settings: Settings, progress: Progress = lambda topic, count: None) -> None:
        self._settings = settings
        self._progress = progress
        self.partitions: dict[str, int] = {}
        """How many partitions each topic has."""

    async def __aenter__(self) -> TopicReader:
        async with admin_client(self._settings) as admin:
            described = await admin.describe_topics()
        self.partitions = {t["topic"]: len(t["partitions"]) for t in described if t["error_code"] == 0}
        self._consumer = await Consumer.of(self._settings, fetch_max_wait_ms=50).__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._consumer.stop()

    async def records(self, topic: str, partition: int | None = None) -> AsyncIterator[ConsumerRecord]:
        """Yield the records of a topic, each partition's in order; nothing where the topic does not exist.

        Args:
            topic: its name on the broker.
            partition: only this one.
        """
        numbers = [number for number in range(self.partitions.get(topic, 0)) if partition in (None, number)]
        spans = {TopicPartition(topic, number): (None, None) for number in numbers}
        async for records in self._consumer.read(spans):
            self._progress(topic, len(records))
            for record in records:
                yield record

    async def end(self, topic: str) -> int:
        """Return how many records a topic was ever given."""
        partitions = [TopicPartition(topic, p) for p in range(self.partitions.get(topic, 0))]
        return sum((await self._consumer.end_offsets(partitions)).values()) if partitions else 0

    async def table(self, changelog: str) -> TableContent:
        """Return a table from its changelog, which is right whether or not a worker has it in hand."""
        content = TableContent()
        async for record in self.records(changelog):
            values = content.partitions.setdefault(record.partition, {})
            if record.value is None:
                values.pop(record.key, None)
            else:
                values[record.key] = record.value
        return content
