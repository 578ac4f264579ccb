"""Reading the log of steps when the scorer is taken over."""

from __future__ import annotations

from aiokafka import TopicPartition

from schemas.records import StepRecord
from schemas.settings import Settings
from streams.consumer import Consumer
from streams.kafka_options import client_options


async def read_steps(settings: Settings, topic: str, start: int, end: int) -> list[tuple[int, StepRecord]]:
    """Read the log from offset `start` up to and including `end`, which is known to be there.

    Returns:
        Offsets and records, in the log's order.
    """
    partition = TopicPartition(topic, 0)
    consumer = Consumer(enable_auto_commit=False, auto_offset_reset="earliest", **client_options(settings))
    await consumer.start()
    try:
        consumer.assign([partition])
        consumer.seek(partition, start)
        records: list[tuple[int, StepRecord]] = []
        while not records or records[-1][0] < end:
            fetched = await consumer.getmany(partition, timeout_ms=1000)
            for record in fetched.get(partition, ()):
                records.append((record.offset, StepRecord.from_json(record.value)))
        return [(offset, record) for offset, record in records if offset <= end]
    finally:
        await consumer.stop()
