"""Reading a stretch of a topic: from an offset or time to where the topic ended when reading began."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from aiokafka import TopicPartition
from aiokafka.structs import ConsumerRecord

from schemas.settings import Settings
from streams.kafka.admin import partitions_of
from streams.kafka.consumer import Consumer
from streams.kafka.options import broker_errors


@dataclass(frozen=True, slots=True)
class TimeRange:
    """Which part of a topic; broker time, `since` included and `until` not."""

    since: datetime | None = None
    """None: from the first record that is kept."""
    until: datetime | None = None
    """None: to the end."""


class LogRange:
    """The records of a stretch of a topic, every partition; an async context manager.

    Args:
        settings: where the broker is.
        topic: name without the prefix.
        stretch: which part.

    Raises:
        TopicsError: the topic is not there.
        ConnectionFailedError: the broker cannot be reached.
    """

    def __init__(self, settings: Settings, topic: str, stretch: TimeRange) -> None:
        self._settings = settings
        self._name = settings.topic(topic)
        self._stretch = stretch
        self._spans: dict[TopicPartition, tuple[int, int | None]] = {}
        self.offsets = 0
        """Count of the offsets in the stretch: its records, and those that compaction has taken out."""

    async def __aenter__(self) -> Self:
        count = await partitions_of(self._settings, self._name)
        with broker_errors(self._settings):
            self._consumer = await Consumer.of(self._settings).__aenter__()
            try:
                await self._find([TopicPartition(self._name, number) for number in range(count)])
            except BaseException:
                await self._consumer.stop()
                raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()

    async def __aiter__(self) -> AsyncIterator[ConsumerRecord]:
        """Yield the records, in order within a partition."""
        with broker_errors(self._settings):
            async for records in self._consumer.read(self._spans):
                for record in records:
                    yield record

    async def _find(self, partitions: list[TopicPartition]) -> None:
        firsts = await self._consumer.beginning_offsets(partitions)
        ends = await self._consumer.end_offsets(partitions)
        since, until = [await self._at(moment, partitions) for moment in (self._stretch.since, self._stretch.until)]
        for tp in partitions:
            first, end = (firsts if since is None else since)[tp], None if until is None else until[tp]
            if first is not None:  # else all that is there is older
                self._spans[tp] = first, end
                self.offsets += max(0, (ends[tp] if end is None else end) - first)

    async def _at(
        self, moment: datetime | None, partitions: list[TopicPartition]
    ) -> dict[TopicPartition, int | None] | None:
        """Return the first offset of each partition from a moment on, None where there is none."""
        if moment is None:
            return None
        found = await self._consumer.offsets_for_times(dict.fromkeys(partitions, int(moment.timestamp() * 1000)))
        return {tp: None if place is None else place.offset for tp, place in found.items()}
