"""store-traces: traces in; lines in the trace store and eligible traces out."""

from __future__ import annotations

import asyncio
from collections import Counter

from schemas.events import Trace
from streams import topics
from streams.agents.decoding import decode_batch
from streams.agents.services import Services
from streams.kafka.publisher import Outgoing
from streams.transport.batch import RecordBatch
from trainers.traces.store import TraceStore, TraceWriter
from trainers.traces.suitability import assess, is_eligible, stamp


class TraceAgent:
    """Stores traces, and hands on those that advance the threshold."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self.store = TraceStore(services.data_dir / "traces")
        self._writers: dict[int, TraceWriter] = {}

    def forget(self) -> None:
        """Close the files: partitions may have moved."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    async def process(self, batch: RecordBatch) -> None:
        """Store one chunk of traces."""
        settings = self._services.settings
        intake = decode_batch(batch, Trace, lambda event: event.trace_id, settings.topics.partitions)
        topic = settings.topic(topics.ELIGIBLE_TRACES)
        outgoing = [*intake.forwards, *self._services.dead_letters(intake.letters)]
        records = [(record.offset, trace) for record, trace in intake.events]
        new = await asyncio.to_thread(self._unseen, batch.partition, records)
        outcomes = Counter(
            forwarded=len(intake.forwards),
            dead_lettered=len(intake.letters),
            stored=len(new),
            duplicate_trace=len(records) - len(new),
        )
        for _, trace in new:
            assessment = assess(trace, settings.traces)
            outcomes[assessment.reasons[0] if assessment.reasons else assessment.grade] += 1
            if is_eligible(assessment, settings.traces):
                chosen = trace.model_copy(update={"chosen_by": stamp(settings.traces)})
                outgoing.append(Outgoing(topic, 0, trace.trace_id.encode(), chosen.to_json()))
        await self._services.publisher.publish(outgoing)
        # The line on disk is this agent's state: it is written after the outputs, as everywhere.
        await asyncio.to_thread(self._append, batch.partition, new)
        self._services.metrics.count(topics.TRACES, outcomes)

    def _unseen(self, partition: int, records: list[tuple[int, Trace]]) -> list[tuple[int, Trace]]:
        if not records:
            return []
        if partition not in self._writers:
            self._writers[partition] = self.store.open_writer(partition)
        return self._writers[partition].unseen(records)

    def _append(self, partition: int, records: list[tuple[int, Trace]]) -> None:
        if records:
            self._writers[partition].append(records)
