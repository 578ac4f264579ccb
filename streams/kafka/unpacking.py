"""Record batches that aiokafka cannot unpack: what can be read of them, and a placeholder for the rest.

aiokafka raises, and fetches the same batch again at the next start, for ever. Here each record that can be read is
read; a header's name that is not UTF-8 costs that name only.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct
from typing import Any

from aiokafka.codec import gzip_decode, lz4_decode, snappy_decode, zstd_decode
from aiokafka.consumer import fetcher
from aiokafka.record import memory_records
from aiokafka.record.util import calc_crc32c, decode_varint
from aiokafka.structs import ConsumerRecord, TopicPartition

log = logging.getLogger("tierstream.consumer")

_LOG_OVERHEAD = Struct(">qi")
"""Base offset, and the length of what follows."""
_HEADER = Struct(">qiibIhiqqqhii")
"""Base offset, length, leader epoch, magic, CRC, attributes, last offset's delta, first and last time, producer's id,
epoch and first sequence, count of records: the Kafka protocol's record batch, version 2."""
_CRC_COVERS_FROM = 21
_MAGIC = 2
_LOG_APPEND_TIME = 0x08
_DECODERS = {0: bytes, 1: gzip_decode, 2: snappy_decode, 3: lz4_decode, 4: zstd_decode}
_MOST_RECORDS = 1_000_000
"""A last offset's delta beyond it is damaged: no batch that a broker takes holds as many records."""


@dataclass
class Unreadable(ConsumerRecord[bytes, bytes]):  # type: ignore[misc]
    """Stands for the records of one batch from `offset` on that cannot be read: neither key nor value."""

    after: int = 0
    """Offset of the first record behind them."""
    reason: str = ""
    """What is known, in one line: which offsets, and why."""


class Batches:
    """The batches of one fetch, as aiokafka reads them, with the bytes that they come from."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        batches = memory_records.MemoryRecords(data)
        self.has_next, self.next_batch, self.size_in_bytes = (
            batches.has_next,
            batches.next_batch,
            batches.size_in_bytes,
        )

    def from_offset(self, offset: int) -> tuple[bytes, Batches]:
        """Return the first batch that ends after `offset`, and those after it."""
        position = 0
        while position + _LOG_OVERHEAD.size <= len(self.data):
            _, length = _LOG_OVERHEAD.unpack_from(self.data, position)
            end = position + _LOG_OVERHEAD.size + max(length, 0)
            if end == position + _LOG_OVERHEAD.size or _after(self.data[position:end]) > offset:
                return self.data[position:end], Batches(self.data[end:] if length > 0 else b"")
            position = end
        return b"", Batches(b"")


class PartitionRecords(fetcher.PartitionRecords):  # type: ignore[misc]
    """The records of one fetch; goes on after a batch that cannot be unpacked."""

    _records: Batches
    next_fetch_offset: int

    def _unpack_records(self) -> Iterator[ConsumerRecord[bytes, bytes]]:
        while True:
            try:
                yield from super()._unpack_records()
            except Exception as error:  # noqa: BLE001 - decompressors have no error in common
                batch, self._records = self._records.from_offset(self.next_fetch_offset)
                start = self.next_fetch_offset
                for record in read_batch(self._tp, batch, start, repr(error)):
                    self.next_fetch_offset = record.after if isinstance(record, Unreadable) else record.offset + 1
                    yield record
                self.next_fetch_offset = max(start + 1, self.next_fetch_offset, _after(batch))
            else:
                return


def read_batch(tp: TopicPartition, batch: bytes, start: int, reason: str) -> list[ConsumerRecord[bytes, bytes]]:
    """Return what can be read of a batch from offset `start` on, and one `Unreadable` for each place that cannot.

    Args:
        tp: where it lies.
        batch: its bytes.
        start: offsets before it are left out.
        reason: why aiokafka refused it.
    """
    after = max(start + 1, _after(batch))
    if len(batch) >= _LOG_OVERHEAD.size:
        start = max(start, min(_LOG_OVERHEAD.unpack_from(batch)[0], after - 1))
    if len(batch) < _HEADER.size or batch[16] != _MAGIC:
        return [_unreadable(tp, start, after, 0, reason)]
    header = _HEADER.unpack_from(batch)
    crc, attributes, last_time = header[4], header[5], header[8]
    if calc_crc32c(batch[_CRC_COVERS_FROM:]) != crc:
        return [_unreadable(tp, start, after, 0, "the checksum of their batch is wrong")]
    decode = _DECODERS.get(attributes & 0x07)
    if decode is None:
        reason = f"their batch is compressed by codec {attributes & 0x07}, which is unknown"
        return [_unreadable(tp, start, after, last_time, reason)]
    try:
        data = decode(batch[_HEADER.size :])
    except Exception as error:  # noqa: BLE001 - decompressors have no error in common
        return [_unreadable(tp, start, after, last_time, f"their batch cannot be decompressed: {error!r}")]
    return [record for record in _read_records(tp, header, data, after) if record.offset >= start]


def _read_records(
    tp: TopicPartition, header: tuple[Any, ...], data: bytes, after: int
) -> Iterator[ConsumerRecord[bytes, bytes]]:
    base, attributes, first_time, last_time, count = header[0], header[5], header[7], header[8], header[12]
    buffer, position, offset = bytearray(data), 0, base
    for _ in range(count):
        try:
            length, begins = decode_varint(buffer, position)
            ends = begins + length
            if length <= 0 or ends > len(buffer):
                raise ValueError(f"a record of {length} bytes")
        except (ValueError, IndexError) as error:
            yield _unreadable(tp, offset, after, last_time, f"the rest of their batch is damaged: {error!r}")
            return
        try:
            delta, offset_delta, key, value, headers = _read_record(buffer, begins, ends)
        except (ValueError, IndexError) as error:
            yield _unreadable(tp, offset, offset + 1, last_time, f"it is damaged: {error!r}")
        else:
            offset = base + offset_delta
            time = last_time if attributes & _LOG_APPEND_TIME else first_time + delta
            sizes = (-1 if key is None else len(key), -1 if value is None else len(value))
            kind = int(bool(attributes & _LOG_APPEND_TIME))
            yield ConsumerRecord(tp.topic, tp.partition, offset, time, kind, key, value, None, *sizes, headers)
        position, offset = ends, offset + 1


def _read_record(
    buffer: bytearray, position: int, end: int
) -> tuple[int, int, bytes | None, bytes | None, tuple[tuple[str, bytes], ...]]:
    """Return time and offset, each since the batch's first, then key, value and headers.

    Raises:
        ValueError: it does not end where its length says.
        IndexError: it goes on beyond the batch.
    """
    delta, position = decode_varint(buffer, position + 1)
    offset_delta, position = decode_varint(buffer, position)
    key, position = _read_bytes(buffer, position, end)
    value, position = _read_bytes(buffer, position, end)
    count, position = decode_varint(buffer, position)
    headers = []
    for _ in range(count):
        name, position = _read_bytes(buffer, position, end)
        content, position = _read_bytes(buffer, position, end)
        headers.append(((name or b"").decode("utf-8", "replace"), content or b""))
    if position != end:
        raise ValueError(f"it ends {end - position} bytes before its length says")
    return delta, offset_delta, key, value, tuple(headers)


def _read_bytes(buffer: bytearray, position: int, end: int) -> tuple[bytes | None, int]:
    length, position = decode_varint(buffer, position)
    if length < 0:
        return None, position
    if position + length > end:
        raise ValueError(f"a field of {length} bytes")
    return bytes(buffer[position : position + length]), position + length


def _unreadable(tp: TopicPartition, first: int, after: int, time: int, why: str) -> Unreadable:
    which = f"offset {first}" if after == first + 1 else f"offsets {first} to {after - 1}"
    reason = f"{which} cannot be read: {why}"
    log.error("%s[%d]: %s", tp.topic, tp.partition, reason)
    return Unreadable(tp.topic, tp.partition, first, time, 0, None, None, None, -1, -1, (), after, reason)


def _after(batch: bytes) -> int:
    """Return the offset after a batch, or after its first record where it does not say that credibly."""
    if len(batch) < _HEADER.size:
        return _LOG_OVERHEAD.unpack_from(batch)[0] + 1 if len(batch) >= _LOG_OVERHEAD.size else 0
    base, delta = _LOG_OVERHEAD.unpack_from(batch)[0], _HEADER.unpack_from(batch)[6]
    return int(base + 1 + (delta if 0 <= delta < _MOST_RECORDS else 0))
