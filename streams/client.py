"""The producers' library: validated events, delivery confirmed, and which model calls to capture."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Mapping
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaProducer

from schemas.base import Event
from schemas.settings import Settings
from streams.contract import CONTRACTS
from streams.kafka_options import MAX_RECORD_BYTES, broker_errors, client_options

CAPTURE_VARIABLE = "ENABLE_TIER3_CAPTURE"


class Producer:
    """Publishes events to their topics; an async context manager.

    Example::

        async with Producer(settings) as producer:
            await producer.send("feedback", Feedback(...))
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer = AIOKafkaProducer(
            **client_options(settings), acks="all", linger_ms=2, max_request_size=MAX_RECORD_BYTES
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

    async def send(self, topic: str, event: Event, key: bytes | None = None) -> None:
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
            await delivery

    async def enqueue(self, topic: str, event: Event, key: bytes | None = None) -> Awaitable[Any]:
        """Hand an event to the sender, waiting only where its buffer is full; the result is its delivery.

        Raises:
            TypeError: the event is not of the topic's model.
        """
        contract = CONTRACTS[topic]
        if not isinstance(event, contract.event):
            raise TypeError(f"{topic} carries {contract.event.__name__}, not {type(event).__name__}")
        if contract.key is not None:
            key = str(getattr(event, contract.key)).encode()
        with broker_errors(self._settings):
            delivery: asyncio.Future[Any] = await self._producer.send(
                self._settings.topic(topic), event.to_json(), key=key
            )
        return delivery


def should_capture(trace_id: str, confidence: float | None, settings: Settings, environ: Mapping[str, str]) -> bool:
    """Tell whether a model call is to be published as a trace: off unless `ENABLE_TIER3_CAPTURE=true`.

    Calls of at least `traces.capture_confidence` always are, and of the rest the share
    `traces.capture_rate`, chosen by the trace id's hash, so that every process decides alike.
    """
    if environ.get(CAPTURE_VARIABLE, "").lower() != "true":
        return False
    if confidence is not None and confidence >= settings.traces.capture_confidence:
        return True
    digest = hashlib.blake2b(trace_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < settings.traces.capture_rate * 2**64
