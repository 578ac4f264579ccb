"""Which version is in use, as `model-versions` says: what an answer names as the one that gave it."""

from __future__ import annotations

import asyncio

from aiokafka import ConsumerRecord, TopicPartition

from schemas.events import ModelVersion
from schemas.settings import Settings
from schemas.versions import BASES
from streams import topics
from streams.client.reading import decode
from streams.kafka.admin import partitions_of
from streams.kafka.consumer import Consumer
from streams.kafka.options import broker_errors


class VersionInUse:
    """Follows `model-versions` from the first question on.

    Args:
        settings: where the broker is.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        base = next(iter(BASES.values()))
        self._event = ModelVersion(line="policy", version=base, path="", reason="no version was put into use yet")
        self._consumer: Consumer | None = None
        self._following: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()

    async def name(self, query: str | None = None) -> str:
        """Return the version in use; before any was, and after a way back to it, that is the base model's name.

        Args:
            query: what is to be answered; where a version is tried, it answers a share of the queries.

        Raises:
            TopicsError: the topic is not there.
            ConnectionFailedError: the broker cannot be reached.
        """
        async with self._turn:
            if self._following is None:
                self._following = await self._begin()
        if self._following.done():
            with broker_errors(self._settings):
                self._following.result()
        return self._event.version if query is None else self._event.answering(query)

    async def stop(self) -> None:
        """Follow it no longer."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        if self._consumer is not None:
            await self._consumer.stop()

    async def _begin(self) -> asyncio.Task[None]:
        """Read what is there, then go on in the background."""
        topic = self._settings.topic(topics.MODEL_VERSIONS)
        with broker_errors(self._settings):
            await partitions_of(self._settings, topic)
            if self._consumer is None:
                self._consumer = await Consumer.of(self._settings).__aenter__()
            async for records in self._consumer.read({TopicPartition(topic, 0): (None, None)}):
                for record in records:
                    self._take(record)
        return asyncio.create_task(self._follow(self._consumer))

    async def _follow(self, consumer: Consumer) -> None:
        async for record in consumer:
            self._take(record)

    def _take(self, record: ConsumerRecord[bytes, bytes]) -> None:
        event = decode(record, ModelVersion)
        if event is not None and event.line != "scorer":
            self._event = event
