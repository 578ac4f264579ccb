"""The consumer that every reader of a topic uses: aiokafka's, that reads on where aiokafka would stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from types import FunctionType
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.consumer import fetcher

from schemas.settings import Settings
from streams.kafka.options import client_options
from streams.kafka.unpacking import Batches, PartitionRecords, Unreadable

__all__ = ["Consumer", "Spans", "Unreadable"]

_POLL_MS = 60

Spans = Mapping[TopicPartition, tuple[int | None, int | None]]
"""Partitions with the first offset to read, and the end, None for today's. Without a first one a reading of the same
partitions as the one before goes on from there; any other begins with what the broker holds first."""

METADATA_MAX_AGE_MS = 5000
"""A broker that starts again may not know its topics yet when a group shares them out, and then nobody reads them until
the next look (aiokafka: 5 minutes), which finds them and has them shared out again."""


def _with(function: Callable[..., Any], **names: Any) -> Any:
    """Return the same function with other globals; aiokafka has no place to hand its parts in."""
    assert isinstance(function, FunctionType)
    changed = FunctionType(function.__code__, {**function.__globals__, **names}, function.__name__)
    changed.__kwdefaults__, changed.__defaults__ = function.__kwdefaults__, function.__defaults__
    return changed


class _Fetcher(fetcher.Fetcher):  # type: ignore[misc]
    _unpacking_request = _with(
        fetcher.Fetcher._proc_fetch_request, MemoryRecords=Batches, PartitionRecords=PartitionRecords
    )

    async def _proc_fetch_request(self, *request: Any) -> bool:
        try:
            return bool(await self._unpacking_request(*request))
        except asyncio.CancelledError:
            # As aiokafka returns where the request is cancelled, but not where the pause after a failed one is: that
            # would end the thread of a consumer that stops, which nobody is told.
            return False


class Consumer(AIOKafkaConsumer):  # type: ignore[misc]
    """Yields an `Unreadable` in place of records that cannot be unpacked, and no records of aborted transactions.

    Args:
        topics: as aiokafka takes them.
        options: as aiokafka takes them; `isolation_level` is `read_committed` and `metadata_max_age_ms` 5 s unless
            they are given.
    """

    start = _with(AIOKafkaConsumer.start, Fetcher=_Fetcher)

    def __init__(self, *topics: str, **options: Any) -> None:
        ours = {"isolation_level": "read_committed", "metadata_max_age_ms": METADATA_MAX_AGE_MS}
        super().__init__(*topics, **{**ours, **options})

    @classmethod
    def of(cls, settings: Settings, *topics: str, **options: Any) -> Self:
        """Return a consumer of this deployment's broker that commits only when told, and starts at the first record.

        Raises:
            SettingsError: a certificate or the file of the password cannot be used.
        """
        ours = {"enable_auto_commit": False, "auto_offset_reset": "earliest", **client_options(settings)}
        return cls(*topics, **{**ours, **options})

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def read(self, spans: Spans) -> AsyncIterator[list[ConsumerRecord[bytes, bytes]]]:
        """Yield the records of the spans, each time some of one partition, in order, then end."""
        if not spans:
            return
        if self.assignment() != set(spans):
            self.assign(list(spans))
        for tp, (first, _) in spans.items():
            # What a reading before has seen is no end of this one.
            self._subscription.subscription.assignment.state_value(tp).highwater = None
            if first is not None:
                self.seek(tp, first)
        ends = {tp: end for tp, (_, end) in spans.items() if end is not None}
        reading = set(spans)
        while reading:
            for tp, records in (await self.getmany(*reading, timeout_ms=_POLL_MS)).items():
                if wanted := [record for record in records if tp not in ends or record.offset < ends[tp]]:
                    yield wanted
            for tp in list(reading):
                # The high watermark comes with a fetch; what ListOffsets says can fall short on the lite broker.
                if tp not in ends and (known := self.highwater(tp)) is not None:
                    ends[tp] = known
                if tp in ends and await self.position(tp) >= ends[tp]:
                    reading.discard(tp)

    def highwater(self, partition: TopicPartition) -> int | None:
        """Return where a partition ends for this reader: before the first transaction that is still open."""
        end: int | None = super().highwater(partition)
        stable: int | None = self.last_stable_offset(partition)
        if end is None or stable is None or stable < 0 or self._isolation_level != "read_committed":
            return end
        return min(end, stable)
