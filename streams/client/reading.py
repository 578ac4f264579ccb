"""Following a topic: its events one after the other, for as long as the reader likes."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import datetime
from typing import Any, Literal, TypeVar

from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError
from pydantic import ValidationError

from schemas.base import Event
from schemas.events import ScoreUpdate
from schemas.settings import Settings
from streams.contract import CONTRACTS
from streams.kafka.admin import partitions_of
from streams.kafka.consumer import Consumer
from streams.kafka.options import broker_errors

log = logging.getLogger("tierstream.client")

Start = Literal["earliest", "latest"] | datetime
"""Where a reader begins: at the first event that is kept, at the next one, or at a time."""

E = TypeVar("E", bound=Event)

_REMEMBERED = 10_000
_POLL_MS = 500


class Freshness:
    """Tells score updates that count from those of a former owner of the scorer, and from repetitions.

    After a crash an update can come twice with the same step; a paused former owner can still send one of a lower
    epoch. Neither may change what a reader shows.
    """

    def __init__(self) -> None:
        self.epoch = 0
        """The highest epoch seen."""
        self._seen: OrderedDict[tuple[str, str | None, str, int], None] = OrderedDict()

    def accepts(self, update: ScoreUpdate) -> bool:
        """Whether `update` is news; the last 10,000 are remembered."""
        if update.scorer_epoch < self.epoch:
            return False
        self.epoch = update.scorer_epoch
        key = (update.experience_id, update.feedback_id, update.reason, update.scorer_step)
        if key in self._seen:
            return False
        self._seen[key] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return True


async def follow(
    settings: Settings,
    topic: str,
    event: type[E],
    *,
    start: Start = "latest",
    group: str | None = None,
    idle_seconds: float | None = None,
) -> AsyncGenerator[E]:
    """Yield the events of a public topic as they come, in order within a partition.

    Args:
        settings: where the broker is.
        topic: name without the prefix.
        event: the topic's model.
        start: where to begin; with a group only where the group has read nothing yet.
        group: readers of one group share the partitions, and a new one goes on where the group stopped: an event
            counts as read once the next one is asked for. None: this reader sees everything.
        idle_seconds: end after so long without an event; None never ends.

    Raises:
        TopicsError: the topic is not there.
        ConnectionFailedError: the broker cannot be reached.
        TypeError: the topic carries other events.
    """
    if event is not CONTRACTS[topic].event:
        raise TypeError(f"{topic} carries {CONTRACTS[topic].event.__name__}, not {event.__name__}")
    with broker_errors(settings):
        consumer = await _open(settings, settings.topic(topic), start, group)
        read: dict[TopicPartition, int] = {}
        try:
            async for records in _batches(consumer, idle_seconds):
                for record in records:
                    decoded = decode(record, event)
                    if decoded is not None:
                        yield decoded
                    read[TopicPartition(record.topic, record.partition)] = record.offset + 1
                if group is not None:
                    await _commit(consumer, read)
        finally:
            if group is not None:
                await _commit(consumer, read)
            await consumer.stop()


async def _open(settings: Settings, name: str, start: Start, group: str | None) -> Consumer:
    await partitions_of(settings, name)
    consumer = await Consumer.of(
        settings,
        name,
        group_id=group,
        auto_offset_reset="latest" if start == "latest" else "earliest",
        fetch_max_wait_ms=int(settings.kafka.fetch_max_wait * 1000),
    ).__aenter__()
    try:
        if group is None:
            await _place(consumer, start)
    except BaseException:
        await consumer.stop()
        raise
    return consumer


async def _place(consumer: Consumer, start: Start) -> None:
    """Seek every partition; a reader of the latest is in place before the first event is asked for."""
    if not isinstance(start, datetime):
        for tp in consumer.assignment():
            await consumer.position(tp)
        return
    milliseconds = int(start.timestamp() * 1000)
    places = await consumer.offsets_for_times(dict.fromkeys(consumer.assignment(), milliseconds))
    for tp, place in places.items():
        if place is None:
            await consumer.seek_to_end(tp)
        else:
            consumer.seek(tp, place.offset)


async def _batches(consumer: Consumer, idle_seconds: float | None) -> AsyncIterator[list[Any]]:
    loop = asyncio.get_running_loop()
    last = loop.time()
    while idle_seconds is None or loop.time() - last < idle_seconds:
        wait_ms = _POLL_MS if idle_seconds is None else min(_POLL_MS, int(idle_seconds * 1000) + 1)
        for records in (await consumer.getmany(timeout_ms=wait_ms)).values():
            yield records
            last = loop.time()


def decode(record: Any, event: type[E]) -> E | None:
    """Return a record's event; None where it has none, and, with a line in the log, where it is none."""
    if record.value is None:
        return None
    try:
        return event.from_json(record.value)
    except ValidationError as error:
        where = f"{record.topic}[{record.partition}] offset {record.offset}"
        log.warning("%s is no %s, passed over: %s", where, event.__name__, error.errors(include_url=False)[0]["msg"])
        return None


async def _commit(consumer: Consumer, read: dict[TopicPartition, int]) -> None:
    mine = {tp: offset for tp, offset in read.items() if tp in consumer.assignment()}
    if not mine:
        return
    try:
        await consumer.commit(mine)
    except (CommitFailedError, IllegalStateError):
        log.info("the group was given out anew while an offset was committed: its events may come again")
