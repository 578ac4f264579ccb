"""What one experience costs that is judged again and again: the same for each judgement, however many came before."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from schemas.events import Experience, Feedback
from schemas.settings import Settings
from streams import topology
from streams.app import TierstreamApp
from tests.streams.offline import KeptPublisher, batch, offline_app

POPULAR = Experience.model_validate(
    {
        "experience_id": "pinned-board",
        "timestamp": 0,
        "query": "start page",
        "intent": {"type": "s"},
        "widget_plan": [{"widget_id": "w1", "widget_type": "gauge"}],
    }
)
CHUNK = 1_000
KIB, MIB = 1024, 1024 * 1024


class Stream:
    """Join and pairing without a broker, partition 0; what they publish is measured and passed on."""

    def __init__(self, app: TierstreamApp, published: KeptPublisher) -> None:
        self.agents, self.tables = app.agents_of_ours, app.services.tables
        self.bytes: Counter[str] = Counter()
        self.letters: list[bytes] = []
        self._published = published
        self._offsets: Counter[str] = Counter()

    async def experience(self, event: Experience, at: float) -> None:
        await self._feed(self.agents.join.process, topology.EXPERIENCES, [event], at)

    async def feedback(self, events: Sequence[Feedback], at: float) -> None:
        await self._feed(self.agents.join.process, topology.FEEDBACK, events, at)

    async def tick(self, at: float) -> None:
        await self._feed(self.agents.join.process, topology.TICKS, [b""], at)

    def kept(self) -> dict[bytes, bytes]:
        return dict(self.tables[topology.JUDGEMENTS_TABLE].items(0))

    async def _feed(self, process: Any, topic: str, values: Sequence[Any], at: float = 0.0) -> None:
        await process(batch(topic, *values, start=self._offsets[topic], at=at))
        self._offsets[topic] += len(values)
        messages, self._published.messages = self._published.messages, []
        for message in messages:
            self.bytes[message.topic] += len(message.key or b"") + len(message.value or b"")
        self.letters += [m.value or b"" for m in messages if m.topic == topology.DEAD_LETTERS]
        answers = [message.value for message in messages if message.topic == topology.ANSWERS]
        if answers:
            await self._feed(self.agents.pairs.process, topology.ANSWERS, answers)


@pytest.fixture
def stream(tmp_path: Path) -> Iterator[Stream]:
    settings = Settings.model_validate(
        {"data_dir": str(tmp_path), "join": {"retention": "1h"}, "topics": {"partitions": 1}}
    )
    with offline_app(settings) as (app, published):
        yield Stream(app, published)


def judgements(first: int, count: int) -> list[Feedback]:
    """Return judgements whose reward changes each time, under ids of 36 characters."""
    return [
        Feedback(
            feedback_id=str(number).zfill(36),
            experience_id=POPULAR.experience_id,
            timestamp=1_000_000_000 + number,  # type: ignore[arg-type]
            source="user",
            reward=1.0 if number % 2 else -1.0,
        )
        for number in range(first, first + count)
    ]


async def judged(stream: Stream, first: int, last: int, at: float) -> tuple[int, int]:
    """Let judgements come; return the bytes published, and the most memory that the last chunk took."""
    before = stream.bytes.total()
    for start in range(first, last - CHUNK, CHUNK):
        await stream.feedback(judgements(start, CHUNK), at)
    final = judgements(last - CHUNK, CHUNK)
    tracemalloc.start()
    await stream.feedback(final, at)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return stream.bytes.total() - before, peak


def test_the_cost_of_a_judgement_does_not_depend_on_how_many_came_before(stream: Stream) -> None:
    async def scenario() -> None:
        await stream.experience(POPULAR, 0.0)
        _, first_peak = await judged(stream, 0, 2 * CHUNK, 10.0)
        earlier, _ = await judged(stream, 2 * CHUNK, 26 * CHUNK, 10.0)
        later, last_peak = await judged(stream, 26 * CHUNK, 50 * CHUNK, 10.0)
        assert later == pytest.approx(earlier, rel=0.1)
        assert stream.bytes.total() < 50 * CHUNK * 3 * KIB
        assert last_peak < 1.1 * first_peak < 20 * MIB
        await stream.feedback([*judgements(0, 1), *judgements(25_000, 1), *judgements(50_000 - 1, 1)], 10.0)

    asyncio.run(scenario())
    print(stream.bytes)
