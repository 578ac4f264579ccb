"""One engine at the work: feedback that lies ready, then feedback at fixed rates."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

import psutil

from benchmarks.load import Load, feedback_id
from benchmarks.open_loop import open_loop, publisher_of
from benchmarks.peers.effects import experiences_in, feedbacks_in
from benchmarks.peers.engines import FLOOR
from benchmarks.peers.running import RunningEngine
from benchmarks.system import CommandFailedError
from benchmarks.topics import ends, reader
from schemas.settings import Settings
from streams import topics
from streams.kafka.admin import admin_client, ensure_topics
from streams.kafka.lag import measure_lag
from streams.kafka.publisher import Outgoing

TIMEOUT_SECONDS = 180.0
"""After so long without anything new, an engine has failed."""
PUBLISH_AT_ONCE = 500
EXPERIENCES, FEEDBACKS = "experiences", "feedback"
"""What outputs are about; the floor's are keyed by it, and count what it has decoded."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    experiences: int
    feedbacks: int
    rates: Sequence[float]
    """Feedbacks a second."""
    seconds: float
    """Of each rate."""


@dataclass(slots=True)
class Result:
    """One engine in one round."""

    per_second: float
    """Feedbacks, from the moment it was let go until a consumer saw the last output."""
    cpu_per_1000: float
    """CPU seconds for a thousand feedbacks, the pairing of them included."""
    rss_bytes: int
    machine_per_1000: float
    """CPU seconds of the whole machine, broker, load and whoever watches included, for a thousand feedbacks."""
    in_use: float
    """Share of the machine's cores that was used meanwhile, 0 to 1."""
    latencies: dict[float, dict[str, float]] = field(default_factory=dict)
    """By feedbacks a second: p50 and p99 in milliseconds, and the number of feedbacks without a score in time."""


async def measure(engine: RunningEngine, sizes: Sizes) -> Result:
    """Let an engine take experiences, then feedback that lies ready, then feedback at fixed rates.

    Raises:
        CommandFailedError: it ended, or left feedback without a score.
    """
    settings, load = engine.settings, Load(engine.settings, sizes.experiences)
    output = engine.engine.output
    await start(engine)
    await publish(settings, load.experiences())
    await wait_for(engine, {}, EXPERIENCES, sizes.experiences)
    # It stands still while the feedback is published: neither takes the other's share of the machine.
    engine.tell(signal.SIGSTOP)
    await publish(settings, load.feedback(0, sizes.feedbacks))
    starts = await ends(settings, output)
    cpu_before, _ = engine.used()
    machine_before, started = _machine_cpu(), time.time()
    engine.tell(signal.SIGCONT)
    finished = await wait_for(engine, starts, FEEDBACKS, sizes.feedbacks)
    busy, total = (now - before for now, before in zip(_machine_cpu(), machine_before, strict=True))
    await _until_paired(engine)
    cpu, rss = engine.used()
    count = sizes.feedbacks
    result = Result(
        per_second=count / (finished - started),
        cpu_per_1000=(cpu - cpu_before) / count * 1000,
        rss_bytes=rss,
        machine_per_1000=busy / count * 1000,
        in_use=busy / total,
    )
    for rate in sizes.rates if engine.name != FLOOR else ():
        first, count = count, count + int(rate * sizes.seconds)
        ids = [feedback_id(number) for number in range(first, count)]
        messages = dict(zip(ids, load.feedback(first, count - first), strict=True))
        loop = await open_loop(settings, messages, rate, output, _told)
        await _until_paired(engine)
        seen = loop.summary()
        result.latencies[rate] = {"p50": seen["seen p50"], "p99": seen["seen p99"], "missing": loop.missing}
    return result


def _told(value: bytes) -> list[tuple[str, float]]:
    return [(found.decode(), 0.0) for found in feedbacks_in(value)]


async def start(engine: RunningEngine) -> None:
    """Start an engine and wait until its inputs and outputs are there: peers make their own topics.

    Raises:
        CommandFailedError: it ended before.
    """
    settings = engine.settings
    if engine.is_ours:
        await ensure_topics(settings, topics.topic_specs(settings))
    engine.start()
    needed = {settings.topic(name) for name in (topics.EXPERIENCES, topics.FEEDBACK, engine.engine.output)}
    async with admin_client(settings) as admin:
        while not needed <= set(await admin.list_topics()):
            engine.check()
            await asyncio.sleep(0.1)


def _machine_cpu() -> tuple[float, float]:
    """Return the seconds that the machine's cores were busy, and all of them, since it started."""
    times = psutil.cpu_times()
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return total - times.idle - getattr(times, "iowait", 0.0), total


async def wait_for(engine: RunningEngine, starts: dict[int, int], key: str, count: int) -> float:
    """Wait for outputs about so many experiences or feedbacks; return when the last one was seen, in epoch seconds.

    Raises:
        CommandFailedError: the engine ended, or they did not come.
    """
    seen: set[bytes] = set()
    known = 0
    ids_in = experiences_in if key == EXPERIENCES else feedbacks_in
    deadline = time.monotonic() + TIMEOUT_SECONDS
    async with reader(engine.settings, engine.engine.output, starts or None, committed=True) as consumer:
        while True:
            fetched, now = await consumer.getmany(timeout_ms=200), time.time()
            for record in (record for records in fetched.values() for record in records):
                if engine.name == FLOOR:
                    if (record.key or b"").endswith(key.encode()) and int(record.value) >= count:
                        return now
                    continue
                seen |= ids_in(record.value)
                if len(seen) >= count:
                    return now
            engine.check()
            if len(seen) > known:
                known, deadline = len(seen), time.monotonic() + TIMEOUT_SECONDS
            if time.monotonic() > deadline:
                raise CommandFailedError(f"{engine.name}: {known} of {count} {key} had outputs")


async def _until_paired(engine: RunningEngine) -> None:
    """Wait until the answers of what was scored are paired, where the engine pairs: its cost belongs to the work."""
    answers = engine.settings.topic(topics.ANSWERS)
    while engine.engine.pairs and any(row.lag for row in await measure_lag(engine.settings) if row.topic == answers):
        engine.check()
        await asyncio.sleep(0.2)


async def publish(
    settings: Settings, messages: Iterable[Outgoing], at_once: int = PUBLISH_AT_ONCE, pause_seconds: float = 0.0
) -> None:
    """Publish so many at once, with a pause after them, and wait for the acknowledgements."""
    waiting = iter(messages)
    async with publisher_of(settings) as publisher:
        while chunk := list(islice(waiting, at_once)):
            await publisher.publish(chunk)
            await asyncio.sleep(pause_seconds)
