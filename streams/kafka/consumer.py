"""The consumer that every reader of a topic uses: aiokafka's, on what aiokafka stops at."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import FunctionType
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer import fetcher

from streams.kafka.unpacking import Batches, PartitionRecords, Unreadable

__all__ = ["Consumer", "Unreadable"]

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

    def highwater(self, partition: TopicPartition) -> int | None:
        """Return where a partition ends for this reader: before the first transaction that is still open."""
        end: int | None = super().highwater(partition)
        stable: int | None = self.last_stable_offset(partition)
        if end is None or stable is None or stable < 0 or self._isolation_level != "read_committed":
            return end
        return min(end, stable)
