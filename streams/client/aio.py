"""The client for an event loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from schemas.base import Event
from schemas.config import load
from schemas.events import ModelVersion, ScoreUpdate, Trace
from schemas.settings import Settings
from streams import topics
from streams.client.capture import Redact, drawn, to_trace
from streams.client.producer import MAX_IN_FLIGHT, Producer, Receipt
from streams.client.reading import Freshness, Start, follow
from streams.client.versions import VersionInUse
from streams.contract import CONTRACTS, PRODUCIBLE
from streams.imports.messages import part
from streams.kafka.options import broker_errors

_TOPIC_OF: Mapping[type[Event], str] = {CONTRACTS[topic].event: topic for topic in PRODUCIBLE}


def load_settings(config_file: Path | None = None) -> Settings:
    """Return the settings in effect here: defaults, then the file, then `TIERSTREAM_*` variables.

    Raises:
        SettingsError: a key is unknown or a value cannot be.
    """
    return load(config_file, os.environ, {}).settings


class AsyncClient:
    """Publishes experiences, feedback and traces; reads score updates and model versions.

    Args:
        settings: where the broker is; `load_settings()` takes them from the environment.
        max_in_flight: how many events may wait for the broker's word at a time; the next one waits.
        redact: applied to every text of a captured trace before it leaves the process.

    Example::

        async with AsyncClient(load_settings()) as client:
            await client.publish(Feedback(...))
    """

    def __init__(self, settings: Settings, *, max_in_flight: int = MAX_IN_FLIGHT, redact: Redact | None = None) -> None:
        self.settings = settings
        self._producer = Producer(self.settings, max_in_flight)
        self._version = VersionInUse(settings)
        self._redact = redact
        self._under_way: set[asyncio.Future[Receipt]] = set()
        self._failed: list[BaseException] = []

    async def __aenter__(self) -> Self:
        await self._producer.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                await self.flush()
        finally:
            await self._version.stop()
            await self._producer.__aexit__(kind, error, trace)

    async def publish(self, event: Event) -> Receipt:
        """Publish an event and wait until the broker has it.

        Raises:
            ConnectionFailedError: the broker did not take it.
            TypeError: events of this kind are not published from outside.
        """
        return await self._producer.send(topic_of(event), event)

    async def publish_all(self, events: Iterable[Event]) -> list[Receipt]:
        """Publish events in batches; returns when the broker has all of them, with one receipt each.

        Raises:
            ConnectionFailedError: the broker did not take one; others may have gone out.
        """
        return list(await asyncio.gather(*[await self.submit(event) for event in events]))

    async def submit(self, event: Event) -> asyncio.Future[Receipt]:
        """Hand an event over, waiting only where too many are under way; the result is its receipt to come.

        A delivery that fails, and that nobody awaits, is raised by `flush`.
        """
        delivery = await self._producer.enqueue(topic_of(event), event)
        task = asyncio.ensure_future(self._confirmed(delivery))
        self._under_way.add(task)
        task.add_done_callback(self._settled)
        return task

    async def flush(self) -> None:
        """Wait until the broker has everything that was submitted.

        Raises:
            ConnectionFailedError: it did not take an event since the last flush.
        """
        while self._under_way:
            await asyncio.wait(self._under_way)
        failed, self._failed = self._failed, []
        if failed:
            raise failed[0]

    async def capture(self, response: Any, **about: Any) -> Trace | None:
        """Publish a model's response as a trace, where the capture policy says so.

        Args:
            response: a `Message` of Anthropic's SDK, or its JSON.
            about: as `to_trace` takes it: `messages` or `request`, and more.

        Returns:
            The trace as it was handed over, or None where the call is not captured, for a reason that `capture_stats`
            counts: nothing is built then where the policy says no.
        """
        if not drawn(str(part(response, "id")), about.get("confidence"), self.settings, os.environ):
            return None
        trace = to_trace(response, redact=self._redact, **about)
        if trace is not None:
            await self.submit(trace)
        return trace

    async def score_updates(
        self, *, start: Start = "latest", group: str | None = None, idle_seconds: float | None = None
    ) -> AsyncGenerator[ScoreUpdate]:
        """Yield score updates as they come, without repetitions and without those of a former owner; see `follow`."""
        fresh = Freshness()
        updates = follow(
            self.settings, topics.SCORE_UPDATES, ScoreUpdate, start=start, group=group, idle_seconds=idle_seconds
        )
        async for update in updates:
            if fresh.accepts(update):
                yield update

    async def model_versions(
        self, *, start: Start = "earliest", idle_seconds: float | None = None
    ) -> AsyncGenerator[ModelVersion]:
        """Yield the version in use of each line, then every change; see `follow`."""
        async for version in follow(
            self.settings, topics.MODEL_VERSIONS, ModelVersion, start=start, idle_seconds=idle_seconds
        ):
            yield version

    async def version_in_use(self, query: str | None = None) -> str:
        """Return the version in use, for `Experience.model_version` where that is what answers.

        With the query, that is the version to ask: while one is tried, it answers a share of the queries
        (`serving.candidate_share`), the same ones each time.

        Ask as the answer is given, not as it is published: a version may be put into use in between. The first call
        reads `model-versions` and follows it from then on; later ones return at once.

        Raises:
            TopicsError: the topic is not there.
            ConnectionFailedError: the broker cannot be reached.
        """
        return await self._version.name(query)

    async def _confirmed(self, delivery: Any) -> Receipt:
        with broker_errors(self.settings):
            metadata = await delivery
        return Receipt(metadata.topic, metadata.partition, metadata.offset)

    def _settled(self, task: asyncio.Future[Receipt]) -> None:
        self._under_way.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed.append(error)


def topic_of(event: Event) -> str:
    """Return the topic that an event is published to.

    Raises:
        TypeError: events of this kind are not published from outside.
    """
    try:
        return _TOPIC_OF[type(event)]
    except KeyError:
        names = ", ".join(kind.__name__ for kind in _TOPIC_OF)
        raise TypeError(f"{type(event).__name__} is not published from outside: {names} are") from None
