"""The topic `scorer-log` as its readers see it: every record decoded, in order, and none left out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from tempfile import TemporaryDirectory
from typing import NamedTuple, Self

from aiokafka import ConsumerRecord, TopicPartition

from schemas.errors import InputError, LogError
from schemas.records import Configure, Joined, LogRecord, ScorerEntry, decode_log, encode_log
from schemas.settings import Settings
from streams import topics
from streams.kafka.consumer import Consumer
from streams.kafka.options import client_options
from streams.kafka.publisher import Outgoing, Publisher, Receipt
from streams.state.features import FeatureStore
from trainers.scorer.log_settings import learning_settings

_FETCH_BYTES = 8 * 1024 * 1024
_MANY_RECORDS = 20_000
_CLOCK_MARGIN_SECONDS = 3600.0


class LogItem(NamedTuple):
    """A record where it lies."""

    offset: int
    at: float
    """Broker time in epoch seconds."""
    record: LogRecord


def item_of(record: ConsumerRecord[bytes, bytes]) -> LogItem:
    """Decode a record.

    Raises:
        LogError: it cannot be read; names its offset.
    """
    try:
        return LogItem(record.offset, record.timestamp / 1000, decode_log(record.value or b""))
    except ValueError as error:
        raise LogError(
            f"scorer-log has a record at offset {record.offset} that cannot be read: {error}",
            "nothing of it may be skipped: see 'A record of scorer-log' in docs/troubleshooting.md",
        ) from error


class LogReader:
    """Reads the log beside the stream, in no consumer group's turn; an async context manager.

    Args:
        settings: names the deployment.
        name: of the topic, another one of one partition where an upgrade reads the log of before.
    """

    def __init__(self, settings: Settings, name: str = topics.SCORER_LOG) -> None:
        self._tp = TopicPartition(settings.topic(name), 0)
        # With a group's name and partitions of its own choice a consumer can ask for offsets, and takes none's place.
        self._consumer = Consumer.of(
            settings, group_id=topics.group(settings, "scorer"), max_partition_fetch_bytes=_FETCH_BYTES
        )

    async def __aenter__(self) -> Self:
        await self._consumer.__aenter__()
        self._consumer.assign([self._tp])
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()

    async def committed(self) -> int:
        """Return the offset up to which scorers have published; 0 before the first commit."""
        return await self._consumer.committed(self._tp) or 0

    async def first(self) -> int:
        """Return the first offset that the topic holds."""
        return int((await self._consumer.beginning_offsets([self._tp]))[self._tp])

    async def end(self) -> int:
        """Return where the topic ends."""
        return int((await self._consumer.end_offsets([self._tp]))[self._tp])

    async def recent_start(self, end: int, retention: float) -> int:
        """Return an offset from which on there is every arrival that feedback from `end` on can refer to.

        It is a little early, by the clocks' differences, and 0 where there is not much to read.
        """
        if end < _MANY_RECORDS:
            return 0
        async for [last, *_] in self.raw(end - 1, end):
            since_ms = last.timestamp - int((retention + _CLOCK_MARGIN_SECONDS) * 1000)
            found = (await self._consumer.offsets_for_times({self._tp: max(0, since_ms)}))[self._tp]
            return 0 if found is None else int(found.offset)
        return 0

    async def read(self, start: int, end: int | None) -> AsyncIterator[list[LogItem]]:
        """Yield the records from `start` up to `end`, or to where the log ends now, in chunks that are not empty.

        Raises:
            InputError: the topic no longer holds `start`.
            LogError: a record cannot be read.
        """
        if (first := await self.first()) > start:
            raise InputError(
                f"{self._tp.topic} starts at offset {first}, and {start} is needed: what was before is gone",
                "keep the topic's retention at forever",
            )
        async for records in self.raw(start, end):
            yield [item_of(record) for record in records]

    async def raw(self, start: int, end: int | None) -> AsyncIterator[list[ConsumerRecord[bytes, bytes]]]:
        """Yield raw records likewise."""
        async for records in self._consumer.read({self._tp: (start, None)}):
            if wanted := [record for record in records if end is None or record.offset < end]:
                yield wanted
            if end is not None and records[-1].offset + 1 >= end:
                return


async def complete_entries(
    settings: Settings, end: int | None = None
) -> AsyncIterator[list[tuple[int, list[ScorerEntry]]]]:
    """Yield what the join decided from the log's start: offsets and entries with all features, in chunks.

    Raises:
        InputError: the topic no longer holds its first record.
        LogError: a record cannot be read.
    """
    with TemporaryDirectory(prefix="tierstream-features-") as folder:
        store = FeatureStore(folder, settings.join.retention)
        try:
            async with LogReader(settings) as log:
                async for items in log.read(0, end):
                    yield [(item.offset, complete(store, item)) for item in items if isinstance(item.record, Joined)]
        finally:
            store.close()


def complete(store: FeatureStore, item: LogItem) -> list[ScorerEntry]:
    """Keep the features that a record brings, and return its entries with theirs."""
    entries: Sequence[ScorerEntry] = item.record.entries if isinstance(item.record, Joined) else ()
    store.keep(entries, item.offset + 1)
    return store.fill(entries)


async def begin_log(settings: Settings) -> None:
    """See that the log begins with the settings that the scorer learns with, before anything is joined.

    Two workers that start at the same time may both write them, which changes nothing.
    """
    async with LogReader(settings) as log:
        async for _ in log.raw(0, 1):
            return
    publisher = Publisher(client_options(settings))
    await publisher.start()
    try:
        await publish_control(settings, publisher, Configure(learning_settings(settings.scorer)))
    finally:
        await publisher.stop()


async def publish_control(settings: Settings, publisher: Publisher, control: LogRecord) -> Receipt:
    """Write a control record and wait until the broker has it."""
    [receipt] = await publisher.publish([Outgoing(settings.topic(topics.SCORER_LOG), 0, None, encode_log(control))])
    return receipt
