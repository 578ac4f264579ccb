"""Reading the topics of one partition that the scorer is rebuilt from: the log of steps and the entries."""

from __future__ import annotations

from collections.abc import AsyncIterator

from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.errors import InputError
from schemas.records import StepRecord
from schemas.settings import Settings
from streams.kafka_options import client_options


async def read_steps(
    settings: Settings, topic: str, start: int = 0, end: int | None = None
) -> list[tuple[int, StepRecord]]:
    """Read the log of steps; arguments and errors as those of `read_records`.

    Returns:
        Offsets and records, in the log's order.
    """
    return [(offset, StepRecord.from_json(value)) async for offset, value in read_records(settings, topic, start, end)]


async def read_records(
    settings: Settings, topic: str, start: int = 0, end: int | None = None
) -> AsyncIterator[tuple[int, bytes]]:
    """Yield offsets and values of partition 0, in order.

    Args:
        settings: how to reach the broker.
        topic: name on the broker.
        start: first offset to read.
        end: the offset to stop before; None stops where the topic ends now.

    Raises:
        InputError: the topic no longer holds the records from `start` on.
    """
    partition = TopicPartition(topic, 0)
    async with AIOKafkaConsumer(
        enable_auto_commit=False, auto_offset_reset="earliest", **client_options(settings)
    ) as consumer:
        consumer.assign([partition])
        first = (await consumer.beginning_offsets([partition]))[partition]
        if first > start:
            raise InputError(
                f"{topic} starts at offset {first}: what was before is gone",
                "the scorer's own topics are to be kept for ever",
            )
        consumer.seek(partition, start)
        position = start
        while end is None or position < end:
            fetched = (await consumer.getmany(partition, timeout_ms=1000)).get(partition, [])
            for record in fetched:
                if end is None or record.offset < end:
                    yield record.offset, record.value or b""
                position = record.offset + 1
            # The high watermark comes with a fetch; the end that ListOffsets tells can fall short on the lite broker.
            highwater = consumer.highwater(partition)
            if not fetched and highwater is not None and position >= highwater:
                return
