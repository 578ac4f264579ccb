"""Chunks of scorer entries: one is learned while the updates of the one before are on their way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from schemas.records import Origin
from schemas.settings import Settings
from streams.publisher import Outgoing, PublishError, Receipt
from streams.transport.batch import RecordBatch
from tests.streams.offline import KeptPublisher, batch, offline_app
from tests.trainers.scorer.making import arrival_of, entry


class Gate:
    """Holds back what goes to one topic."""

    def __init__(self, kept: KeptPublisher, topic: str) -> None:
        self._publish, self._topic = kept.publish, topic
        self.waiting: asyncio.Queue[asyncio.Future[None]] = asyncio.Queue()
        self.passed: asyncio.Queue[str] = asyncio.Queue()
        """Topics, as messages went to them."""
        kept.publish = self.publish  # type: ignore[method-assign]

    async def publish(self, messages: Sequence[Outgoing]) -> list[Receipt]:
        if messages and messages[0].topic == self._topic:
            let_go = asyncio.get_running_loop().create_future()
            self.waiting.put_nowait(let_go)
            await let_go
        receipts: list[Receipt] = await self._publish(messages)
        for receipt in receipts:
            self.passed.put_nowait(receipt.topic)
        return receipts

    async def until(self, topic: str) -> None:
        """Wait for messages to a topic."""
        async with asyncio.timeout(20):
            while await self.passed.get() != topic:
                pass


@asynccontextmanager
async def scorer_behind(folder: Path, topic: str) -> AsyncIterator[tuple[Any, KeptPublisher, Gate]]:
    """Yield a scorer that has learned an arrival, and the gate before one of its topics."""
    settings = Settings.model_validate({"data_dir": str(folder), "stream": {"table_store": "memory"}})
    with offline_app(settings) as (app, kept):
        scorer = app.agents_of_ours.scorer
        await scorer.process(chunk(0, arrived=True))
        yield scorer, kept, Gate(kept, topic)


def chunk(start: int, arrived: bool = False) -> RecordBatch:
    judged = entry(1, origin=Origin("feedback", 0, start))
    return batch("scorer-entries", (arrival_of(entry(1)) if arrived else judged).encode(), start=start)


def reasons(kept: KeptPublisher) -> list[str]:
    return [orjson.loads(value)["reason"] for value in kept.values("score-updates")]


async def two_under_way(scorer: Any, gate: Gate) -> tuple[asyncio.Task[None], asyncio.Future[None], asyncio.Task[None]]:
    """Return a chunk whose updates are held back, what lets them go, and the chunk that was learned meanwhile."""
    first = asyncio.create_task(scorer.process(chunk(1)))
    let_go = await gate.waiting.get()
    await gate.until("scorer-steps")
    second = asyncio.create_task(scorer.process(chunk(2)))
    await gate.until("scorer-steps")
    return first, let_go, second


def test_a_chunk_is_learned_while_updates_are_on_their_way_and_no_checkpoint_is_ahead_of_them(tmp_path: Path) -> None:
    async def run() -> None:
        async with scorer_behind(tmp_path, "score-updates") as (scorer, kept, gate):
            first, let_go, second = await two_under_way(scorer, gate)
            saving = asyncio.create_task(scorer.checkpoint())
            await asyncio.sleep(0.1)
            assert gate.waiting.empty()  # updates keep their order
            assert [task.done() for task in (first, second, saving)] == [False] * 3
            assert scorer.durable_through() == 0
            let_go.set_result(None)
            (await gate.waiting.get()).set_result(None)
            await asyncio.gather(first, second, saving)
            assert reasons(kept) == ["experience_arrived", "feedback_learned", "feedback_learned"]
            assert scorer.durable_through() == 3

    asyncio.run(run())


def test_after_updates_that_were_not_published_nothing_is_learned_until_the_partition_is_read_anew(
    tmp_path: Path,
) -> None:
    async def run() -> None:
        async with scorer_behind(tmp_path, "score-updates") as (scorer, kept, gate):
            first, let_go, second = await two_under_way(scorer, gate)
            let_go.set_exception(PublishError("the broker is away"))
            with pytest.raises(PublishError):
                await first
            with pytest.raises(RuntimeError, match="before these were not published"):
                await second
            with pytest.raises(RuntimeError, match="come after some that failed"):
                await scorer.process(chunk(3))
            await scorer.checkpoint()
            assert scorer.durable_through() == 0
            scorer.forget()
            again = asyncio.create_task(scorer.process(chunk(1)))
            (await gate.waiting.get()).set_result(None)
            await again
            assert reasons(kept) == ["experience_arrived", "feedback_learned"]

    asyncio.run(run())


def test_chunks_that_come_again_are_learned_once(tmp_path: Path) -> None:
    async def run() -> None:
        async with scorer_behind(tmp_path, "no-topic") as (scorer, kept, _):
            for start in (1, 2, 1, 2, 3):
                await scorer.process(chunk(start))
            assert reasons(kept) == ["experience_arrived", *["feedback_learned"] * 3]

    asyncio.run(run())


def test_a_chunk_that_leaves_some_out_is_refused_before_anything_is_learned_of_it(tmp_path: Path) -> None:
    async def run() -> None:
        async with scorer_behind(tmp_path, "no-topic") as (scorer, kept, _):
            with pytest.raises(RuntimeError, match="scorer entries 2 and on came where 1 should"):
                await scorer.process(chunk(2))
            with pytest.raises(RuntimeError, match="come after some that failed"):
                await scorer.process(chunk(1))
            assert reasons(kept) == ["experience_arrived"]

    asyncio.run(run())
