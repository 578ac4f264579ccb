"""Follows what was judged, for alarms on drift and rewards by version: beside the stream, by a reader of its own.

It begins some thousand records back, so that what was found is found again after a restart.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from aiokafka import TopicPartition
from aiokafka.structs import ConsumerRecord

from schemas.events import Feedback, ScoreUpdate
from schemas.records import Answer
from schemas.settings import Settings
from streams import topics
from streams.kafka.consumer import Consumer, Spans
from streams.kafka.options import broker_errors
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
        self._consumer: Consumer | None = None
        self._spans: Spans = {}
        self.monitor = DriftMonitor()
        self.outcome = OutcomeMonitor()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._consumer is not None:
            await self._consumer.stop()

    async def look(self) -> DriftMonitor:
        """Read on to where the topics end now.

        Raises:
            ConnectionFailedError: the broker cannot be reached.
        """
        with broker_errors(self._settings):
            if self._consumer is None:
                self._consumer = await Consumer.of(self._settings, fetch_max_wait_ms=_POLL_MS).__aenter__()
            spans = self._spans or await self._newest(self._consumer)
            records = [record async for some in self._consumer.read(spans) for record in some if record.value]
            self._spans = dict.fromkeys(spans, (None, None))
        await asyncio.to_thread(self._take, records)
        return self.monitor

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
