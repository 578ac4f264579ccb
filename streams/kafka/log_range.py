"""Reading a stretch of a topic: from an offset or time to where the topic ended when reading began."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime

from aiokafka import TopicPartition
from aiokafka.structs import ConsumerRecord

from schemas.errors import TopicsError
from schemas.settings import Settings
from streams.kafka.admin import topic_states
from streams.kafka.consumer import Consumer
from streams.kafka.options import broker_errors, client_options
from streams.topics import TopicSpec

_POLL_MS = 500


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
        self._places: dict[TopicPartition, tuple[int, int]] = {}

    async def __aenter__(self) -> LogRange:
        [state] = await topic_states(self._settings, [TopicSpec(self._name, partitions=1)])
        if state.condition == "missing":
            raise TopicsError(f"topic {self._name} is not there", "look at topics.prefix and --bootstrap-servers")
        with broker_errors(self._settings):
            self._consumer = Consumer(
                enable_auto_commit=False, auto_offset_reset="earliest", **client_options(self._settings)
            )
            try:
                await self._consumer.start()
                await self._place([TopicPartition(self._name, number) for number in range(state.partitions)])
            except BaseException:
                await self._consumer.stop()
                raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()

    @property
    def offsets(self) -> int:
        """Count of the offsets in the stretch: its records, and those that compaction has taken out."""
        return sum(max(0, end - first) for first, end in self._places.values())

    async def __aiter__(self) -> AsyncIterator[ConsumerRecord]:
        """Yield the records, in order within a partition."""
        with broker_errors(self._settings):
            for tp, (first, end) in self._places.items():
                async for record in self._records(tp, first, end):
                    yield record

    async def _place(self, partitions: list[TopicPartition]) -> None:
        self._consumer.assign(partitions)
        firsts = await self._consumer.beginning_offsets(partitions)
        ends = await self._consumer.end_offsets(partitions)
        for tp in partitions:
            first = await self._at(tp, self._stretch.since, firsts[tp], ends[tp])
            end = await self._at(tp, self._stretch.until, await self._end(tp, ends[tp]), ends[tp])
            self._places[tp] = (first, end)

    async def _at(self, tp: TopicPartition, moment: datetime | None, otherwise: int, end: int) -> int:
        if moment is None:
            return otherwise
        found = (await self._consumer.offsets_for_times({tp: int(moment.timestamp() * 1000)}))[tp]
        return end if found is None else found.offset

    async def _end(self, tp: TopicPartition, told: int) -> int:
        """Return where a partition ends: a fetch tells, since the lite broker's ListOffsets falls short."""
        self._consumer.seek(tp, max(0, told - 1))
        await self._consumer.getmany(tp, timeout_ms=_POLL_MS)
        return max(told, self._consumer.highwater(tp) or 0)

    async def _records(self, tp: TopicPartition, first: int, end: int) -> AsyncIterator[ConsumerRecord]:
        if first >= end:
            return
        self._consumer.assign([tp])
        self._consumer.seek(tp, first)
        while await self._consumer.position(tp) < end:
            for record in (await self._consumer.getmany(tp, timeout_ms=_POLL_MS)).get(tp, []):
                if record.offset < end:
                    yield record
