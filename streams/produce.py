"""Publishing a file of JSON lines: the good lines go out, the bad ones are named."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from schemas.base import Event
from schemas.settings import Settings
from streams.client import Producer
from streams.contract import CONTRACTS
from streams.kafka_options import broker_errors

_IN_FLIGHT = 1000


@dataclass(frozen=True, slots=True)
class Produced:
    """What became of the lines."""

    delivered: int
    """Events that the broker has."""
    bad: int
    """Lines that are no event of the topic."""


def parse_line(line: bytes, event: type[Event]) -> Event | str:
    """Return a line's event, or why it is none."""
    try:
        return event.from_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        return f"{where}: {first['msg']}" if where else first["msg"]


async def produce_lines(
    settings: Settings,
    topic: str,
    lines: Iterable[bytes],
    *,
    rate: float | None = None,
    on_bad: Callable[[int, str], None],
    on_line: Callable[[], None] = lambda: None,
) -> Produced:
    """Validate and publish lines; empty ones are passed over.

    Args:
        settings: where the broker is.
        topic: name without the prefix.
        lines: one JSON object each.
        rate: at most so many events a second.
        on_bad: takes a bad line's number (from 1) and the reason.
        on_line: called once a line.

    Raises:
        ConnectionFailedError: the broker did not take an event.
    """
    event_type = CONTRACTS[topic].event
    delivered = bad = 0
    in_flight: list[Awaitable[Any]] = []
    loop = asyncio.get_running_loop()
    async with Producer(settings) as producer:
        started = loop.time()
        for number, line in enumerate(lines, start=1):
            on_line()
            if not line.strip():
                continue
            event = parse_line(line, event_type)
            if isinstance(event, str):
                bad += 1
                on_bad(number, event)
                continue
            if rate is not None:
                await asyncio.sleep(started + (delivered + len(in_flight)) / rate - loop.time())
            in_flight.append(await producer.enqueue(topic, event))
            if len(in_flight) >= _IN_FLIGHT:
                delivered += await _delivered(settings, in_flight)
        delivered += await _delivered(settings, in_flight)
    return Produced(delivered, bad)


async def _delivered(settings: Settings, in_flight: list[Awaitable[Any]]) -> int:
    with broker_errors(settings):
        await asyncio.gather(*in_flight)
    count = len(in_flight)
    in_flight.clear()
    return count
