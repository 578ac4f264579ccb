"""Lag from the broker itself: committed offsets against the end, in events and in seconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    NotCoordinatorForGroupError,
    OffsetOutOfRangeError,
    UnknownTopicOrPartitionError,
)

from schemas.errors import ConnectionFailedError
from schemas.settings import Settings
from streams.kafka.admin import admin_client
from streams.kafka.consumer import Consumer
from streams.topics import JOBS, ROLES, batch_topics, group

_END_TIMEOUT_SECONDS = 15.0
_COORDINATOR_TIMEOUT_SECONDS = 30.0
_POLL_MS = 50
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class PartitionLag:
    """How far a group is behind in one partition."""

    group: str
    topic: str
    partition: int
    committed: int | None
    """Next offset to process; None where the group has committed nothing yet."""
    end: int
    """Offset that the next record will get."""
    lag: int
    """Records not yet processed."""
    lag_seconds: float
    """Age of the oldest record that is not yet processed; 0 where none is."""
    deleted: int = 0
    """Offsets from the committed one on that the broker no longer has: retention took them before they were read."""


@dataclass(frozen=True, slots=True)
class _Tail:
    start: int
    """First unprocessed offset that the broker still has."""
    end: int
    oldest: float | None
    """Time of the first unprocessed record in epoch seconds, 0 where it is unknown; None where there is none."""


def trainer_group(settings: Settings) -> str:
    """Return the trainers' consumer group."""
    return f"{settings.group_id}-trainer"


def of_the_stream(settings: Settings, rows: Iterable[PartitionLag]) -> list[PartitionLag]:
    """Leave out the trainers' group, which commits a request once its job has ended: a job that runs is no lag."""
    return [row for row in rows if row.group != trainer_group(settings)]


def watched(settings: Settings) -> Mapping[str, list[str]]:
    """Return the topics that each consumer group of this deployment reads."""
    of_roles = {group(settings, role): sorted(batch_topics(settings, role)) for role in ROLES}
    return {**of_roles, trainer_group(settings): [settings.topic(JOBS)]}


async def group_members(settings: Settings) -> dict[str, int]:
    """Count the consumers alive in each group.

    Raises:
        ConnectionFailedError: the broker cannot be reached.
    """
    async with admin_client(settings) as admin:
        return {name: await _members(admin, name) for name in watched(settings)}


async def members_of(settings: Settings, group: str) -> int:
    """Count the consumers alive in a group.

    Raises:
        ConnectionFailedError: the broker cannot be reached.
    """
    async with admin_client(settings) as admin:
        return await _members(admin, group)


async def _members(admin: AIOKafkaAdminClient, group: str) -> int:
    """Ask for one group at a time: aiokafka misreads an answer for several."""
    answers = [response.to_object() for response in await admin.describe_consumer_groups([group])]
    return sum(len(found["members"]) for answer in answers for found in answer["groups"])


async def committed_offsets(settings: Settings, group: str, topics: Iterable[str]) -> dict[TopicPartition, int | None]:
    """Return what a group has committed, by partition of the topics that are there.

    Raises:
        ConnectionFailedError: the broker cannot be reached.
    """
    async with admin_client(settings) as admin:
        there = {t["topic"]: len(t["partitions"]) for t in await admin.describe_topics() if t["error_code"] == 0}
        return await _committed(admin, group, topics, there)


async def measure_lag(settings: Settings) -> list[PartitionLag]:
    """Measure the lag of every group of this deployment; topics that do not exist are left out.

    Raises:
        ConnectionFailedError: the broker cannot be reached or does not tell.
    """
    async with admin_client(settings) as admin:
        there = {t["topic"]: len(t["partitions"]) for t in await admin.describe_topics() if t["error_code"] == 0}
        committed = {
            (group, partition): offset
            for group, topics in watched(settings).items()
            for partition, offset in (await _committed(admin, group, topics, there)).items()
        }
        if not committed:
            return []
        # A partition that nothing waits in has to be asked for its end all the same.
        async with Consumer.of(settings, max_partition_fetch_bytes=1, fetch_max_wait_ms=_POLL_MS) as consumer:
            # Groups may read the same topic from different offsets, and a consumer has one position in each.
            tails = {
                group: await _tails(consumer, {tp: o for (g, tp), o in committed.items() if g == group})
                for group in watched(settings)
            }
    now = time.time()
    return [_row(group, tp, offset, tails[group][tp], now) for (group, tp), offset in committed.items()]


async def _committed(
    admin: AIOKafkaAdminClient, group: str, topics: Iterable[str], there: Mapping[str, int]
) -> dict[TopicPartition, int | None]:
    # Named partitions, since lite does not answer for all of them.
    wanted = [TopicPartition(topic, p) for topic in topics for p in range(there.get(topic, 0))]
    if not wanted:
        return {}
    offsets = await _with_coordinator(lambda: admin.list_consumer_group_offsets(group, partitions=wanted))
    return {tp: offsets[tp].offset if tp in offsets and offsets[tp].offset >= 0 else None for tp in wanted}


async def _with_coordinator(ask: Callable[[], Awaitable[_T]]) -> _T:
    """Ask until the broker has a coordinator: a new one makes its offsets topic only when first asked."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _COORDINATOR_TIMEOUT_SECONDS
    while True:
        try:
            return await ask()
        except (GroupCoordinatorNotAvailableError, NotCoordinatorForGroupError, GroupLoadInProgressError):
            if loop.time() > deadline:
                raise
        await asyncio.sleep(_POLL_MS / 1000)


async def _tails(consumer: Consumer, committed: Mapping[TopicPartition, int | None]) -> dict[TopicPartition, _Tail]:
    """Fetch once at each committed offset: the answer tells the oldest waiting record and the true end.

    A fetch's high watermark is the end on every broker; lite's `ListOffsets` falls short of it.
    """
    if not committed:  # a group none of whose topics exist
        return {}
    consumer.assign(list(committed))
    starts = await consumer.beginning_offsets(list(committed))
    for tp, offset in committed.items():
        starts[tp] = max(offset or 0, starts[tp])
        consumer.seek(tp, starts[tp])
    oldest: dict[TopicPartition, float] = {}
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _END_TIMEOUT_SECONDS
    waiting = set(committed)
    while waiting:
        if loop.time() > deadline:
            raise ConnectionFailedError(f"the broker does not tell the end of {min(waiting).topic}", "look at its log")
        try:
            records = await consumer.getmany(*waiting, timeout_ms=_POLL_MS)
        except (OffsetOutOfRangeError, UnknownTopicOrPartitionError) as error:
            raise ConnectionFailedError(f"offsets changed while the lag was measured: {error}", "try again") from error
        oldest |= {tp: batch[0].timestamp / 1000 for tp, batch in records.items() if batch and tp in waiting}
        # Behind an offset there may be nothing but the markers of transactions: then nothing waits.
        done = {tp for tp in waiting if tp in oldest or _is_empty(consumer.highwater(tp), await consumer.position(tp))}
        # A fetch this small brings records of one partition only, the first that has any: so those known step aside.
        consumer.pause(*done)
        waiting -= done
    return {tp: _Tail(starts[tp], consumer.highwater(tp) or 0, oldest.get(tp)) for tp in committed}


def _is_empty(end: int | None, position: int) -> bool:
    return end is not None and end <= position


def _row(group: str, tp: TopicPartition, committed: int | None, tail: _Tail, now: float) -> PartitionLag:
    lag = max(0, tail.end - tail.start) if tail.oldest is not None else 0
    seconds = max(0.0, now - tail.oldest) if lag and tail.oldest else 0.0
    deleted = 0 if committed is None else max(0, tail.start - committed)
    return PartitionLag(group, tp.topic, tp.partition, committed, tail.end, lag, round(seconds, 3), deleted)


def beyond(rows: Iterable[PartitionLag], max_lag: int | None, max_seconds: float | None) -> list[PartitionLag]:
    """Return the partitions that are further behind than allowed, the furthest first; None allows any."""
    late = (
        row
        for row in rows
        if (max_lag is not None and row.lag > max_lag) or (max_seconds is not None and row.lag_seconds > max_seconds)
    )
    return sorted(late, key=lambda row: (-row.lag_seconds, -row.lag))
