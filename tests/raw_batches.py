"""Record batches as no well-meant client writes them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from struct import pack_into

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import for_code
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c
from aiokafka.structs import TopicPartition

NAME = "header-of-eight"
BAD_NAME = b"\xff\xfe\xfdder-of-eight"


def batch(
    values: Sequence[bytes], *, codec: int = 0, headers: Sequence[tuple[str, bytes]] = (), key: bytes | None = b"key"
) -> bytearray:
    """Return a batch at offset 0 with a record of each value; `codec` as the protocol numbers them."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=codec,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=1 << 22,
    )
    for number, value in enumerate(values):
        builder.append(number, timestamp=1_700_000_000_000 + number, key=key, value=value, headers=list(headers))
    return bytearray(builder.build())


def changed(data: bytearray, old: bytes, new: bytes) -> bytearray:
    """Return the batch with other bytes, and a checksum that fits them."""
    assert old in data
    assert len(old) == len(new)
    result = data.replace(old, new)
    pack_into(">I", result, 17, calc_crc32c(bytes(result[21:])))
    return result


def with_codec(data: bytearray, codec: int) -> bytearray:
    """Return the batch with another codec's number on it, and a checksum that fits."""
    result = bytearray(data)
    result[22] = result[22] & ~7 | codec
    pack_into(">I", result, 17, calc_crc32c(bytes(result[21:])))
    return result


def at(data: bytearray, offset: int) -> bytearray:
    """Return the batch as it lies from `offset` on."""
    result = bytearray(data)
    pack_into(">q", result, 0, offset)
    return result


def send(bootstrap: str, topic: str, partition: int, data: bytes) -> None:
    """Publish a batch as it is."""

    async def run() -> None:
        client = AIOKafkaClient(bootstrap_servers=bootstrap)
        await client.bootstrap()
        try:
            await client._wait_on_metadata(topic)
            leader = client.cluster.leader_for_partition(TopicPartition(topic, partition))
            request = ProduceRequest(
                transactional_id=None, required_acks=-1, timeout=10_000, topics=[(topic, [(partition, bytes(data))])]
            )
            response = await client.send(leader, request)
            [(_, [(_, code, *_)])] = response.topics
            assert code == 0, for_code(code)
        finally:
            await client.close()

    asyncio.run(run())
