"""What is read of batches that aiokafka stops at."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.structs import TopicPartition

from streams.kafka.unpacking import Batches, PartitionRecords, Unreadable
from tests.raw_batches import BAD_NAME, NAME, at, batch, changed, with_codec

TP = TopicPartition("feedback", 3)
NONE, GZIP, SNAPPY, LZ4, ZSTD = range(5)


def read(*batches: bytes, start: int = 0) -> tuple[list[Any], int]:
    """Return the records of one fetch, and where the next one starts."""
    records = PartitionRecords(TP, Batches(b"".join(map(bytes, batches))), None, start, None, None, True, 1)
    return list(records), records.next_fetch_offset


def values(records: list[Any]) -> list[Any]:
    return [record.reason if isinstance(record, Unreadable) else record.value for record in records]


def damaged(data: bytearray, position: int) -> bytearray:
    result = bytearray(data)
    result[position] ^= 0x55
    return result


@pytest.mark.parametrize("codec", [NONE, GZIP, SNAPPY, LZ4, ZSTD])
def test_every_codec_is_read(codec: int) -> None:
    records, after = read(batch([b"a" * 100, b"b"], codec=codec), at(batch([b"c"], codec=codec), 2))
    assert (values(records), after) == ([b"a" * 100, b"b", b"c"], 3)


def test_an_unknown_codec_is_named_and_the_next_batch_is_read() -> None:
    records, after = read(with_codec(batch([b"a", b"b"]), 7), at(batch([b"c"]), 2))
    assert values(records) == [
        "offsets 0 to 1 cannot be read: their batch is compressed by codec 7, which is unknown",
        b"c",
    ]
    assert (records[0].offset, records[0].key, records[0].value, records[0].timestamp) == (0, None, None, 1700000000001)
    assert after == 3


def test_a_wrong_checksum_costs_its_batch_and_no_time_of_it_is_believed() -> None:
    records, after = read(batch([b"a"]), at(damaged(batch([b"b", b"c"]), 65), 1), at(batch([b"d"]), 3))
    assert values(records) == [b"a", "offsets 1 to 2 cannot be read: the checksum of their batch is wrong", b"d"]
    assert (records[1].timestamp, after) == (0, 4)


def test_a_count_of_offsets_that_cannot_be_is_not_followed() -> None:
    data = batch([b"a"])
    data[23:27] = (2**31 - 1).to_bytes(4, "big")
    assert read(data)[1] == 1


def test_bytes_that_do_not_decompress_are_named() -> None:
    data = batch([b"a" * 200, b"b"], codec=ZSTD)
    records, after = read(changed(data, bytes(data[61:71]), b"0123456789"))
    [reason] = values(records)
    assert reason.startswith("offsets 0 to 1 cannot be read: their batch cannot be decompressed: ")
    assert after == 2


@pytest.mark.parametrize("codec", [NONE, ZSTD])
def test_a_header_whose_name_is_no_text_costs_that_name_only(codec: int) -> None:
    headers = [(NAME, b"1"), ("tierstream-attempt", b"4")]
    plain = changed(batch([b"a", b"b"], headers=headers), NAME.encode(), BAD_NAME)
    if codec == ZSTD:
        from aiokafka.codec import zstd_encode

        plain = plain[:61] + zstd_encode(bytes(plain[61:]))
        plain[8:12] = (len(plain) - 12).to_bytes(4, "big")
        plain = with_codec(plain, ZSTD)
    records, after = read(plain)
    assert values(records) == [b"a", b"b"]
    assert [record.key for record in records] == [b"key", b"key"]
    assert records[0].headers == (("\ufffd\ufffd\ufffdder-of-eight", b"1"), ("tierstream-attempt", b"4"))
    assert [record.timestamp for record in records] == [1_700_000_000_000, 1_700_000_000_001]
    assert after == 2


def test_reading_goes_on_in_the_middle_of_a_batch() -> None:
    data = changed(batch([b"a", b"b", b"c"], headers=[(NAME, b"1")]), NAME.encode(), BAD_NAME)
    records, after = read(at(data, 10), start=11)
    assert [(record.offset, record.value) for record in records] == [(11, b"b"), (12, b"c")]
    assert after == 13


def test_one_damaged_record_is_named_and_the_others_are_read() -> None:
    data = batch([b"first", b"second", b"third"])
    place = data.index(b"second") - 1  # the length of the value
    records, after = read(changed(data, bytes(data[place : place + 7]), b"\x7e" + b"second"))
    assert values(records)[::2] == [b"first", b"third"]
    assert values(records)[1].startswith("offset 1 cannot be read: it is damaged: ")
    assert after == 3


def test_a_place_is_given_when_a_record_has_no_sensible_length() -> None:
    data = batch([b"first", b"second"])
    place = data.index(b"second") - 9
    while data[place] != 2 * (data[61] // 2 + 1):  # the record's length, one more than the first's
        place += 1
    broken = changed(
        data, bytes(data[place : data.index(b"second")]), b"\x7f" + data[place + 1 : data.index(b"second")]
    )
    records, after = read(broken, at(batch([b"third"]), 2))
    assert values(records)[0] == b"first"
    assert values(records)[1].startswith("offset 1 cannot be read: the rest of their batch is damaged: ")
    assert (values(records)[2], after) == (b"third", 3)
