"""An engine that is killed by SIGKILL while feedback flows, and what became of every feedback."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from benchmarks.load import Load, feedback_id
from benchmarks.peers.effects import Effect, Outcome, check, effects_in
from benchmarks.peers.measure import EXPERIENCES, publish, start, wait_for
from benchmarks.peers.running import RunningEngine
from benchmarks.system import CommandFailedError
from benchmarks.topics import reader
from streams import topics

KILLS = 3
SESSION_SECONDS = 6
"""So long the broker takes a killed consumer for a living one."""
PATIENCE_SECONDS = 180.0
"""After so long without anything new, what is missing counts as lost."""
SETTLE_SECONDS = 3.0
"""In which repetitions come that are still under way."""
MOST_DEATHS = 5
"""By itself, in one run."""
AT_ONCE, PAUSE_SECONDS = 20, 0.02
"""Published at once, and the pause after it: feedback still flows when a kill comes."""
AGAIN = 100
"""Feedbacks that are published again after a kill, as a producer does that did not see the acknowledgement."""


async def outcome_of(engine: RunningEngine, experiences: int, feedbacks: int) -> Outcome:
    """Run an engine, kill it three times in the middle of its work, and start it again at once.

    Args:
        engine: not yet started; with `SESSION_SECONDS`.
        experiences: published, and taken in, before the first kill.
        feedbacks: in four portions, of which three meet a kill.

    Raises:
        CommandFailedError: it ended by itself before the first kill, or again and again after.
    """
    load, kills, effects = Load(engine.settings, experiences), list[float](), list[Effect]()
    await start(engine)
    await publish(engine.settings, load.experiences())
    await wait_for(engine, {}, EXPERIENCES, experiences)
    messages = load.feedback(0, feedbacks)
    ids = [feedback_id(number) for number in range(feedbacks)]
    deaths: list[float] = []
    watching = asyncio.create_task(_watch(engine, effects))
    try:
        for number in range(KILLS + 1):
            first, end = (feedbacks * place // (KILLS + 1) for place in (number, number + 1))
            sending = asyncio.create_task(
                publish(engine.settings, messages[max(0, first - AGAIN) : end], AT_ONCE, PAUSE_SECONDS)
            )
            if number < KILLS:
                await _until_seen(engine, effects, deaths, ids[: (first + end) // 2])
                engine.kill()
                kills.append(time.time())
                engine.start()
            await sending
            await _until_seen(engine, effects, deaths, ids[:end])
        await asyncio.sleep(SETTLE_SECONDS)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    learns = engine.engine.output == topics.SCORE_UPDATES
    return check(ids, effects, kills, learns, deaths)


async def _watch(engine: RunningEngine, effects: list[Effect]) -> None:
    output = engine.engine.output
    async with reader(engine.settings, output, committed=True) as consumer:
        while True:
            for records in (await consumer.getmany(timeout_ms=50)).values():
                for record in records:
                    effects += effects_in(output, record.timestamp / 1000, record.value)


async def _until_seen(
    engine: RunningEngine, effects: Sequence[Effect], deaths: list[float], ids: Sequence[str]
) -> None:
    """Wait until something came of these feedbacks, or nothing new has come for long.

    An engine that ended by itself is started again, as a supervisor would, and the time is put into `deaths`.

    Raises:
        CommandFailedError: it ended too often.
    """
    wanted, since, count = set(ids), time.monotonic(), 0
    while wanted and time.monotonic() < since + PATIENCE_SECONDS:
        await asyncio.sleep(0.02)
        try:
            engine.check()
        except CommandFailedError:
            if len(deaths) >= MOST_DEATHS:
                raise
            deaths.append(time.time())
            engine.start()
        if len(effects) > count:
            wanted.difference_update(effect.feedback_id for effect in effects[count:])
            since, count = time.monotonic(), len(effects)
