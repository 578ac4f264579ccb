"""The publisher on a real broker."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streams.kafka.publisher import MessageTooLargeError, Outgoing, Publisher, PublishError, Receipt

if TYPE_CHECKING:
    from tests.broker import LiveBroker

pytestmark = pytest.mark.live

PARTITIONS = 3


def run(bootstrap: str, body: Callable[[Publisher, str], Awaitable[Any]], **options: Any) -> Any:
    """Run `body` with a started publisher and a topic of its own."""

    async def main() -> Any:
        topic = f"t{uuid.uuid4().hex[:8]}"
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        await admin.start()
        await admin.create_topics([NewTopic(topic, PARTITIONS, 1)])
        await admin.close()
        publisher = Publisher({"bootstrap_servers": bootstrap, **options})
        await publisher.start()
        try:
            return await body(publisher, topic)
        finally:
            await publisher.stop()

    return asyncio.run(main())


async def read(bootstrap: str, topic: str, count: int) -> list[Any]:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    consumer.assign([TopicPartition(topic, partition) for partition in range(PARTITIONS)])
    records: list[Any] = []
    while len(records) < count:
        for found in (await consumer.getmany(timeout_ms=500)).values():
            records += found
    await consumer.stop()
    return records


def test_messages_arrive_in_order_with_the_offsets_of_the_receipts(bootstrap: str) -> None:
    async def body(publisher: Publisher, topic: str) -> None:
        first = [Outgoing(topic, n % 2, None, b"%d" % n, (("h", b"1"),)) for n in range(5000)]
        assert await publisher.publish(first) == [Receipt(topic, 0, 2499), Receipt(topic, 1, 2499)]
        assert await publisher.publish([Outgoing(topic, 1, b"k", None)]) == [Receipt(topic, 1, 2500)]
        records = await read(bootstrap, topic, 5001)
        values = [r.value for r in records if r.partition == 1]
        assert values == [b"%d" % n for n in range(1, 5000, 2)] + [None]
        assert {r.headers for r in records if r.value} == {(("h", b"1"),)}

    run(bootstrap, body, max_batch_size=16 * 1024)


def test_calls_that_overlap_keep_their_order(bootstrap: str) -> None:
    async def body(publisher: Publisher, topic: str) -> None:
        calls = [[Outgoing(topic, 0, None, b"%d" % (c * 100 + n)) for n in range(100)] for c in range(20)]
        await asyncio.gather(*(publisher.publish(call) for call in calls))
        assert [int(r.value) for r in await read(bootstrap, topic, 2000)] == list(range(2000))

    run(bootstrap, body, max_batch_size=500)


def test_keys_go_where_other_producers_send_them(bootstrap: str) -> None:
    async def body(publisher: Publisher, topic: str) -> None:
        keys = [b"exp-%d" % n for n in range(50)]
        await publisher.publish([Outgoing(topic, None, key, b"ours") for key in keys])
        other = AIOKafkaProducer(bootstrap_servers=bootstrap)
        await other.start()
        for key in keys:
            await other.send_and_wait(topic, b"theirs", key=key)
        await other.stop()
        where: dict[bytes, set[int]] = {}
        for record in await read(bootstrap, topic, 100):
            where.setdefault(record.key, set()).add(record.partition)
        assert {len(partitions) for partitions in where.values()} == {1}

    run(bootstrap, body)


def test_message_too_large_for_any_batch_is_refused_by_name(bootstrap: str) -> None:
    async def body(publisher: Publisher, topic: str) -> None:
        with pytest.raises(MessageTooLargeError, match=r"is over 10000"):
            await publisher.publish([Outgoing(topic, 0, None, b"fits"), Outgoing(topic, 0, None, bytes(20_000))])
        assert await publisher.publish([Outgoing(topic, 0, None, bytes(5000))] * 3) == [Receipt(topic, 0, 2)]

    run(bootstrap, body, max_request_size=10_000, max_batch_size=2000)


def test_message_that_the_topic_refuses_is_refused_by_name(bootstrap: str, broker: LiveBroker) -> None:
    if broker.kind == "lite":
        pytest.skip("the lite broker takes messages of any size")

    async def body(publisher: Publisher, topic: str) -> None:
        with pytest.raises(MessageTooLargeError, match="refuses a message as too large"):
            await publisher.publish([Outgoing(topic, 0, None, bytes(3_000_000))])

    run(bootstrap, body)


def test_unknown_partition_and_topic_are_errors(bootstrap: str) -> None:
    async def body(publisher: Publisher, topic: str) -> None:
        with pytest.raises(PublishError, match=r"\[7\] did not acknowledge"):
            await publisher.publish([Outgoing(topic, 7, None, b"x")])
        assert await publisher.publish([]) == []

    run(bootstrap, body)


def test_publisher_that_is_not_started_says_so() -> None:
    with pytest.raises(PublishError, match="not started"):
        asyncio.run(Publisher({}).publish([]))


def test_calls_that_wait_for_one_partition_share_a_batch_and_each_has_its_own_offset(bootstrap: str) -> None:
    async def body(publisher: Publisher, topic: str) -> None:
        producer, batches = publisher._producer, []
        assert producer is not None

        async def send_batch(batch: Any, *target: Any, **of: Any) -> Any:
            batches.append(batch)
            return await AIOKafkaProducer.send_batch(producer, batch, *target, **of)

        # The first batch is on its way until every call waits, however fast the broker is.
        gate, send = asyncio.Event(), producer.client.send

        async def held(node_id: int, request: Any, **of: Any) -> Any:
            if type(request).__name__.startswith("Produce"):
                await gate.wait()
            return await send(node_id, request, **of)

        producer.send_batch, producer.client.send = send_batch, held
        calls = [[Outgoing(topic, 0, None, b"%d" % (call * 2 + n)) for n in range(2)] for call in range(50)]
        publishing = asyncio.gather(*(publisher.publish(call) for call in calls))
        async with asyncio.timeout(30):
            while sum(batch.record_count() for batch in batches) < 100:  # noqa: ASYNC110 - the calls themselves go on
                await asyncio.sleep(0)
        gate.set()
        receipts = await publishing
        assert [receipt.offset for [receipt] in receipts] == list(range(1, 100, 2))
        records = await read(bootstrap, topic, 100)
        assert [int(record.value) for record in records] == list(range(100))
        assert len(batches) <= 3

    run(bootstrap, body)


def test_a_call_that_is_given_up_takes_no_other_with_it(bootstrap: str) -> None:
    async def body(publisher: Publisher, topic: str) -> None:
        await publisher.publish([Outgoing(topic, 0, None, b"5")])  # the broker has told where the topic is
        calls = [asyncio.create_task(publisher.publish([Outgoing(topic, 0, None, b"%d" % n)])) for n in range(5)]
        for _ in range(20):  # all of them wait for the broker by then
            await asyncio.sleep(0)
        for call in calls[1::2]:
            call.cancel()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert not [outcome for outcome in outcomes[::2] if isinstance(outcome, BaseException)]
        assert [int(record.value) for record in await read(bootstrap, topic, 6)] == [5, 0, 1, 2, 3, 4]

    run(bootstrap, body)
