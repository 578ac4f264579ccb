"""start-dpo-job, start-kto-job and start-sft-job: examples in; at the threshold a dataset snapshot, then one job."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from datetime import UTC, datetime

from pydantic import ValidationError

from schemas.events import JobTier, LabelledAnswer, PreferencePair, Trace, TrainingExample
from streams import topics
from streams.agents.decoding import DecodedBatch, letter
from streams.agents.services import Services
from streams.kafka.dead_letters import explain
from streams.kafka.publisher import Outgoing
from streams.state.write_buffer import WriteBuffer
from streams.transport.batch import RecordBatch
from trainers.jobs.accumulate import BatchAccumulator, CompletedRun
from trainers.jobs.heldout import id_of
from trainers.jobs.snapshot import freeze_job

_MODELS: dict[JobTier, type[TrainingExample]] = {"dpo": PreferencePair, "kto": LabelledAnswer, "sft": Trace}


class JobAgent:
    """Counts distinct examples in the topic's order; every full run of them is one job."""

    def __init__(self, services: Services, tier: JobTier, table: str) -> None:
        self._services = services
        self._tier: JobTier = tier
        self._model: type[TrainingExample] = _MODELS[tier]
        self._table = services.tables[table]
        self._book: BatchAccumulator | None = None

    def forget(self) -> None:
        """Drop what was derived from the table: the partition may have moved."""
        self._book = None

    async def process(self, batch: RecordBatch) -> None:
        """Count one chunk of examples."""
        book = self.book()
        overlay = WriteBuffer(self._table, batch.partition)
        outgoing: list[Outgoing] = []
        outcomes: Counter[str] = Counter()
        reached = []
        decoded: DecodedBatch[TrainingExample] = DecodedBatch()
        for record in batch.records:
            try:
                example = self._model.from_json(record.value or b"")
            except ValidationError as error:
                decoded.letters.append(letter(batch, record, *explain(error)))
                continue
            good = example.good if isinstance(example, LabelledAnswer) else None
            added = book.add(id_of(example), example.to_json(), record.offset, good)
            outcomes["repeated" if added.repeated else "pending"] += 1
            for key, value in added.writes:
                overlay.set(key, value)
            if added.completed is not None:
                outcomes["jobs"] += 1
                reached.append(record.timestamp / 1000)
                outgoing.append(await self._freeze(added.completed, record.timestamp))
        await self._services.deliver(batch, decoded, outgoing, [overlay], outcomes)
        for at in reached:
            waited = max(0.0, time.time() - at)
            self._services.metrics.threshold_to_job.labels(self._tier).observe(waited)

    def book(self) -> BatchAccumulator:
        """Return the count so far, read from the table where it is not at hand."""
        if self._book is None:
            self._book = BatchAccumulator(self._services.settings.threshold(self._tier))
            for key, value in self._table.items(0):
                self._book.load(key, value)
        return self._book

    async def _freeze(self, run: CompletedRun, timestamp_ms: int) -> Outgoing:
        settings = self._services.settings
        # The record's time, so that a repetition is the same to the byte.
        at = datetime.fromtimestamp(timestamp_ms / 1000, UTC)
        job = await asyncio.to_thread(freeze_job, self._services.data_dir, self._tier, run, settings, at)
        return Outgoing(settings.topic(topics.JOBS), 0, job.job_id.encode(), job.to_json())

    def status(self) -> dict[str, int]:
        """Return how far the open run is."""
        book = self.book()
        threshold = self._services.settings.threshold(self._tier)
        return {"distinct": book.seen, "waiting": book.waiting, "threshold": threshold, "jobs": book.jobs}
