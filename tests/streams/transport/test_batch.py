"""What reaches an agent, and which acknowledgements count."""

from __future__ import annotations

import asyncio

import faust
from aiokafka.structs import ConsumerRecord
from faust.types import TP
from faust.types.tuples import Message

from streams.transport.batch import ChunkMessage, Record, RecordBatch, batch_message
from streams.transport.offsets import PartitionLedger
from streams.transport.options import TransportOptions, options_of


class AckingConsumer:
    """Does what Faust's consumer does with the final acknowledgement."""

    def ack(self, message: Message) -> bool:
        message.acked = True
        return True


def record(offset: int) -> Record:
    return ConsumerRecord("events", 3, offset, 1500 + offset, 1, b"key", b"value", None, 3, 5, ())


def delivered(ledger: PartitionLedger) -> tuple[ChunkMessage, list[str]]:
    acknowledged: list[str] = []
    records = [record(4), record(9)]
    chunk = ledger.deliver(10)
    message = batch_message(TP("events", 3), records, chunk, lambda: acknowledged.append("yes"), 7)
    message.incref()
    return message, acknowledged


def test_message_names_the_last_record_and_carries_all() -> None:
    message, _ = delivered(PartitionLedger(4))
    assert isinstance(message.value, RecordBatch)
    assert (message.value.topic, message.value.partition) == ("events", 3)
    assert [r.offset for r in message.value.records] == [4, 9]
    assert (message.tp, message.offset, message.key, message.timestamp) == (TP("events", 3), 9, None, 1.509)
    assert message.generation_id == 7


def test_acknowledgement_of_a_tracked_message_counts() -> None:
    ledger = PartitionLedger(4)
    message, acknowledged = delivered(ledger)
    message.tracked = True
    message.ack(AckingConsumer())
    assert (message.acked, acknowledged, ledger.committable(None)) == (True, ["yes"], 10)


def test_acknowledgement_of_a_message_that_a_stream_skipped_counts_for_nothing() -> None:
    ledger = PartitionLedger(4)
    message, acknowledged = delivered(ledger)
    message.ack(AckingConsumer())
    assert (message.acked, acknowledged, ledger.committable(None)) == (True, [], None)


def test_acknowledgement_of_a_refused_batch_counts_for_nothing() -> None:
    ledger = PartitionLedger(4)
    message, _ = delivered(ledger)
    message.tracked = True
    ledger.nack(10)
    message.ack(AckingConsumer())
    assert ledger.committable(None) is None


def test_topic_hands_the_batch_on_as_it_is() -> None:
    async def decode() -> object:
        app = faust.App("decode", broker="kafka://", store="memory://")
        topic = app.topic(
            "events", "others", key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw"
        )
        message, _ = delivered(PartitionLedger(4))
        event = await topic.decode(message)
        return event.value is message.value and event.key is None and event.message is message

    assert asyncio.run(decode())


def test_an_app_without_options_has_the_defaults() -> None:
    options = options_of(object())
    assert options == TransportOptions()
    assert options.durable_through(TP("events", 0)) is None
    assert asyncio.run(options.start_offset(TP("events", 0), None)) is None
    assert asyncio.run(options.start_offset(TP("events", 0), 7)) == 7
