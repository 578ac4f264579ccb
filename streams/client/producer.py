"""Publishing events: validated, in batches, with delivery confirmed and a bounded number under way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from types import TracebackType
from typing import Any, NamedTuple, Self

from aiokafka import AIOKafkaProducer

from schemas.base import Event
from schemas.settings import Settings
from streams.contract import CONTRACTS
from streams.kafka.options import MAX_RECORD_BYTES, broker_errors, client_options

MAX_IN_FLIGHT = 10_000
"""Events that may wait for the broker's word; the next one waits until there is room."""

_BATCH_BYTES = 256 * 1024


class Receipt(NamedTuple):
    """Where the broker put an event."""

    topic: str
    """Name on the broker."""
    partition: int
    offset: int


class Producer:
    """Publishes events to their topics; an async context manager.

    Args:
        settings: where the broker is.
        max_in_flight: how many events may wait for the broker's word at a time.

    Example::

        async with Producer(settings) as producer:
            await producer.send("feedback", Feedback(...))
    """

    def __init__(self, settings: Settings, max_in_flight: int = MAX_IN_FLIGHT) -> None:
        self._settings = settings
        self._room = asyncio.Semaphore(max_in_flight)
        self._producer = AIOKafkaProducer(
            **client_options(settings),
            acks="all",
            linger_ms=2,
            max_batch_size=_BATCH_BYTES,
            max_request_size=MAX_RECORD_BYTES,
        )

    async def __aenter__(self) -> Self:
        with broker_errors(self._settings):
            try:
                await self._producer.start()
            except BaseException:
                await self._producer.stop()
                raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._producer.stop()

    async def send(self, topic: str, event: Event, key: bytes | None = None) -> Receipt:
        """Publish an event and wait until the broker has it.

        Args:
            topic: name without the prefix, `feedback` for one.
            event: an instance of the topic's model.
            key: the record's key, where the event does not hold it.

        Raises:
            ConnectionFailedError: the broker did not take it.
        """
        delivery = await self.enqueue(topic, event, key)
        with broker_errors(self._settings):
            metadata = await delivery
        return Receipt(metadata.topic, metadata.partition, metadata.offset)

    async def enqueue(self, topic: str, event: Event, key: bytes | None = None) -> Awaitable[Any]:
        """Hand an event to the sender, waiting only where too many are under way; the result is its delivery.

        Raises:
            TypeError: the event is not of the topic's model.
        """
        contract = CONTRACTS[topic]
        if not isinstance(event, contract.events):
            raise TypeError(f"{topic} carries {contract.event.__name__}, not {type(event).__name__}")
        if contract.key is not None:
            key = str(getattr(event, contract.key)).encode()
        await self._room.acquire()
        try:
            with broker_errors(self._settings):
                delivery: asyncio.Future[Any] = await self._producer.send(
                    self._settings.topic(topic), event.to_json(), key=key
                )
        except BaseException:
            self._room.release()
            raise
        delivery.add_done_callback(lambda _: self._room.release())
        return delivery
