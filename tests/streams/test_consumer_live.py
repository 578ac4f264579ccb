"""The bounded reader of topics, on both brokers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition

from schemas.settings import Settings
from streams.kafka.admin import ensure_topics
from streams.kafka.consumer import Consumer, Spans
from streams.topics import TICKS, topic_specs

pytestmark = pytest.mark.live


@pytest.fixture(params=["broker", "lite_broker"])
def settings(request: pytest.FixtureRequest, prefix: str) -> Settings:
    live = request.getfixturevalue(request.param)
    made = Settings.model_validate(
        {"kafka": {"bootstrap_servers": live.bootstrap}, "topics": {"prefix": prefix, "partitions": 3}}
    )
    asyncio.run(ensure_topics(made, topic_specs(made)))
    return made


async def produce(settings: Settings, *partitions: int) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka.bootstrap_servers)
    await producer.start()
    for partition in partitions:
        await producer.send_and_wait(settings.topic(TICKS), b"x", partition=partition)
    await producer.stop()


async def places(consumer: Consumer, spans: Spans) -> list[tuple[int, int]]:
    found: list[Any] = []
    async with asyncio.timeout(30):
        async for records in consumer.read(spans):
            found += [(record.partition, record.offset) for record in records]
    return sorted(found)


def test_spans_are_read_to_their_ends_and_what_came_since_is_read_the_next_time(settings: Settings) -> None:
    topic = settings.topic(TICKS)
    whole = {TopicPartition(topic, number): (None, None) for number in range(3)}

    async def body() -> None:
        async with Consumer.of(settings) as consumer:
            assert await places(consumer, {}) == []
            assert await places(consumer, whole) == []
            await produce(settings, 0, 0, 0, 1)
            assert await places(consumer, whole) == [(0, 0), (0, 1), (0, 2), (1, 0)]
            one = TopicPartition(topic, 0)
            assert await places(consumer, {one: (1, 2)}) == [(0, 1)]
            assert await places(consumer, {one: (1, None)}) == [(0, 1), (0, 2)]
            await produce(settings, 0)
            assert await places(consumer, {one: (0, None)}) == [(0, 0), (0, 1), (0, 2), (0, 3)]

    asyncio.run(body())


def test_a_reader_with_a_groups_name_reads_one_partition_again_and_again(settings: Settings) -> None:
    one = TopicPartition(settings.topic(TICKS), 0)

    async def body() -> None:
        async with Consumer.of(settings, group_id=f"{settings.topics.prefix}group") as consumer:
            consumer.assign([one])
            for expected in range(1, 4):
                await produce(settings, 0)
                assert await places(consumer, {one: (0, None)}) == [(0, offset) for offset in range(expected)]

    asyncio.run(body())
