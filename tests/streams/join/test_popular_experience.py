"""What one experience costs that is judged again and again: the same for each judgement, however many came before."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from schemas.events import DeadLetter, Experience, Feedback
from schemas.records import Joined, ScorerEntry, decode_log
from schemas.settings import Settings
from streams import topics
from streams.join.decide import MAX_EARLY
from streams.worker.role_app import TierstreamApp
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
PASSED_ON = (topics.ANSWERS, topics.SCORER_LOG, topics.DEAD_LETTERS)
CHUNK = 1_000
KIB, MIB = 1024, 1024 * 1024


class Stream:
    """Join and pairing without a broker, partition 0; what they publish is measured and passed on."""

    def __init__(self, join: tuple[TierstreamApp, KeptPublisher], pairs: tuple[TierstreamApp, KeptPublisher]) -> None:
        self._join, self._pairs = join, pairs
        self.bytes: Counter[str] = Counter()
        self.letters: list[bytes] = []
        self.entries: list[ScorerEntry] = []
        self._offsets: Counter[str] = Counter()

    async def experience(self, event: Experience, at: float) -> None:
        await self._feed(self._join, topics.EXPERIENCES, [event], at)

    async def feedback(self, events: Sequence[Feedback], at: float) -> None:
        await self._feed(self._join, topics.FEEDBACK, events, at)

    async def tick(self, at: float) -> None:
        await self._feed(self._join, topics.TICKS, [b""], at)

    def kept(self) -> dict[bytes, bytes]:
        return dict(self._join[0].services.tables[topics.JUDGEMENTS_TABLE].items(0))

    async def _feed(
        self, role: tuple[TierstreamApp, KeptPublisher], topic: str, values: Sequence[Any], at: float = 0.0
    ) -> None:
        app, published = role
        agent = app.agents_of_ours.join or app.agents_of_ours.pairs
        assert agent is not None
        await agent.process(batch(topic, *values, start=self._offsets[topic], at=at))
        self._offsets[topic] += len(values)
        messages, published.messages = published.messages, []
        for message in messages:
            self.bytes[message.topic] += len(message.key or b"") + len(message.value or b"")
        sent = {name: [m.value or b"" for m in messages if m.topic == name] for name in PASSED_ON}
        self.letters += sent[topics.DEAD_LETTERS]
        for record in map(decode_log, sent[topics.SCORER_LOG]):
            self.entries += record.entries if isinstance(record, Joined) else ()
        answers = sent[topics.ANSWERS]
        if answers:
            await self._feed(self._pairs, topics.ANSWERS, answers)


@pytest.fixture
def stream(tmp_path: Path) -> Iterator[Stream]:
    settings = Settings.model_validate(
        {"data_dir": str(tmp_path), "join": {"retention": "1h"}, "topics": {"partitions": 1}}
    )
    with offline_app(settings, "join") as join, offline_app(settings, "pairs") as pairs:
        yield Stream(join, pairs)


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


@pytest.mark.parametrize("chunks", [18, pytest.param(50, marks=pytest.mark.slow)])
def test_the_cost_of_a_judgement_does_not_depend_on_how_many_came_before(stream: Stream, chunks: int) -> None:
    half, last = (chunks // 2 + 1) * CHUNK, chunks * CHUNK

    async def scenario() -> None:
        await stream.experience(POPULAR, 0.0)
        _, first_peak = await judged(stream, 0, 2 * CHUNK, 10.0)
        earlier, _ = await judged(stream, 2 * CHUNK, half, 10.0)
        later, last_peak = await judged(stream, half, last, 10.0)
        assert later == pytest.approx(earlier, rel=0.1)
        assert later < (last - half) * 3 * KIB
        assert last_peak < 1.1 * first_peak < 20 * MIB

        before = stream.bytes.total()
        for first in (0, half, last - 1):
            await stream.feedback(judgements(first, 1), 10.0)
        assert stream.bytes.total() == before

    asyncio.run(scenario())


def test_what_was_judged_often_is_forgotten_bit_by_bit(stream: Stream) -> None:
    async def scenario() -> list[int]:
        await stream.experience(POPULAR, 0.0)
        for first in range(0, 12 * CHUNK, CHUNK):
            await stream.feedback(judgements(first, CHUNK), 10.0)
        left = []
        for _ in range(3):
            await stream.tick(4000.0)
            left.append(len(stream.kept()))
        return left

    # Beside 11,992 entries there is the ledger, until the last of them is gone.
    assert asyncio.run(scenario()) == [1_993, 0, 0]


def test_feedback_that_waits_costs_the_same_however_much_waits(stream: Stream) -> None:
    async def scenario() -> None:
        published, rest = [], MAX_EARLY
        while rest:
            before = stream.bytes.total()
            await stream.feedback(judgements(MAX_EARLY - rest, CHUNK), 10.0)
            published.append(stream.bytes.total() - before)
            rest -= CHUNK
        assert max(published) < 1.05 * min(published) < CHUNK * 2 * KIB

        await stream.feedback(judgements(MAX_EARLY, 2), 10.0)
        letters = [DeadLetter.from_json(letter) for letter in stream.letters]
        assert [(letter.error_type, letter.offset) for letter in letters] == [
            ("too_many_early", MAX_EARLY),
            ("too_many_early", MAX_EARLY + 1),
        ]
        before = stream.bytes.total()
        await stream.experience(POPULAR, 20.0)
        assert stream.entries[-1].feedback_id == judgements(MAX_EARLY - 1, 1)[0].feedback_id
        assert len(stream.entries) == 1 + MAX_EARLY
        assert stream.bytes.total() - before < MAX_EARLY * KIB

        await stream.feedback(judgements(MAX_EARLY, 1), 30.0)
        assert len(stream.entries) == 2 + MAX_EARLY

    asyncio.run(scenario())


def test_feedback_that_waits_in_vain_is_set_aside_from_the_ledger_too(stream: Stream) -> None:
    async def scenario() -> None:
        await stream.feedback(judgements(0, 2 * CHUNK), 10.0)
        for _ in range(2):
            await stream.tick(4000.0)

    asyncio.run(scenario())
    letters = [DeadLetter.from_json(letter) for letter in stream.letters]
    assert [(letter.error_type, letter.offset) for letter in letters] == [("orphan_feedback", n) for n in range(2_000)]
    assert stream.kept() == {}
