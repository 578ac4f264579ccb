"""Publishing recorded events: those of a file, or a stretch of a topic once more."""

from __future__ import annotations

import asyncio
from codecs import BOM_UTF8
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from schemas.base import Event
from schemas.settings import Settings
from streams.client import Producer
from streams.contract import CONTRACTS
from streams.kafka.dead_letters import explain
from streams.kafka.log_range import LogRange, TimeRange
from streams.kafka.options import broker_errors

_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Recorded:
    """A recorded event, or why it is none, with how far the source is read."""

    where: str
    """Line or offset, for a message."""
    event: Event | None
    reason: str
    done: int
    total: int | None
    """None where it is not known; of the same unit as `done`: records or bytes."""


@dataclass(slots=True)
class Replayed:
    """What became of the recorded events."""

    published: int = 0
    """Events that the destination's broker has; with a dry run, that it would get."""
    bad: int = 0
    """Records that are no event of the topic."""
    first: datetime | None = None
    """The earliest timestamp among the events."""
    last: datetime | None = None
    """The latest one."""

    def take(self, event: Event) -> None:
        """Count an event."""
        at = getattr(event, "timestamp", None)
        if at is not None:
            self.first = at if self.first is None else min(self.first, at)
            self.last = at if self.last is None else max(self.last, at)
        self.published += 1


async def from_topic(settings: Settings, topic: str, stretch: TimeRange) -> AsyncIterator[Recorded]:
    """Yield a topic's events; see `LogRange`."""
    model = CONTRACTS[topic].event
    async with LogRange(settings, topic, stretch) as records:
        done = 0
        async for record in records:
            done += 1
            where = f"partition {record.partition} offset {record.offset}"
            yield _recorded(where, record.value or b"", model, done, records.offsets)


async def from_lines(
    lines: Iterable[bytes], topic: str, stretch: TimeRange, total: int | None = None
) -> AsyncIterator[Recorded]:
    """Yield the events of JSON lines whose timestamps are in the stretch.

    Empty lines are passed over, and the byte order mark that some editors begin a file with.

    Args:
        lines: one JSON object each.
        topic: name without the prefix.
        stretch: by the events' own timestamps.
        total: bytes of all lines, where that is known.
    """
    done = 0
    for number, line in enumerate(lines, start=1):
        done += len(line)
        if number == 1:
            line = line.removeprefix(BOM_UTF8)
        if not line.strip():
            continue
        recorded = _recorded(f"line {number}", line, CONTRACTS[topic].event, done, total)
        if recorded.event is None or _within(recorded.event, stretch):
            yield recorded


def _within(event: Event, stretch: TimeRange) -> bool:
    at: datetime | None = getattr(event, "timestamp", None)
    if at is None:
        return True
    return (stretch.since is None or at >= stretch.since) and (stretch.until is None or at < stretch.until)


def _recorded(where: str, value: bytes, model: type[Event], done: int, total: int | None) -> Recorded:
    try:
        return Recorded(where, model.from_json(value), "", done, total)
    except ValidationError as error:
        return Recorded(where, None, explain(error)[1], done, total)


async def replay(
    source: AsyncIterator[Recorded],
    topic: str,
    destination: Settings | None,
    *,
    rate: float | None,
    on_bad: Callable[[str, str], None],
    progress: Callable[[int, int | None], None],
) -> Replayed:
    """Publish what `source` yields.

    Args:
        source: recorded events of the topic.
        topic: name without the prefix.
        destination: settings of the deployment that gets them; None counts only.
        rate: at most so many events a second.
        on_bad: takes the place of a record that is no event, and the reason.
        progress: told how far the source is read, of how much.

    Raises:
        ConnectionFailedError: the broker did not take an event.
    """
    result = Replayed()
    if destination is None:
        async for recorded in _good(source, result, on_bad, progress):
            result.take(recorded)
        return result
    loop = asyncio.get_running_loop()
    in_flight: list[Awaitable[Any]] = []
    async with Producer(destination) as producer:
        started = loop.time()
        async for event in _good(source, result, on_bad, progress):
            if rate is not None:
                await asyncio.sleep(started + result.published / rate - loop.time())
            in_flight.append(await producer.enqueue(topic, event))
            result.take(event)
            if len(in_flight) >= _AT_ONCE:
                with broker_errors(destination):
                    await asyncio.gather(*in_flight)
                in_flight.clear()
        with broker_errors(destination):
            await asyncio.gather(*in_flight)
    return result


async def _good(
    source: AsyncIterator[Recorded],
    result: Replayed,
    on_bad: Callable[[str, str], None],
    progress: Callable[[int, int | None], None],
) -> AsyncIterator[Event]:
    async for recorded in source:
        progress(recorded.done, recorded.total)
        if recorded.event is None:
            result.bad += 1
            on_bad(recorded.where, recorded.reason)
        else:
            yield recorded.event
