"""The app without a broker: agents process batches of records, and what they publish is kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from aiokafka.structs import ConsumerRecord

from schemas.base import Event
from schemas.records import ScorerEntry, StepRecord
from schemas.settings import Settings
from streams.app import TierstreamApp, build_app
from streams.publisher import Outgoing, Publisher, Receipt
from streams.transport.batch import Record, RecordBatch


class KeptPublisher(Publisher):
    """Acknowledges at once; every partition's offsets start at 0."""

    def __init__(self, client_options: Mapping[str, Any]) -> None:
        super().__init__(client_options)
        self.messages: list[Outgoing] = []
        self._ends: Counter[tuple[str, int]] = Counter()

    async def publish(self, messages: Sequence[Outgoing]) -> list[Receipt]:
        """Keep the messages and acknowledge them."""
        self.messages += messages
        receipts: dict[tuple[str, int], Receipt] = {}
        for message in messages:
            target = message.topic, message.partition or 0
            receipts[target] = Receipt(*target, self._ends[target])
            self._ends[target] += 1
        return list(receipts.values())

    def values(self, topic: str) -> list[bytes]:
        """Return what was published to a topic."""
        return [message.value for message in self.messages if message.topic == topic and message.value is not None]


@contextmanager
def offline_app(
    settings: Settings, earlier: Sequence[ScorerEntry] = ()
) -> Iterator[tuple[TierstreamApp, KeptPublisher]]:
    """Build the app as the worker does, with a publisher that keeps what it is given, the log of steps too.

    Args:
        settings: as the worker loads them.
        earlier: what the topic of scorer entries is said to hold before anything that a test hands to the scorer.
    """

    async def read_entries(*_: Any, **__: Any) -> AsyncIterator[tuple[int, list[tuple[int, ScorerEntry]]]]:
        yield 0, [(0, entry) for entry in earlier]

    async def read_steps(_: Settings, topic: str, start: int, end: int) -> list[tuple[int, StepRecord]]:
        values = list(enumerate(kept.values(topic)))[start : end + 1]
        return [(offset, StepRecord.from_json(value)) for offset, value in values]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streams.app.Publisher", KeptPublisher)
        patch.setattr("streams.agents.scorer.read_steps", read_steps)
        patch.setattr("streams.agents.scorer.read_entries", read_entries)
        app = build_app(settings)
        app.finalize()
        kept = app.services.publisher
        assert isinstance(kept, KeptPublisher)
        try:
            yield app, kept
        finally:
            owner = app.agents_of_ours.scorer._owner
            if owner is not None:
                owner.features.close()


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
