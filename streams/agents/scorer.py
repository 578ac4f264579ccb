"""learn-from-feedback: the scorer's log in, score updates out.

The scorer is a fold over its log, so that every process of this role that reads the log says the same. One of them is
active: the consumer group has given it the log's only partition, and it publishes. The others stand by: they fold what
the active one has published, and go on from there when the partition becomes theirs.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from aiokafka.errors import KafkaError

from schemas.records import Joined, Learning, Scored, ScorerEntry
from streams import topics
from streams.agents.checkpointing import Checkpointing
from streams.agents.scorer_control import ScorerControl
from streams.agents.services import Services
from streams.kafka.publisher import Outgoing
from streams.state.scorer_log import LogItem, LogReader, item_of
from streams.state.scorer_state import ScorerState
from streams.transport.batch import RecordBatch
from trainers.scorer.checkpoint import CheckpointStore, check_start, version_name_of
from trainers.scorer.entries import Use, use_of
from trainers.scorer.fold import ScorerFold
from trainers.scorer.network import build_network
from trainers.scorer.updates import encode_update

log = logging.getLogger("tierstream.scorer")

FEATURES_FOLDER = "scorer-log-features"
FEATURES_OF_BEFORE = "scorer-features"


class ScorerAgent:
    """Scores arriving experiences and learns from feedback.

    Raises:
        ArchitectureMismatchError: the network or the checkpoint is of another architecture than the settings.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._settings = services.settings
        shutil.rmtree(services.state_dir / FEATURES_OF_BEFORE, ignore_errors=True)
        self._store = CheckpointStore(services.data_dir / "scorer", self._settings.scorer)
        _check_start(self._store, services)
        self._state = ScorerState(self._settings, services.state_dir / FEATURES_FOLDER)
        self._checkpoints = Checkpointing(self._store, self._state, self._settings.scorer)
        self._control = ScorerControl(self._settings, self._state)
        self._turn = asyncio.Lock()
        """Held while the scorer changes or is copied."""
        self._active = False
        self._published = 0
        """Offset in the log up to which score updates are known to be published."""
        self._publishing: dict[int, int] = {}
        """End offsets of the batches whose updates are on their way, with where each begins."""
        self._resumed_at: int | None = None
        """Where the log says that learning goes on, seen from a pause before it."""
        self._reader: LogReader | None = None
        """Open while this scorer stands by."""

    # Starting, standing by, becoming active

    async def stand_by(self) -> None:
        """Read along, once: fold what the active scorer has published."""
        if self._active:
            return
        async with self._turn:
            if self._active:
                return
            try:
                if self._reader is None:
                    self._reader = await LogReader(self._settings).__aenter__()
                await self._catch_up(self._reader, await self._reader.committed())
            except KafkaError as error:
                log.warning("the log cannot be read along now: %r", error)
                await self._close_reader()

    async def start_offset(self, committed: int | None) -> int:
        """Become active; return the offset in the log to go on from, up to which all updates are published.

        Raises:
            TierstreamError: the log, or the settings beside it, do not allow it.
        """
        async with self._turn:
            self._publishing.clear()
            # What was learned and perhaps not published is said again, as it was.
            if self._state.next_offset > max(committed or 0, self._published):
                self._state.fold = None
            async with LogReader(self._settings) as reader:
                await self._catch_up(reader, committed or 0)
                self._published = max(committed or 0, self._published)
                await self._catch_up(reader, self._published)
            await self._close_reader()
            # Raises where the settings do not fit; what they ask for stands in the log before anybody relies on it.
            await self._control.write_due(self._services.publisher)
            self._active, self._resumed_at = True, None
            fold = self._state.fold
            log.info("scorer active from offset %d, step %d", self._published, fold.learner.step if fold else 0)
            return self._published

    def forget(self) -> None:
        """Stand by again: the partition is another's, or comes anew."""
        self._active = False

    async def _catch_up(self, reader: LogReader, end: int) -> None:
        """Fold the log up to `end` without publishing anything, from the newest checkpoint or where the fold stands."""
        if self._state.fold is None:
            self._published = max(self._published, await self._checkpoints.load())
        await self._state.catch_up(reader, end)

    async def _close_reader(self) -> None:
        if self._reader is not None:
            reader, self._reader = self._reader, None
            await reader.__aexit__()

    # The stream

    async def process(self, batch: RecordBatch) -> None:
        """Fold one chunk of the log; returns when its updates are published, and lets the next one begin before."""
        begin, end = batch.records[0].offset, batch.records[-1].offset + 1
        async with self._turn:
            if begin > self._state.next_offset and not self._looks_ahead:
                if self._resumed_at is not None:
                    return  # on its way when the partition was sent back: it comes again
                raise RuntimeError(f"the log's records from {begin} on came where {self._state.next_offset} should")
            self._publishing[end] = begin
            scored: list[Scored] = []
            for record in batch.records:
                scored += await self._look_at(item_of(record))
            outgoing = self._address(scored)
        await self._services.publisher.publish(outgoing)
        self._count(scored)
        self._publishing.pop(end, None)  # not there where the partition has come back meanwhile
        self._published = min((self._state.next_offset, *self._publishing.values()))
        self._checkpoints.begin_when_due(self._turn, lambda: self._active, lambda: self._published)

    @property
    def _looks_ahead(self) -> bool:
        """Whether learning is paused, and the log does not say yet that it goes on."""
        fold = self._state.fold
        return fold is not None and fold.paused_since is not None and self._resumed_at is None

    async def _look_at(self, item: LogItem) -> list[Scored]:
        """Take a record, or while learning is paused only score what arrives: all of it comes again."""
        if self._looks_ahead and isinstance(item.record, Learning) and not item.record.paused:
            self._resumed_at = item.offset
        if item.offset == self._state.next_offset and not self._looks_ahead:
            scored = await self._state.take(item)
            if item.offset == self._resumed_at:
                self._resumed_at = None
            return scored
        if self._looks_ahead and isinstance(item.record, Joined):
            return self._only_score(await self._state.complete(item))
        return []

    def _only_score(self, entries: Sequence[ScorerEntry]) -> list[Scored]:
        """Score arriving experiences and change nothing."""
        learner = self._fold.learner
        return [
            Scored(entry, "experience_arrived", learner.step, tuple(learner.score(entry).tolist()), None)
            for entry in entries
            if entry.origin not in learner.origins and use_of(entry, learner.settings) is Use.ARRIVED
        ]

    @property
    def _fold(self) -> ScorerFold:
        assert self._state.fold is not None  # the log begins with its settings
        return self._state.fold

    def _address(self, scored: Sequence[Scored]) -> list[Outgoing]:
        now, topic, fold = time.time(), self._settings.topic(topics.SCORE_UPDATES), self._fold
        version = fold.base or version_name_of(fold.learner.settings)
        # An entry comes from its key's partition, and all keyed topics have the same number of them.
        return [
            Outgoing(
                topic,
                result.entry.origin.partition,
                result.entry.experience_id.encode(),
                encode_update(result, fold.epoch, version, now),
            )
            for result in scored
        ]

    def _count(self, scored: Sequence[Scored]) -> None:
        self._services.metrics.count(topics.SCORER_LOG, Counter(result.reason for result in scored))
        published = time.time()
        judged = [result.entry.received_at for result in scored if result.reason != "experience_arrived"]
        self._services.metrics.observe_latency([max(0.0, published - received) for received in judged])

    # Beside the stream

    def durable_through(self) -> int | None:
        """Return the offset that may be committed at most: in a pause, where learning stopped; None is no bound."""
        fold = self._state.fold
        return self._state.next_offset if fold is None or fold.paused_since is not None else None

    async def follow(self) -> int | None:
        """Write into the log what the settings and the registry say, where the log does not say so yet.

        Returns:
            The offset from which on the log's records are to come again, as a pause has ended; None: they need not.

        Raises:
            TierstreamError: the settings have another architecture, and no version of it is in use.
        """
        if not self._active or self._state.fold is None:
            return None
        async with self._turn:
            if self._resumed_at is not None and self._state.next_offset < self._resumed_at and not self._publishing:
                return self._state.next_offset
            await self._control.write_due(self._services.publisher)
        return None

    async def checkpoint(self) -> None:
        """Write a checkpoint where there is something new; returns when it is on disk."""
        await self._checkpoints.write(self._turn, lambda: self._active, lambda: self._published)

    async def checkpoint_when_idle(self) -> None:
        """Write a checkpoint where something changed and then nothing happened for a while."""
        if self._checkpoints.is_idle():
            await self.checkpoint()

    # What it says of itself

    def status(self) -> dict[str, Any] | None:
        """Return the scorer's figures where it is active."""
        if not self._active or self._state.fold is None:
            return None
        return {**self._state.fold.status(), **self._control.status()}

    @property
    def records_taken(self) -> int:
        """How many records were looked at: grows while there is work, also where no offset is acknowledged."""
        return self._state.taken

    @property
    def is_active(self) -> bool:
        """Whether this process publishes."""
        return self._active

    @property
    def stands_by(self) -> bool:
        """Whether this process has read along, and another one publishes."""
        return not self._active and self._reader is not None

    def paused_since(self) -> float | None:
        """Return since when learning is paused, in epoch seconds; None where it is not."""
        return None if self._state.fold is None else self._state.fold.paused_since


def _check_start(store: CheckpointStore, services: Services) -> None:
    """Build the scorer and read it back, then look at the checkpoint, before anything is opened.

    Raises:
        ArchitectureMismatchError: either differs from the settings; names both, and for a checkpoint the two remedies.
    """
    build_network(services.settings.scorer)
    snapshot = store.load()
    if snapshot is not None:
        check_start(snapshot, services.data_dir, services.settings.scorer)
