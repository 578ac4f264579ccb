"""A scorer's agent without a broker: what it is given, and what it said, learned and wrote."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson

from schemas.records import Configure, Joined, LogRecord
from schemas.settings import Settings
from streams.agents.scorer import ScorerAgent
from streams.kafka.publisher import Outgoing, Receipt
from tests.streams.offline import KeptLog, KeptPublisher, hand_over, joined, offline_app
from tests.trainers.scorer.making import arrival_of, entry, random_stream
from trainers.scorer.log_settings import learning_settings
from trainers.scorer.reading import newest_first

SMALL = {
    "rank": 4,
    "replay_capacity": 24,
    "replay_samples": 8,
    "validation_size": 12,
    "groups_per_step": 3,
    "pairs_per_step": 16,
    "validate_every_steps": 2,
    "plateau_patience": 1,
    "checkpoint_every_steps": 1000,
}


def settings_in(folder: Path, name: str = "state", **scorer: Any) -> Settings:
    values = {"data_dir": str(folder), "state_dir": str(folder / name), "scorer": {**SMALL, **scorer}}
    return Settings.model_validate(values)


@asynccontextmanager
async def scorer_in(
    folder: Path, log: KeptLog | None = None, name: str = "state", earlier: Any = None, **scorer: Any
) -> AsyncIterator[tuple[Any, ScorerAgent, KeptPublisher]]:
    """Yield a scorer's app, its agent and its publisher."""
    with offline_app(settings_in(folder, name, **scorer), "scorer", earlier, log) as (app, kept):
        agent = app.agents_of_ours.scorer
        assert agent is not None
        yield app, agent, kept


def arrivals_of(count: int = 40, seed: int = 1) -> list[LogRecord]:
    """Return a log of as many records: arrivals and feedback of all kinds, two entries each."""
    stream = random_stream(seed, 2 * count)
    brought = {arrival_of(one).origin: arrival_of(one) for one in stream}
    first = joined(*brought.values())
    return [first, *(joined(*stream[n : n + 2]) for n in range(0, len(stream), 2))]


def said(kept: KeptPublisher) -> list[dict[str, Any]]:
    """Return the score updates, without their clocks."""
    return [{**orjson.loads(value), "latency_ms": None} for value in kept.values("score-updates")]


def reasons(kept: KeptPublisher) -> list[str]:
    return [update["reason"] for update in said(kept)]


def weights(scorer: ScorerAgent) -> str:
    assert scorer._state.fold is not None
    return scorer._state.fold.learner.weights_hash()


def figures(scorer: ScorerAgent) -> dict[str, Any]:
    status = scorer.status()
    assert status is not None
    return {**status, "process": None}


def checkpoints(folder: Path) -> list[str]:
    return [path.name for path in newest_first(folder / "scorer" / "checkpoints")]


BROUGHT = joined(*(arrival_of(entry(number)) for number in range(20)))


class Gate:
    """Holds back what goes to one topic."""

    def __init__(self, kept: KeptPublisher, topic: str) -> None:
        self._publish, self._topic = kept.publish, topic
        self.waiting: asyncio.Queue[asyncio.Future[None]] = asyncio.Queue()
        kept.publish = self.publish  # type: ignore[method-assign]

    async def publish(self, messages: Sequence[Outgoing]) -> list[Receipt]:
        if messages and messages[0].topic == self._topic:
            let_go = asyncio.get_running_loop().create_future()
            self.waiting.put_nowait(let_go)
            await let_go
        receipts: list[Receipt] = await self._publish(messages)
        return receipts


def feedbacks(*numbers: int) -> Joined:
    return joined(*(entry(number) for number in numbers))


@asynccontextmanager
async def scorer_behind_a_gate(folder: Path, **scorer: Any) -> AsyncIterator[tuple[ScorerAgent, KeptPublisher, Gate]]:
    """Yield a scorer that has scored some arrivals, with three feedbacks in its log, and the gate before updates."""
    async with scorer_in(folder, **scorer) as (app, agent, kept):
        await hand_over(app, BROUGHT)
        kept.log.append(*(feedbacks(number) for number in range(3)))
        kept.messages.clear()
        yield agent, kept, Gate(kept, "score-updates")


async def settled() -> None:
    """Let everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0.005)


def all_said(folder: Path, log: KeptLog, size: int) -> tuple[list[dict[str, Any]], str, dict[str, Any]]:
    """Let a scorer process the log, so many records at a time; return what it says, its weights and its figures."""

    async def run() -> tuple[list[dict[str, Any]], str, dict[str, Any]]:
        async with scorer_in(folder, log, f"by {size}") as (_, scorer, kept):
            await scorer.start_offset(None)
            for start in range(0, len(log.values), size):
                await scorer.process(log.batch(start, start + size))
            return said(kept), weights(scorer), figures(scorer)

    return asyncio.run(run())


def whole_log(folder: Path) -> KeptLog:
    log = KeptLog()
    log.append(Configure(learning_settings(settings_in(folder).scorer)), *arrivals_of())
    return log
