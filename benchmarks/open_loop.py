"""Feedback at a fixed rate, whatever the answer takes, and when its score updates are seen."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from benchmarks.load import percentile
from benchmarks.topics import ends, reader
from schemas.events import ScoreUpdate
from schemas.settings import Settings
from streams import topics
from streams.kafka.options import client_options
from streams.kafka.publisher import Outgoing, Publisher

TICK_SECONDS = 0.002
"""Least time between two calls."""
LATE_SECONDS = 30.0
"""How long the last score updates are waited for."""


@dataclass(frozen=True, slots=True)
class OpenLoop:
    """Feedback at a fixed rate, whatever the answer takes."""

    rate: float
    seen_ms: list[float]
    """From the moment at which a feedback was due until a consumer had its score update."""
    own_ms: list[float]
    """What the updates themselves tell: from the broker's time of the feedback to the update."""
    missing: int
    """Feedbacks without an update in time."""

    def summary(self) -> dict[str, float]:
        """Return percentiles in milliseconds."""
        lists = {"seen": self.seen_ms, "own": self.own_ms}
        return {
            f"{name} p{share * 100:g}": round(percentile(values, share), 2)
            for name, values in lists.items()
            for share in (0.5, 0.9, 0.99, 1.0)
        }


Told = Callable[[bytes], Iterable[tuple[str, float]]]
"""Reads the feedbacks that a record is about, each with the latency that the record itself tells, in milliseconds."""


def _of_update(value: bytes) -> Iterable[tuple[str, float]]:
    update = ScoreUpdate.from_json(value)
    return [] if update.feedback_id is None else [(update.feedback_id, update.latency_ms)]


async def open_loop(
    settings: Settings,
    messages: Mapping[str, Outgoing],
    rate: float,
    output: str = topics.SCORE_UPDATES,
    told: Told = _of_update,
) -> OpenLoop:
    """Publish `rate` feedbacks a second on their due times, and note when their score updates are seen.

    Args:
        settings: names the deployment.
        messages: feedback by its id, in order.
        rate: a second.
        output: topic, named without prefix, in which something comes of each feedback.
        told: reads its records.
    """
    start = time.time() + 1.0
    due = {name: start + number / rate for number, name in enumerate(messages)}
    async with publisher_of(settings) as publisher:
        starts = await ends(settings, output)
        watching = asyncio.create_task(_watch(settings, output, told, starts, set(messages), max(due.values())))
        sending = []
        # What has fallen due goes in one call: a call a message would be slower than the rates that are measured.
        waiting = list(messages.items())
        while waiting:
            await asyncio.sleep(max(TICK_SECONDS, due[waiting[0][0]] - time.time()))
            now = time.time()
            count = next((place for place, (name, _) in enumerate(waiting) if due[name] > now), len(waiting))
            ready, waiting = [message for _, message in waiting[:count]], waiting[count:]
            sending.append(asyncio.create_task(publisher.publish(ready)))
        await asyncio.gather(*sending)
        seen = await watching
    return OpenLoop(
        rate,
        [(at - due[name]) * 1000 for name, (at, _) in seen.items()],
        [own for _, own in seen.values()],
        len(messages) - len(seen),
    )


@asynccontextmanager
async def publisher_of(settings: Settings) -> AsyncIterator[Publisher]:
    """Open a publisher."""
    publisher = Publisher(client_options(settings))
    await publisher.start()
    try:
        yield publisher
    finally:
        await publisher.stop()


async def _watch(
    settings: Settings, output: str, told: Told, starts: dict[int, int], wanted: set[str], until: float
) -> dict[str, tuple[float, float]]:
    """Return when each feedback's update was seen, in epoch seconds, with the update's own latency."""
    seen: dict[str, tuple[float, float]] = {}
    async with reader(settings, output, starts, committed=True) as consumer:
        while wanted - seen.keys() and time.time() < until + LATE_SECONDS:
            batches = await consumer.getmany(timeout_ms=500)
            now = time.time()
            for record in (record for batch in batches.values() for record in batch):
                for name, own in told(record.value):
                    if name in wanted:
                        seen.setdefault(name, (now, own))
    return seen
