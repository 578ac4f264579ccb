"""A role's app without a broker: its agents process batches of records, and what they publish is kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any, Self

import pytest
from aiokafka.structs import ConsumerRecord, TopicPartition
from msgspec.structs import replace

from schemas.base import Event
from schemas.records import Configure, Joined, LogRecord, ScorerEntry, encode_log
from schemas.settings import Settings
from streams import topics
from streams.kafka.publisher import Outgoing, Publisher, Receipt
from streams.state.scorer_log import LogReader
from streams.topics import Role
from streams.transport.batch import Record, RecordBatch
from streams.worker.app import build_app
from streams.worker.role_app import TierstreamApp
from trainers.scorer.log_settings import learning_settings


class KeptLog:
    """The scorer's log as one partition that a test looks after; its broker time is the offset, in seconds."""

    def __init__(self) -> None:
        self.values: list[bytes] = []
        self.committed = 0
        self.kept_from = 0
        """The first offset that has not been deleted."""

    def append(self, *records: LogRecord | bytes) -> int:
        """Add records; return the first one's offset."""
        start = len(self.values)
        self.values += [one if isinstance(one, bytes) else encode_log(one) for one in records]
        return start

    def batch(self, start: int, end: int | None = None) -> RecordBatch:
        """Return what the transport would deliver of these offsets."""
        return RecordBatch("scorer-log", 0, self.records(start, end))

    def records(self, start: int, end: int | None = None) -> list[Record]:
        """Return the records of these offsets."""
        return [
            record(value, start + n, at=float(start + n), topic="scorer-log")
            for n, value in enumerate(self.values[start:end])
        ]


def log_reader(log: KeptLog) -> type[LogReader]:
    """Return a reader of a log that is kept here."""

    class Reader(LogReader):
        def __init__(self, settings: Settings) -> None:
            self._tp = TopicPartition(topics.SCORER_LOG, 0)

        async def __aenter__(self) -> Self:
            return self

        async def __aexit__(self, *_: object) -> None:
            """Have nothing to close."""

        async def committed(self) -> int:
            return log.committed

        async def first(self) -> int:
            return log.kept_from

        async def recent_start(self, end: int, retention: float) -> int:
            return log.kept_from

        async def raw(self, start: int, end: int | None) -> AsyncIterator[list[ConsumerRecord[bytes, bytes]]]:
            for one in log.records(max(start, log.kept_from), end):
                yield [one]

    return Reader


class KeptPublisher(Publisher):
    """Acknowledges at once; every partition's offsets start at 0. What goes to the scorer's log is in the log."""

    def __init__(self, client_options: Mapping[str, Any]) -> None:
        super().__init__(client_options)
        self.messages: list[Outgoing] = []
        self.log = KeptLog()
        self._ends: Counter[tuple[str, int]] = Counter()

    async def publish(self, messages: Sequence[Outgoing]) -> list[Receipt]:
        """Keep the messages and acknowledge them."""
        self.messages += messages
        receipts: dict[tuple[str, int], Receipt] = {}
        for message in messages:
            target = message.topic, message.partition or 0
            if message.topic.endswith(topics.SCORER_LOG):
                offset = self.log.append(message.value or b"")
            else:
                offset = self._ends[target]
                self._ends[target] += 1
            receipts[target] = Receipt(*target, offset)
        return list(receipts.values())

    def values(self, topic: str) -> list[bytes]:
        """Return what was published to a topic."""
        return [message.value for message in self.messages if message.topic == topic and message.value is not None]


@contextmanager
def offline_app(
    settings: Settings, role: Role, earlier: Sequence[LogRecord] | None = None, log: KeptLog | None = None
) -> Iterator[tuple[TierstreamApp, KeptPublisher]]:
    """Build a role's app as its process does, with a publisher that keeps what it is given.

    Args:
        settings: as the worker loads them.
        role: whose app.
        earlier: what the scorer's log holds before anything that a test hands to the scorer; without it the settings,
            as a worker writes them before anything is joined.
        log: shared with another app, in place of one of its own.
    """
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as state:
        patch.setattr("streams.worker.app.Publisher", KeptPublisher)
        app = build_app(settings.model_copy(update={"state_dir": settings.state_dir or state}), role)
        app.finalize()
        kept = app.services.publisher
        assert isinstance(kept, KeptPublisher)
        if log is None:
            kept.log.append(*([Configure(learning_settings(settings.scorer))] if earlier is None else earlier))
        else:
            kept.log = log
        for module in ("streams.agents.scorer", "streams.state.scorer_state", "streams.state.scorer_log"):
            patch.setattr(f"{module}.LogReader", log_reader(kept.log))
        try:
            yield app, kept
        finally:
            if scorer := app.agents_of_ours.scorer:
                scorer._state.features.close()
            for table in app.tables.values():
                table.data._dbs.clear()  # as Faust does at its end


async def hand_over(app: TierstreamApp, *records: LogRecord) -> None:
    """Add records to the log, and let the active scorer process them as one batch."""
    kept = app.services.publisher
    assert isinstance(kept, KeptPublisher)
    scorer = app.agents_of_ours.scorer
    assert scorer is not None
    if not scorer.is_active:
        start = await scorer.start_offset(kept.log.committed)
        if kept.log.values[start:]:
            await scorer.process(kept.log.batch(start))
    await scorer.process(kept.log.batch(kept.log.append(*records)))


def joined(*entries: ScorerEntry) -> Joined:
    """Return the record that the join would write: a feedback travels without the features of its arrival."""
    return Joined(tuple(travelling(one) for one in entries))


def travelling(entry: ScorerEntry) -> ScorerEntry:
    """Return the entry as it stands in the log."""
    return entry if entry.kind == "arrived" else replace(entry, features=b"")


def record(value: bytes | None, offset: int = 0, *, at: float = 0.0, key: bytes | None = None, **more: Any) -> Record:
    """Return a consumed record; `at` is broker time in epoch seconds."""
    fields = {"topic": "t", "partition": 0, "timestamp_type": 1, "checksum": None, "headers": (), **more}
    return ConsumerRecord(
        offset=offset,
        timestamp=int(at * 1000),
        key=key,
        value=value,
        serialized_key_size=len(key or b""),
        serialized_value_size=len(value or b""),
        **fields,
    )


def batch(topic: str, *values: Event | bytes, start: int = 0, at: float = 0.0, partition: int = 0) -> RecordBatch:
    """Return a batch of consecutive records."""
    raw = [value if isinstance(value, bytes) else value.to_json() for value in values]
    return RecordBatch(topic, partition, [record(value, start + n, at=at) for n, value in enumerate(raw)])
