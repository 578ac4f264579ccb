"""pair-answers: judged answers and ticks in, preference pairs out, and labelled answers that found no partner."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import Any

from schemas.events import PreferencePair
from schemas.records import TICK, Answer
from streams import topics
from streams.agents.decoding import DecodedBatch, letter
from streams.agents.services import Services
from streams.kafka.publisher import Outgoing
from streams.state.write_buffer import WriteBuffer
from streams.transport.batch import RecordBatch
from trainers.pairs.funnel import Funnel
from trainers.pairs.matcher import Made, PairMatcher


class PairAgent:
    """Pairs the answers of each partition."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._table = services.tables[topics.ANSWERS_TABLE]
        self._matchers: dict[int, PairMatcher] = {}

    def forget(self) -> None:
        """Drop what was derived from the table: partitions may have moved."""
        self._matchers = {}  # another one, so that what is being loaded now is not kept

    async def load(self, partitions: Iterable[int]) -> None:
        """Derive partitions' state from the table; in a thread, as a large one takes longer than the group waits."""
        matchers = self._matchers
        for partition in partitions:
            matchers[partition] = await asyncio.to_thread(self._derived, partition)

    async def process(self, batch: RecordBatch) -> None:
        """Decide one chunk of answers and ticks."""
        matcher = self._matcher(batch.partition)
        overlay = WriteBuffer(self._table, batch.partition)
        outgoing: list[Outgoing] = []
        outcomes: Counter[str] = Counter()
        decoded: DecodedBatch[Any] = DecodedBatch()
        repaired = matcher.repair_after_crash()
        decisions = [] if repaired is None else [repaired]
        for record in batch.records:
            try:
                answers = Answer.each_from(record.value or b"")
            except ValueError as error:
                decoded.letters.append(letter(batch, record, "invalid_answer", str(error)))
                continue
            at = record.timestamp / 1000
            if record.value == TICK:
                decisions.append(matcher.tick(record.offset, at))
            decisions += [matcher.decide(answer, record.offset, at, encoded) for answer, encoded in answers]
        for decision in decisions:
            outcomes[decision.outcome] += 1
            outgoing += [self._outgoing(one) for one in decision.examples]
            for key, value in decision.writes:
                overlay.set(key, value)
        await self._services.deliver(batch, decoded, outgoing, [overlay], outcomes)

    def _outgoing(self, example: Made) -> Outgoing:
        if isinstance(example, PreferencePair):
            topic, key = topics.PAIRS, example.pair_id
        else:
            topic, key = topics.UNPAIRED, example.answer_id
        return Outgoing(self._services.settings.topic(topic), 0, key.encode(), example.to_json())

    def is_due(self, partition: int, now: float) -> bool:
        """Whether a tick of this time would find answers of the partition that have newly waited long enough."""
        return self._matcher(partition).is_due(now)

    def funnel(self, partition: int, now: float) -> Funnel:
        """Return the pair funnel of one partition at a broker time."""
        return self._matcher(partition).funnel(now)

    def _matcher(self, partition: int) -> PairMatcher:
        if partition not in self._matchers:
            self._matchers[partition] = self._derived(partition)
        return self._matchers[partition]

    def _derived(self, partition: int) -> PairMatcher:
        matcher = PairMatcher(self._services.settings.pairs, self._services.settings.unpaired)
        for key, value in self._table.items(partition):
            matcher.load(key, value)
        return matcher
