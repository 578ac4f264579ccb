"""Reading the scorer's retained topics from outside of the agent that learns from them.

`complete_entries` is the one way to read scorer entries as the learner takes them: a feedback's features came with its
experience's arrival, earlier in the topic, and are filled in here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from tempfile import TemporaryDirectory

from aiokafka import ConsumerRecord, TopicPartition

from schemas.errors import InputError
from schemas.records import ScorerEntry
from schemas.settings import Settings
from streams import topology
from streams.consumer import Consumer
from streams.feature_store import Entries, FeatureStore
from streams.kafka_options import client_options

_FETCH_BYTES = 8 * 1024 * 1024
_MANY_ENTRIES = 100_000
_CLOCK_MARGIN_SECONDS = 3600.0


async def complete_entries(settings: Settings, end: int | None = None) -> AsyncIterator[Entries]:
    """Yield the topic's entries from its start, in order, in chunks, with all features; unreadable ones are left out.

    Args:
        settings: names the deployment.
        end: offset to stop before; None is the topic's end as of now.

    Raises:
        InputError: the topic no longer holds its first record.
    """
    with TemporaryDirectory(prefix="tierstream-features-") as folder:
        store = FeatureStore(folder, settings.join.retention)
        try:
            async for after, entries in read_entries(settings, 0, end):
                store.keep(entries, after)
                yield store.fill(entries)
        finally:
            store.close()


async def read_entries(
    settings: Settings, start: int, end: int | None, *, strict: bool = True
) -> AsyncIterator[tuple[int, Entries]]:
    """Yield chunks of the topic's entries as they lie, each with the offset after it.

    Raises:
        InputError: the topic no longer holds `start`, and `strict` asks for it.
    """
    async for records in read_chunks(settings, topology.SCORER_ENTRIES, start, end, strict=strict):
        entries: Entries = []
        for record in records:
            try:
                entries.append((record.offset, ScorerEntry.decode(record.value or b"")))
            except (ValueError, KeyError, TypeError):
                continue  # the worker sets it aside
        yield records[-1].offset + 1, entries


async def recent_start(settings: Settings, end: int) -> int:
    """Return an offset of the entries from which on there is every arrival that feedback from `end` on can refer to.

    It is a little early, by the clocks' differences, and 0 where there is not much to read.
    """
    if end < _MANY_ENTRIES:
        return 0
    partition = TopicPartition(settings.topic(topology.SCORER_ENTRIES), 0)
    async for [last, *_] in read_chunks(settings, topology.SCORER_ENTRIES, end - 1, end, strict=False):
        async with Consumer(enable_auto_commit=False, **client_options(settings)) as consumer:
            since_ms = last.timestamp - int((settings.join.retention + _CLOCK_MARGIN_SECONDS) * 1000)
            found = (await consumer.offsets_for_times({partition: max(0, since_ms)}))[partition]
        return 0 if found is None else int(found.offset)
    return 0


async def read_chunks(
    settings: Settings, name: str, start: int, end: int | None, *, strict: bool = True
) -> AsyncIterator[list[ConsumerRecord[bytes, bytes]]]:
    """Yield a one-partition topic's records from `start` up to `end`, or to where it ends now; no chunk is empty.

    Raises:
        InputError: the topic no longer holds `start`, and `strict` asks for it.
    """
    partition = TopicPartition(settings.topic(name), 0)
    async with Consumer(
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=_FETCH_BYTES,
        **client_options(settings),
    ) as consumer:
        consumer.assign([partition])
        first = (await consumer.beginning_offsets([partition]))[partition]
        if strict and first > start:
            raise InputError(
                f"{partition.topic} starts at offset {first}: what was before is gone",
                "a replay needs them all: keep topics.retention at forever",
            )
        position = max(start, first)
        consumer.seek(partition, position)
        while end is None or position < end:
            fetched = (await consumer.getmany(partition, timeout_ms=1000)).get(partition, [])
            if fetched:
                position = fetched[-1].offset + 1
                if wanted := [record for record in fetched if end is None or record.offset < end]:
                    yield wanted
            # The high watermark comes with a fetch; the end that ListOffsets tells can fall short on the lite broker.
            elif position >= (consumer.highwater(partition) or 0):
                return
