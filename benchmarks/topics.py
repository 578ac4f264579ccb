"""Reading topics from outside, without a group, and waiting until everything is processed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer

from schemas.settings import Settings
from streams.kafka.lag import PartitionLag, measure_lag, trainer_group
from streams.kafka.options import client_options

_FETCH_BYTES = 4 * 1024 * 1024
_POLL_MS = 100


class Record(NamedTuple):
    """What is read of a record."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes


@asynccontextmanager
async def reader(
    settings: Settings, topic: str, starts: Mapping[int, int] | None = None, *, committed: bool = False
) -> AsyncIterator[AIOKafkaConsumer]:
    """Open a consumer of every partition of `topic` (name without prefix).

    Args:
        settings: where the broker is.
        topic: name without the prefix.
        starts: first offset to read of each partition; the first that there is by default.
        committed: whether to pass over what a transaction has not committed.
    """
    consumer = AIOKafkaConsumer(
        settings.topic(topic),
        **client_options(settings),
        isolation_level="read_committed" if committed else "read_uncommitted",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=_FETCH_BYTES,
        fetch_max_wait_ms=20,
    )
    await consumer.start()
    try:
        for tp in consumer.assignment():
            if starts is not None:
                consumer.seek(tp, starts[tp.partition])
        yield consumer
    finally:
        await consumer.stop()


async def ends(settings: Settings, topic: str) -> dict[int, int]:
    """Return the offset that the next record of each partition will get, on Apache Kafka."""
    async with reader(settings, topic) as consumer:
        found = await consumer.end_offsets(list(consumer.assignment()))
    return {tp.partition: offset for tp, offset in found.items()}


async def read_all(settings: Settings, topic: str, starts: Mapping[int, int] | None = None) -> list[Record]:
    """Return every record of `topic` from `starts` on that is there now, partition by partition."""
    records: list[Record] = []
    async with reader(settings, topic, starts) as consumer:
        # A fetch's high watermark is the end on every broker; lite's ListOffsets falls short of it.
        while not all([await _at_end(consumer, tp) for tp in consumer.assignment()]):
            for batch in (await consumer.getmany(timeout_ms=_POLL_MS)).values():
                records += [Record(r.partition, r.offset, r.timestamp, r.key, r.value) for r in batch]
    return sorted(records, key=lambda record: (record.partition, record.offset))


async def wait_until_processed(
    settings: Settings, timeout_seconds: float, say: Callable[[str], None], every_seconds: float = 1.0
) -> None:
    """Wait until the workers' group has no lag anywhere, which is measured `every_seconds`.

    One measurement is enough: committed offsets are read before the ends, and what an agent commits has been
    published, so a hop that is still to be read shows as lag of the next topic.

    Raises:
        TimeoutError: it still has lag after the time.
    """
    deadline = time.monotonic() + timeout_seconds
    while behind := [row for row in await measure_lag(settings) if row.group != trainer_group(settings) and row.lag]:
        if time.monotonic() > deadline:
            raise TimeoutError(f"lag after {timeout_seconds:g} s: {_named(behind)}")
        say(_named(behind))
        await asyncio.sleep(every_seconds)


async def _at_end(consumer: AIOKafkaConsumer, tp: object) -> bool:
    end = consumer.highwater(tp)
    return end is not None and await consumer.position(tp) >= end


def _named(rows: Sequence[PartitionLag]) -> str:
    totals: dict[str, int] = {}
    for row in rows:
        totals[row.topic] = totals.get(row.topic, 0) + row.lag
    return "to be processed: " + ", ".join(f"{topic} {lag:,}" for topic, lag in totals.items())
