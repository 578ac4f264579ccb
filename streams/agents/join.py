"""join-feedback: experiences, feedback and ticks in; the scorer's log and answers out."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from typing import Any

from schemas.events import DeadLetter, Experience, Feedback
from schemas.records import encode_joined
from streams import topics
from streams.agents.decoding import DecodedBatch, decode_batch, letter
from streams.agents.services import Services
from streams.join.decide import MAX_EARLY, Decisions, Joiner
from streams.join.expiry import ExpiryIndex
from streams.join.kept import Memory
from streams.join.state import EarlyFeedback
from streams.kafka.consumer import Unreadable
from streams.kafka.dead_letters import Record, attempt_of, dead_letter
from streams.kafka.publisher import Outgoing, partition_for
from streams.state.write_buffer import WriteBuffer
from streams.transport.batch import RecordBatch
from trainers.embedding import EmbeddingStats, MissingEmbeddingError, build_embedder
from trainers.prepare import ItemFeatures, count_supplied, prepare, query_hash

log = logging.getLogger("tierstream.join")

TURN_RECORDS = 100
"""After so many records the other agents have a turn: the scorer would wait for whole batches of ours, and idle."""

Prepared = list[tuple[Record, Experience, ItemFeatures]]


class JoinAgent:
    """Joins feedback to experiences, partition by partition."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._settings = services.settings
        self._embedder = build_embedder(services.settings.scorer)
        self._published = EmbeddingStats()
        self._supplied = 0
        self._expiry: dict[int, ExpiryIndex] = {}
        self._memories: defaultdict[int, Memory] = defaultdict(Memory)
        self._turns: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._experiences = services.tables[topics.EXPERIENCES_TABLE]
        self._judgements = services.tables[topics.JUDGEMENTS_TABLE]

    def forget(self) -> None:
        """Drop what was derived from the tables: partitions may have moved."""
        self._expiry = {}  # another one, so that what is being read now is not kept
        self._memories.clear()

    async def process(self, batch: RecordBatch) -> None:
        """Join one chunk of one partition; experiences, feedback and ticks of a partition take turns."""
        async with self._turns[batch.partition]:
            await self._process(batch)

    async def _process(self, batch: RecordBatch) -> None:
        experiences = WriteBuffer(self._experiences, batch.partition)
        judgements = WriteBuffer(self._judgements, batch.partition)
        memory = self._memories[batch.partition]
        joiner = Joiner(self._settings.reward, self._settings.join.retention, experiences, judgements, memory)
        name = batch.topic.removeprefix(self._settings.topics.prefix)
        decoded: DecodedBatch[Any] = DecodedBatch()
        # What tells whether an experience is known is written last when it comes, and first when it goes.
        overlays = [experiences, judgements]
        if name == topics.EXPERIENCES:
            decoded = await self._arrive(batch, joiner)
            overlays.reverse()
        elif name == topics.FEEDBACK:
            decoded = await self._judge(batch, joiner)
        else:
            await self._tick(batch, joiner)
        await self._services.deliver(batch, decoded, self._address(joiner.out), overlays, joiner.out.counts)
        if batch.partition in self._expiry:
            for since, key in joiner.out.started:
                self._expiry[batch.partition].add(since, key)

    async def _arrive(self, batch: RecordBatch, joiner: Joiner) -> DecodedBatch[Experience]:
        partitions = self._settings.topics.partitions
        intake = decode_batch(batch, Experience, lambda event: event.experience_id, partitions)
        fresh = [(record, event) for record, event in intake.events if not joiner.knows(event.experience_id)]
        joiner.out.counts["duplicate_experience"] += len(intake.events) - len(fresh)
        prepared, letters = await asyncio.to_thread(self._prepare, batch, fresh)
        self._count_embeddings(sum(count_supplied(event) for _, event, _ in prepared))
        intake.letters += letters
        for record, event, items in prepared:
            joiner.arrive(event, query_hash(event.query), items, record.offset, record.timestamp / 1000)
        return intake

    def _prepare(
        self, batch: RecordBatch, experiences: list[tuple[Record, Experience]]
    ) -> tuple[Prepared, list[DeadLetter]]:
        prepared: Prepared = []
        letters = []
        for record, event in experiences:
            try:
                prepared.append((record, event, prepare(event, self._embedder)))
            except MissingEmbeddingError as error:
                letters.append(letter(batch, record, "missing_embedding", str(error)))
        return prepared, letters

    def embedding(self) -> dict[str, Any]:
        """Return where embeddings came from so far and what they cost, ready for JSON."""
        made = self._embedder.stats
        return {
            "embedder": self._settings.scorer.embedder,
            "supplied": self._supplied,
            "cache": made.hits,
            "model": made.misses,
            "hit_rate": made.hit_rate,
            "seconds_per_text": made.seconds_per_text,
            "mixed": self._is_mixed(made),
        }

    def _is_mixed(self, made: EmbeddingStats) -> bool:
        """Say whether vectors of two models meet; whoever brings some beside `minilm` has to use that model."""
        return self._settings.scorer.embedder == "hash" and self._supplied > 0 and made.misses > 0

    def _count_embeddings(self, supplied: int) -> None:
        made, before, metrics = self._embedder.stats, self._published, self._services.metrics
        was_mixed = self._is_mixed(before)
        self._supplied, self._published = self._supplied + supplied, made
        metrics.embeddings.labels("supplied").inc(supplied)
        metrics.embeddings.labels("cache").inc(made.hits - before.hits)
        metrics.embeddings.labels("model").inc(made.misses - before.misses)
        metrics.embedding_seconds.inc(made.seconds - before.seconds)
        if self._is_mixed(made) and not was_mixed:
            log.warning(
                'some events bring embeddings, others get those of scorer.embedder = "hash", and those do not '
                'compare: let all bring theirs ("supplied"), or set "minilm" where they are of all-MiniLM-L6-v2'
            )

    async def _judge(self, batch: RecordBatch, joiner: Joiner) -> DecodedBatch[Feedback]:
        partitions = self._settings.topics.partitions
        intake = decode_batch(batch, Feedback, lambda event: event.experience_id, partitions, joiner.owns_key)
        for number, (record, event) in enumerate(intake.events, start=1):
            joiner.judge(event, record.offset, record.timestamp / 1000, attempt_of(record.headers))
            if number % TURN_RECORDS == 0:
                await asyncio.sleep(0)
        return intake

    async def _tick(self, batch: RecordBatch, joiner: Joiner) -> None:
        expiry = self._expiry
        if batch.partition not in expiry:  # in a thread, as a large table takes longer than the group waits
            items = self._judgements.items(batch.partition)
            expiry[batch.partition] = await asyncio.to_thread(ExpiryIndex, items)
        times = [record.timestamp for record in batch.records if not isinstance(record, Unreadable)]
        until = max(times, default=0) / 1000 - self._settings.join.retention
        for key in expiry[batch.partition].due(until):
            joiner.expire(key, until)

    def _address(self, out: Decisions) -> list[Outgoing]:
        topic, partitions = self._settings.topic, self._settings.topics.partitions
        scorer_log, answers = topic(topics.SCORER_LOG), topic(topics.ANSWERS)
        messages = [Outgoing(scorer_log, 0, None, record) for record in encode_joined(out.entries)]
        for intent_type, value in out.answers:
            key = intent_type.encode()
            messages.append(Outgoing(answers, partition_for(key, partitions), key, value))
        reason = "its experience did not come within join.retention"
        orphans = [self._letter(early, "orphan_feedback", reason) for early in out.orphans]
        reason = f"{MAX_EARLY:,} feedbacks wait for its experience, and no more may: publish that, then retry this"
        refused = [self._letter(early, "too_many_early", reason) for early in out.refused]
        return messages + self._services.dead_letters(orphans + refused)

    def _letter(self, early: EarlyFeedback, error_type: str, error: str) -> DeadLetter:
        topic, key = self._settings.topic(topics.FEEDBACK), early.feedback.experience_id.encode()
        value = early.feedback.to_json()
        return dead_letter(topic, early.partition, early.offset, key, value, error_type, error, early.attempt)
