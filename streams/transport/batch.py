"""The value that an agent on a batched topic receives, and the Faust message that carries it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from aiokafka.structs import ConsumerRecord
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from streams.transport.offsets import Chunk

Record: TypeAlias = "ConsumerRecord[bytes, bytes]"
"""A raw record: `offset`, `timestamp` (ms), `key`, `value`, `headers`."""


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """Consecutive records of one partition, in offset order; never empty."""

    topic: str
    """Name on the broker."""
    partition: int
    """Also the partition of a table write made while this batch is the current event."""
    records: Sequence[Record]
    """Raw records; their offsets grow, with gaps where the log has them."""


class ChunkMessage(ConsumerMessage):  # type: ignore[misc]
    """A Faust message whose acknowledgement marks its chunk in the ledger.

    Faust keeps acknowledged offsets by number, so that one from before a rebalance counts for a redelivery after
    it. Here an acknowledgement belongs to the very delivery it answers. One that comes although no stream took the
    message counts for nothing: Faust's Python stream acknowledges what it skips while the flow is suspended.
    """

    def __init__(self, chunk: Chunk, on_acknowledged: Callable[[], None], *args: Any, **kwargs: Any) -> None:
        self.chunk = chunk
        self._on_acknowledged = on_acknowledged
        self._acked = False
        super().__init__(*args, **kwargs)

    @property
    def acked(self) -> bool:
        """Whether every stream is done with the message."""
        return self._acked

    @acked.setter
    def acked(self, done: bool) -> None:
        self._acked = done
        if done and self.tracked:
            self.chunk.acknowledge()
            self._on_acknowledged()


def batch_message(
    tp: TP, records: Sequence[Record], chunk: Chunk, on_acknowledged: Callable[[], None], generation: int
) -> ChunkMessage:
    """Wrap `records` as one message: no key, the last record's offset and timestamp."""
    last = records[-1]
    batch = RecordBatch(tp.topic, tp.partition, records)
    return _message(tp, last, None, batch, (), chunk, on_acknowledged, generation)


def record_message(
    tp: TP, record: Record, chunk: Chunk, on_acknowledged: Callable[[], None], generation: int
) -> ChunkMessage:
    """Wrap one record as Faust does."""
    return _message(tp, record, record.key, record.value, record.headers, chunk, on_acknowledged, generation)


def _message(
    tp: TP,
    record: Record,
    key: bytes | None,
    value: Any,
    headers: Any,
    chunk: Chunk,
    on_acknowledged: Callable[[], None],
    generation: int,
) -> ChunkMessage:
    return ChunkMessage(
        chunk,
        on_acknowledged,
        tp.topic,
        tp.partition,
        record.offset,
        record.timestamp / 1000.0 if record.timestamp is not None else None,
        record.timestamp_type,
        headers,
        key,
        value,
        record.checksum,
        record.serialized_key_size,
        record.serialized_value_size,
        tp,
        generation_id=generation,
    )
