"""Publishing messages in ready-made record batches, acknowledged by all in-sync replicas."""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from struct import Struct
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from mode import Service

from schemas.errors import TierstreamError

DEFAULT_BATCH_BYTES = 2 * 1024 * 1024
"""aiokafka has one batch of a partition under way, so a small one costs a round trip for few messages."""

DEFAULT_MAX_MESSAGE_BYTES = 8 * 1024 * 1024

Headers = Sequence[tuple[str, bytes]]


class PublishError(TierstreamError):
    """The broker did not acknowledge a message, though passing faults were retried for `request_timeout_ms`."""


class MessageTooLargeError(PublishError):
    """A message is larger than the producer or the topic takes."""


class Outgoing(NamedTuple):
    """A message to publish."""

    topic: str
    """Name on the broker."""
    partition: int | None
    """None: the key's partition; without a key any one."""
    key: bytes | None
    value: bytes | None
    """None deletes the key from a compacted topic."""
    headers: Headers = ()


class Receipt(NamedTuple):
    """What was acknowledged of one call in one partition."""

    topic: str
    partition: int
    offset: int
    """Offset of the call's last message in this partition."""


class Publisher(Service):  # type: ignore[misc]
    """Owns one producer. Messages of one partition keep their order, within a call and across calls.

    Args:
        client_options: arguments for `AIOKafkaProducer`: servers, security, and any that is to differ from the
            defaults here (`acks="all"`, batches of 2 MiB, messages of up to 8 MiB).
    """

    abstract = False

    def __init__(self, client_options: Mapping[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._options = {
            "acks": "all",
            "max_batch_size": DEFAULT_BATCH_BYTES,
            "max_request_size": DEFAULT_MAX_MESSAGE_BYTES,
            **client_options,
        }
        self._producer: AIOKafkaProducer | None = None
        self._turns: defaultdict[tuple[str, int], asyncio.Lock] = defaultdict(asyncio.Lock)

    async def on_start(self) -> None:
        """Connect."""
        self._producer = AIOKafkaProducer(**self._options)
        await self._producer.start()

    async def on_stop(self) -> None:
        """Wait for what is under way, then disconnect."""
        if self._producer is not None:
            await self._producer.stop()
            self._producer = None

    async def publish(self, messages: Sequence[Outgoing]) -> list[Receipt]:
        """Publish `messages` and wait until every one is acknowledged.

        Returns:
            One receipt for each topic and partition, in the order in which they first appear.

        Raises:
            MessageTooLargeError: a message does not fit; nothing of its partition was sent.
            PublishError: some message was not acknowledged; others may have been.
        """
        if self._producer is None:
            raise PublishError("the publisher is not started")
        groups = await self._by_partition(self._producer, messages)
        sending = [self._send(self._producer, *target, group) for target, group in groups.items()]
        outcomes = await asyncio.gather(*sending, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return [outcome for outcome in outcomes if isinstance(outcome, Receipt)]

    async def _by_partition(
        self, producer: AIOKafkaProducer, messages: Sequence[Outgoing]
    ) -> dict[tuple[str, int], list[Outgoing]]:
        groups: defaultdict[tuple[str, int], list[Outgoing]] = defaultdict(list)
        counts: dict[str, int] = {}
        for message in messages:
            partition = message.partition
            if partition is None:
                if message.topic not in counts:
                    counts[message.topic] = await _partition_count(producer, message.topic)
                count = counts[message.topic]
                partition = random.randrange(count) if message.key is None else partition_for(message.key, count)
            groups[message.topic, partition].append(message)
        return groups

    async def _send(
        self, producer: AIOKafkaProducer, topic: str, partition: int, messages: Iterable[Outgoing]
    ) -> Receipt:
        batches = self._fill(producer, messages)
        try:
            async with self._turns[topic, partition]:
                sent = [await producer.send_batch(batch, topic, partition=partition) for batch in batches]
            acknowledged = await asyncio.gather(*sent)
        except MessageSizeTooLargeError as error:
            raise MessageTooLargeError(f"topic {topic} refuses a message as too large: {error!r}") from error
        except (KafkaError, AssertionError) as error:
            raise PublishError(f"{topic}[{partition}] did not acknowledge: {error!r}") from error
        return Receipt(topic, partition, acknowledged[-1].offset + batches[-1].record_count() - 1)

    def _fill(self, producer: AIOKafkaProducer, messages: Iterable[Outgoing]) -> list[Any]:
        now_ms = int(time.time() * 1000)
        batch = producer.create_batch()
        batches = [batch]
        for message in messages:
            _, _, key, value, headers = message
            if batch.append(timestamp=now_ms, key=key, value=value, headers=list(headers)) is None:
                batch = producer.create_batch()
                batches.append(batch)
                batch.append(timestamp=now_ms, key=key, value=value, headers=list(headers))
            if batch.record_count() == 1:
                self._check_size(batch, message)
        for full in batches:
            full.close()
        return batches

    def _check_size(self, batch: Any, message: Outgoing) -> None:
        """Refuse what only an empty batch accepts and no request may carry."""
        limit = self._options["max_request_size"]
        if batch.size() > limit:
            raise MessageTooLargeError(f"a message of {batch.size()} bytes for {message.topic} is over {limit}")


async def _partition_count(producer: AIOKafkaProducer, topic: str) -> int:
    try:
        return len(await producer.partitions_for(topic))
    except KafkaError as error:
        raise PublishError(f"topic {topic} is not known to the broker: {error!r}") from error


def partition_for(key: bytes, partitions: int) -> int:
    """Return the partition that Kafka's default partitioner (Java, aiokafka) gives `key`."""
    return (_murmur2(key) & 0x7FFFFFFF) % partitions


@lru_cache(maxsize=16384)
def _murmur2(data: bytes) -> int:
    """Return Kafka's 32-bit murmur2 (seed 0x9747b28c), as in `org.apache.kafka.common.utils.Utils`."""
    length = len(data)
    h = 0x9747B28C ^ length
    words = length >> 2
    for k in _words(words).unpack_from(data):
        k = k * 0x5BD1E995 & 0xFFFFFFFF
        h = (h * 0x5BD1E995 & 0xFFFFFFFF) ^ ((k ^ k >> 24) * 0x5BD1E995 & 0xFFFFFFFF)
    if tail := data[words << 2 :]:
        h = (h ^ int.from_bytes(tail, "little")) * 0x5BD1E995 & 0xFFFFFFFF
    h = (h ^ h >> 13) * 0x5BD1E995 & 0xFFFFFFFF
    return h ^ h >> 15


@lru_cache(maxsize=256)
def _words(count: int) -> Struct:
    return Struct(f"<{count}I")
