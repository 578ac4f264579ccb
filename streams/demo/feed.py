"""Publishes a simulated room's events at a steady pace, as an assistant and its judges would."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

from schemas.base import Event
from streams import topics
from streams.client import Producer
from streams.demo.room import Exchange

JUDGED_AFTER = 10
"""Feedback follows its answer after so many further answers."""


def schedule(exchanges: Sequence[Exchange]) -> Iterator[list[tuple[str, Event]]]:
    """Yield topic and event of everything that happens between one answer and the next."""
    for number in range(len(exchanges) + JUDGED_AFTER):
        moment: list[tuple[str, Event]] = []
        if number < len(exchanges):
            exchange = exchanges[number]
            moment.append((topics.EXPERIENCES, exchange.experience))
            if exchange.trace is not None:
                moment.append((topics.TRACES, exchange.trace))
        if number >= JUDGED_AFTER:
            moment += [(topics.FEEDBACK, feedback) for feedback in exchanges[number - JUDGED_AFTER].feedback]
        yield moment


async def publish(
    producer: Producer, exchanges: Sequence[Exchange], answers_per_second: float, published: Callable[[int], None]
) -> None:
    """Publish everything and wait until the broker has it.

    Args:
        producer: a started producer.
        exchanges: what happens.
        answers_per_second: the pace.
        published: told how many events went out since the last call.

    Raises:
        ConnectionFailedError: the broker did not take an event.
    """
    loop = asyncio.get_running_loop()
    start = loop.time()
    deliveries: list[Awaitable[Any]] = []
    for number, moment in enumerate(schedule(exchanges)):
        deliveries += [await producer.enqueue(topic, event) for topic, event in moment]
        published(len(moment))
        await asyncio.sleep(max(0.0, start + number / answers_per_second - loop.time()))
    await asyncio.gather(*deliveries)
