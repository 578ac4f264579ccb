"""Follows what was judged, for alarms on drift and rewards by version: beside the stream, by a reader of its own.

It begins some thousand records back, so that what was found is found again after a restart. It has a thread of its own,
niced: all that was judged since the last look comes at once, and no score may wait for it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from threading import Thread
from types import TracebackType
from typing import Any, Self

from aiokafka import TopicPartition
from aiokafka.structs import ConsumerRecord

from schemas.events import Feedback, ScoreUpdate
from schemas.records import Answer
from schemas.settings import Settings
from streams import topics
from streams.kafka.consumer import Consumer, Spans
from streams.kafka.options import broker_errors
from streams.process import yield_to_tier_1
from trainers.drift import DriftMonitor
from trainers.outcome import OutcomeMonitor

HISTORY = 5_000
"""Newest records of each partition that a reader begins with."""
_POLL_MS = 50
_TOPICS = (topics.FEEDBACK, topics.SCORE_UPDATES, topics.ANSWERS)


class DriftReader:
    """A reader of what was judged; an async context manager, whose connection is made at the first look.

    Args:
        settings: where the broker is.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._run, name="drift", daemon=True)
        self._consumer: Consumer | None = None
        self._spans: Spans = {}
        self.monitor = DriftMonitor()
        self.outcome = OutcomeMonitor()

    async def __aenter__(self) -> Self:
        self._thread.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._consumer is not None:
                await self._there(self._consumer.stop())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            await asyncio.to_thread(self._thread.join)
            self._loop.close()

    async def look(self) -> DriftMonitor:
        """Read on to where the topics end now.

        Raises:
            ConnectionFailedError: the broker cannot be reached.
        """
        await self._there(self._read())
        return self.monitor

    def _run(self) -> None:
        if sys.platform == "linux":  # where niceness is a thread's own
            yield_to_tier_1()
        self._loop.run_forever()

    async def _there(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something on the thread's loop."""
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    async def _read(self) -> None:
        with broker_errors(self._settings):
            if self._consumer is None:
                self._consumer = await Consumer.of(self._settings, fetch_max_wait_ms=_POLL_MS).__aenter__()
            spans = self._spans or await self._newest(self._consumer)
            records = [record async for some in self._consumer.read(spans) for record in some if record.value]
            self._spans = dict.fromkeys(spans, (None, None))
        self._take(records)

    async def _newest(self, consumer: Consumer) -> Spans:
        names = [self._settings.topic(topic) for topic in _TOPICS]
        tps = [TopicPartition(name, p) for name in names for p in range(self._settings.topics.partitions)]
        firsts, ends = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
        return {tp: (max(firsts[tp], ends[tp] - HISTORY), None) for tp in tps}

    def _take(self, records: list[ConsumerRecord]) -> None:
        """Take the records of all partitions in the order of their time."""
        names = {self._settings.topic(topic): topic for topic in _TOPICS}
        for record in sorted(records, key=lambda record: record.timestamp):
            at, value = record.timestamp / 1000, record.value or b""
            try:
                if names[record.topic] == topics.FEEDBACK:
                    self.monitor.judged(Feedback.from_json(value), at)
                elif names[record.topic] == topics.SCORE_UPDATES:
                    self.monitor.scored(ScoreUpdate.from_json(value), at)
                else:
                    for answer, _ in Answer.each_from(value):
                        self.monitor.answered(answer, at)
                        self.outcome.answered(answer)
            except ValueError:
                continue  # whoever it was for has dead-lettered it
