"""learn-from-feedback: scorer entries in; the log of steps and score updates out. One worker at a time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from pathlib import Path
from typing import Any

from schemas.errors import TierstreamError
from schemas.records import Scored, ScorerEntry, StepRecord
from streams import topology
from streams.agents.intake import letter
from streams.agents.services import Services
from streams.entry_log import read_entries, recent_start
from streams.feature_store import Entries, FeatureStore
from streams.publisher import Outgoing
from streams.step_log import read_steps
from streams.transport.batch import RecordBatch
from trainers.scorer.checkpoint import CheckpointStore
from trainers.scorer.entries import Use, use_of
from trainers.scorer.learner import OnlineLearner
from trainers.scorer.network import build_network
from trainers.scorer.pause import LearningPause
from trainers.scorer.steps import valid_steps
from trainers.scorer.updates import encode_update

log = logging.getLogger("tierstream.scorer")

FEATURES_FOLDER = "scorer-features"

INLINE_ENTRIES = 8
"""Up to so many entries are learned on the event loop; a hand-over to a thread would cost more."""


class Ownership:
    """One worker's turn at the scorer: from taking over until the partition is revoked."""

    def __init__(
        self, learner: OnlineLearner, epoch: int, logged: list[StepRecord], log_offset: int, features: FeatureStore
    ) -> None:
        self.learner = learner
        self.epoch = epoch
        self.features = features
        self.logged = logged
        """Steps of earlier owners that are still to be applied, as they were logged."""
        self.log_offset = log_offset
        """Offset in the log of steps up to which every valid step is applied."""
        self.waiting: Entries = []
        """Entries that the next logged step covers only in part."""
        self.saved_clocks = features.clocks
        self.read_again = False
        """Whether the features were read from the topic's start, because some were not there."""
        self.saved_step = learner.step
        self.saved_offset = learner.next_offset
        self.changed_at = time.monotonic()


class ScorerAgent:
    """Scores arriving experiences and learns from feedback."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._settings = services.settings
        self._store = CheckpointStore(services.data_dir / "scorer", services.settings.scorer)
        self._owner: Ownership | None = None
        self._turn = asyncio.Lock()
        """Held while the learner changes or is copied."""
        self._saving: asyncio.Task[Path] | None = None
        self._publishing: asyncio.Task[None] | None = None
        """The score updates of the last chunk: on their way while the next chunk is learned."""
        self._read_to: int | None = None
        """Offset after the chunks that came in this ownership."""
        self._failed = False
        """Whether a chunk failed: one that comes behind it would leave it out."""
        self._started_at = 0
        self._pause = LearningPause(services.data_dir)
        self._passed_by = False
        """Whether entries were only looked at, because learning is paused: they are to come again."""
        self._sent_back_to: int | None = None
        """Where the partition was sent back to, until a batch from there comes."""
        self._refused: dict[str, str] = {}
        """Why the version in use is not taken over, by its name."""

    def check_architecture(self) -> None:
        """Build the scorer and read it back, then look at the checkpoint: neither may differ from the settings.

        Raises:
            ArchitectureMismatchError: names both, and for a checkpoint the two remedies.
        """
        build_network(self._settings.scorer)
        self._store.load_latest()

    def forget(self) -> None:
        """Give the scorer up; its partition is read anew, if at all."""
        self._give_up()
        self._failed = False

    def _give_up(self) -> None:
        if self._owner is not None:
            self._owner.features.close()
            self._owner = None
        self._passed_by, self._sent_back_to = False, None
        self._publishing = self._read_to = None

    def durable_through(self) -> int:
        """Return the input offset that may be committed: what the newest checkpoint has learned up to."""
        return self._store.durable_offset() or 0

    async def start_offset(self) -> int:
        """Return the input offset to resume at: without a checkpoint, the retained stream is learned again."""
        await asyncio.to_thread(self._store.load_latest)
        self._started_at = self.durable_through()
        return self._started_at

    async def process(self, batch: RecordBatch) -> None:
        """Score and learn one chunk; returns when its updates are published, and lets the next one begin before."""
        async with self._turn:
            if self._comes_again(batch):
                return
            try:
                self._check_order(batch)
                owner = await self._owned()
                work = self._only_score(owner, batch) if self._pause.is_on else await self._work(owner, batch)
            except BaseException:
                self._fail()
                raise
            publishing = self._publishing = asyncio.create_task(self._publish(owner, work, self._publishing))
        try:
            await publishing
        except BaseException:
            if owner is self._owner:
                self._fail()
            raise
        await self._checkpoint_when_due(owner)

    def _fail(self) -> None:
        """Give up what was learned: what is not published must not come into a checkpoint."""
        self._give_up()
        self._failed = True

    def _check_order(self, batch: RecordBatch) -> None:
        """See that no entries are left out between chunks: what lies before learned ones is taken for learned, too.

        A chunk may come again: its partition was sent back while it was on its way.
        """
        first, end = batch.records[0].offset, batch.records[-1].offset + 1
        if self._failed:
            raise RuntimeError(f"scorer entries {first} and on come after some that failed")
        if self._read_to is not None and first > self._read_to:
            raise RuntimeError(f"scorer entries {first} and on came where {self._read_to} should")
        self._read_to = max(end, self._read_to or 0)

    async def take_over_when_assigned(self, assigned: bool) -> None:
        """Take the scorer over where its partition is this worker's: the first feedback need not wait for it."""
        if assigned and self._owner is None:
            async with self._turn:
                await self._owned()

    async def follow(self) -> int | None:
        """Take over a version that was put into use, and learn what came during a pause that has ended.

        Returns:
            The offset from which on the partition's records are to come again; None: they need not.
        """
        async with self._turn:
            if self._owner is None:
                return None
            resumed = self._passed_by and not self._pause.is_on
            if not resumed and not await self._version_is_new(self._owner.learner.base):
                return None
        await self.checkpoint()
        async with self._turn:
            if self._owner is None:
                return None
            self.forget()
            self._sent_back_to = await self.start_offset()
            return self._sent_back_to

    async def checkpoint_when_idle(self) -> None:
        """Write a checkpoint where something changed and then nothing happened for a while."""
        owner = self._owner
        if owner and time.monotonic() - owner.changed_at >= self._settings.scorer.checkpoint_idle:
            await self.checkpoint()

    async def checkpoint(self) -> None:
        """Write a checkpoint where there is something new; returns when it is on disk."""
        await self._begin_checkpoint()
        if self._saving is not None:
            await self._saving

    def status(self) -> dict[str, Any] | None:
        """Return the learner's figures where this worker owns the scorer."""
        owner = self._owner
        if owner is None:
            return None
        return {"epoch": owner.epoch, **owner.learner.status(), "version_refused": self._refused or None}

    def paused_since(self) -> str | None:
        """Return when learning was paused, None where it is not."""
        return self._pause.since()

    async def _version_is_new(self, base: str | None) -> bool:
        """Tell whether another version than `base` is in use and fits the settings; one that does not is told once."""
        version = await asyncio.to_thread(self._store.new_version, base)
        if version is None or version in self._refused:
            return False
        try:
            await asyncio.to_thread(self._store.load_latest)
        except TierstreamError as error:
            log.error("%s; until then the scorer before goes on", error)
            self._refused = {version: str(error)}
            return False
        return True

    def _comes_again(self, batch: RecordBatch) -> bool:
        """Tell whether a batch was on its way when the partition was sent back, or is about to be."""
        if self._sent_back_to is not None:
            if batch.records[0].offset > self._sent_back_to:
                return True
            self._sent_back_to = None
        return self._passed_by and not self._pause.is_on

    def _only_score(self, owner: Ownership, batch: RecordBatch) -> list[Scored]:
        """Score arriving experiences and change nothing: all of the batch comes again when learning goes on."""
        self._passed_by = True
        learner, scored = owner.learner, []
        for record in batch.records:
            try:
                entry = ScorerEntry.decode(record.value or b"")
            except (ValueError, KeyError, TypeError):
                continue  # set aside when it comes again
            known = record.offset < learner.next_offset or entry.origin in learner.origins
            if not known and use_of(entry, self._settings.scorer) is Use.ARRIVED:
                scores = tuple(learner.score(entry).tolist())
                scored.append(Scored(entry, "experience_arrived", learner.step, scores, None))
        return scored

    async def _owned(self) -> Ownership:
        if self._owner is None:
            self._owner = await self._take_over()
        return self._owner

    async def _take_over(self) -> Ownership:
        epoch = await asyncio.to_thread(self._store.claim_epoch)
        topic = self._settings.topic(topology.SCORER_STEPS)
        claim = StepRecord(kind="claim", epoch=epoch)
        [receipt] = await self._services.publisher.publish([Outgoing(topic, 0, None, claim.to_json())])
        learner = OnlineLearner(self._settings.scorer)
        snapshot = await asyncio.to_thread(self._store.load_latest)
        if snapshot is not None:
            if snapshot.epoch == 0:
                # A version that was put into use: from here on it is ours, and durable before anything is learned.
                snapshot = snapshot.begun(epoch, receipt.offset + 1)
                await asyncio.to_thread(self._store.save, snapshot)
            learner.restore(snapshot)
        if learner.next_offset < self._started_at:
            raise RuntimeError(f"the checkpoint at offset {self._started_at} has gone, {learner.next_offset} is left")
        begins_here = learner.log_offset > receipt.offset
        records = [] if begins_here else await read_steps(self._settings, topic, learner.log_offset, receipt.offset)
        logged = [step for step in valid_steps(records, learner.log_epoch) if step.step > learner.step]
        features = FeatureStore(self._services.state_dir / FEATURES_FOLDER, self._settings.join.retention)
        try:
            await self._read_features(features, learner.next_offset)
        except BaseException:
            features.close()
            raise
        log.info("scorer taken over: epoch %d, step %d, %d logged steps to apply", epoch, learner.step, len(logged))
        return Ownership(learner, epoch, logged, learner.log_offset, features)

    async def _read_features(self, features: FeatureStore, end: int) -> None:
        """Keep the features of every arrival before offset `end` that the store does not cover yet."""
        if features.covered >= end:
            return
        start = features.covered or await recent_start(self._settings, end)
        log.info("reading features: entries %d to %d", start, end)
        async for after, entries in read_entries(self._settings, start, end, strict=False):
            features.keep(entries, after)

    async def _work(self, owner: Ownership, batch: RecordBatch) -> list[Scored]:
        seen = owner.waiting[-1][0] if owner.waiting else owner.learner.next_offset - 1
        letters = []
        entries: Entries = []
        for record in batch.records:
            if record.offset > seen:
                try:
                    entries.append((record.offset, ScorerEntry.decode(record.value or b"")))
                except (ValueError, KeyError, TypeError) as error:
                    letters.append(letter(batch, record, "invalid_entry", repr(error)))
        await self._services.publisher.publish(self._services.dead_letters(letters))
        owner.waiting += await self._with_features(owner, entries, batch.records[-1].offset + 1)
        scored = await self._replay_logged(owner)
        if owner.waiting and not owner.logged:
            steps = owner.learner.plan(owner.waiting, owner.epoch)
            logged_through = await self._log(steps)
            scored += await self._apply(owner, owner.waiting, steps)
            owner.log_offset = max(owner.log_offset, logged_through)
            owner.waiting = []
        return scored

    async def _with_features(self, owner: Ownership, entries: Entries, end: int) -> Entries:
        """Keep the features that came, and fill in those that are lacking, from the topic's start if need be."""
        owner.features.keep(entries, end)
        filled = owner.features.fill(entries)
        if not owner.read_again and any(not entry.features for _, entry in filled):
            owner.read_again = True
            owner.features.forget()
            async for after, more in read_entries(self._settings, 0, end, strict=False):
                owner.features.keep(more, after)
            owner.features.keep(entries, end)
            filled = owner.features.fill(entries)
        return filled

    async def _replay_logged(self, owner: Ownership) -> list[Scored]:
        scored: list[Scored] = []
        while owner.logged and owner.waiting and owner.waiting[-1][0] >= owner.logged[0].last_offset:
            step = owner.logged.pop(0)
            covered = [pair for pair in owner.waiting if pair[0] <= step.last_offset]
            owner.waiting = owner.waiting[len(covered) :]
            scored += await self._apply(owner, covered, [step])
        return scored

    async def _log(self, steps: list[StepRecord]) -> int:
        topic = self._settings.topic(topology.SCORER_STEPS)
        receipts = await self._services.publisher.publish([Outgoing(topic, 0, None, s.to_json()) for s in steps])
        return max((receipt.offset + 1 for receipt in receipts), default=0)

    async def _apply(self, owner: Ownership, entries: Entries, steps: list[StepRecord]) -> list[Scored]:
        owner.changed_at = time.monotonic()
        if len(entries) <= INLINE_ENTRIES:
            return owner.learner.apply(entries, steps)
        return await asyncio.to_thread(owner.learner.apply, entries, steps)

    async def _begin_checkpoint(self) -> None:
        """Copy the learner and let a thread write it; an earlier one that failed raises here."""
        if self._saving is not None:
            await self._saving
        async with self._turn:
            owner = self._owner
            if owner is None or owner.learner.next_offset == owner.saved_offset:
                return
            if not await _is_done(self._publishing):
                self._fail()
                return
            # What the last checkpoint has learned is not learned again.
            owner.features.expire(owner.saved_clocks)
            snapshot = owner.learner.snapshot(owner.epoch, owner.log_offset)
            owner.saved_step, owner.saved_offset = snapshot.step, snapshot.next_offset
            owner.saved_clocks = owner.features.clocks
            self._saving = asyncio.create_task(asyncio.to_thread(self._store.save, snapshot))

    async def _checkpoint_when_due(self, owner: Ownership) -> None:
        """Begin a checkpoint beside the stream, unless the last one is not on disk yet."""
        if owner.learner.step - owner.saved_step < self._settings.scorer.checkpoint_every_steps:
            return
        if self._saving is not None and not self._saving.done():
            return
        await self._begin_checkpoint()

    async def _publish(self, owner: Ownership, scored: list[Scored], before: asyncio.Task[None] | None) -> None:
        """Publish updates after those of the chunk `before`, if that can be done."""
        if not await _is_done(before):
            raise RuntimeError("the score updates before these were not published")
        now = time.time()
        topic = self._settings.topic(topology.SCORE_UPDATES)
        version = owner.learner.base or self._store.version
        outgoing = []
        for result in scored:
            # An entry comes from its key's partition, and all keyed topics have the same number of them.
            partition, key = result.entry.origin.partition, result.entry.experience_id.encode()
            outgoing.append(Outgoing(topic, partition, key, encode_update(result, owner.epoch, version, now)))
        await self._services.publisher.publish(outgoing)
        self._services.metrics.count(topology.SCORER_ENTRIES, Counter(result.reason for result in scored))
        published = time.time()
        judged = [result.entry.received_at for result in scored if result.reason != "experience_arrived"]
        self._services.metrics.observe_latency([max(0.0, published - received) for received in judged])


async def _is_done(publishing: asyncio.Task[None] | None) -> bool:
    """Wait for updates that are on their way; return whether they arrived."""
    if publishing is None:
        return True
    await asyncio.wait([publishing])
    return not publishing.cancelled() and publishing.exception() is None
