"""The client for threads: the async one on an event loop of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Coroutine, Iterable, Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self, TypeVar

from schemas.base import Event
from schemas.events import ModelVersion, ScoreUpdate, Trace
from schemas.settings import Settings
from streams.client.aio import AsyncClient
from streams.client.capture import Redact
from streams.client.producer import MAX_IN_FLIGHT, Receipt
from streams.client.reading import Start

T = TypeVar("T")
_END = object()


class Client:
    """`AsyncClient` for code without an event loop; a context manager that many threads may share.

    Args:
        settings: where the broker is; `load_settings()` takes them from the environment.
        max_in_flight: how many events may wait for the broker's word at a time; the next one waits.
        redact: applied to every text of a captured trace before it leaves the process.

    Example::

        with Client(load_settings()) as client:
            client.publish(Feedback(...))
    """

    def __init__(self, settings: Settings, *, max_in_flight: int = MAX_IN_FLIGHT, redact: Redact | None = None) -> None:
        self._arguments = (settings, max_in_flight, redact)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tierstream-client", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._client = self._call(self._open())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._call(self._client.__aexit__(kind, error, trace))
        finally:
            self._end()

    def publish(self, event: Event) -> Receipt:
        """Publish an event and wait until the broker has it; see `AsyncClient.publish`."""
        return self._call(self._client.publish(event))

    def publish_all(self, events: Iterable[Event]) -> list[Receipt]:
        """Publish events in batches and wait until the broker has all of them; see `AsyncClient.publish_all`."""
        return self._call(self._client.publish_all(events))

    def submit(self, event: Event) -> Future[Receipt]:
        """Hand an event over, waiting only where too many are under way; see `AsyncClient.submit`."""
        task = self._call(self._client.submit(event))
        return asyncio.run_coroutine_threadsafe(_awaited(task), self._loop)

    def flush(self) -> None:
        """Wait until the broker has everything that was submitted; see `AsyncClient.flush`."""
        self._call(self._client.flush())

    def capture(self, response: Any, **about: Any) -> Trace | None:
        """Publish a model's response as a trace, where the policy says so; see `AsyncClient.capture`."""
        return self._call(self._client.capture(response, **about))

    def score_updates(
        self, *, start: Start = "latest", group: str | None = None, idle_seconds: float | None = None
    ) -> Iterator[ScoreUpdate]:
        """Yield score updates as they come; see `AsyncClient.score_updates`."""
        return self._iterate(self._client.score_updates(start=start, group=group, idle_seconds=idle_seconds))

    def model_versions(self, *, start: Start = "earliest", idle_seconds: float | None = None) -> Iterator[ModelVersion]:
        """Yield the version in use of each line, then every change; see `AsyncClient.model_versions`."""
        return self._iterate(self._client.model_versions(start=start, idle_seconds=idle_seconds))

    def version_in_use(self, query: str | None = None) -> str:
        """Return the version in use, for `Experience.model_version`; see `AsyncClient.version_in_use`."""
        return self._call(self._client.version_in_use(query))

    async def _open(self) -> AsyncClient:
        settings, max_in_flight, redact = self._arguments
        return await AsyncClient(settings, max_in_flight=max_in_flight, redact=redact).__aenter__()

    def _iterate(self, events: AsyncGenerator[T]) -> Iterator[T]:
        turn = asyncio.Lock()
        try:
            while (event := self._call(_next(events, turn))) is not _END:
                yield event  # type: ignore[misc]
        finally:
            self._call(_close(events, turn))

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            # Ctrl-C ends the wait here; what was waited for ends, too.
            future.cancel()
            raise

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _next(events: AsyncGenerator[T], turn: asyncio.Lock) -> T | object:
    async with turn:
        return await anext(events, _END)


async def _close(events: AsyncGenerator[T], turn: asyncio.Lock) -> None:
    async with turn:
        await events.aclose()


async def _awaited(task: asyncio.Future[Receipt]) -> Receipt:
    return await task
