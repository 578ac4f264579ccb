"""The scorer's agent as it starts, stands by and takes over: nothing is said otherwise, and nothing is left out."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.streams.agents.scoring import (
    all_said,
    checkpoints,
    feedbacks,
    figures,
    said,
    scorer_behind_a_gate,
    scorer_in,
    weights,
    whole_log,
)
from tests.streams.offline import KeptLog, KeptPublisher


def after_a_restart(folder: Path, log: KeptLog, committed: int, crash_at: int, saved_at: int | None) -> tuple[Any, Any]:
    """Let one scorer come as far as `crash_at`, and another start from what it left; return what both say."""

    async def first() -> list[dict[str, Any]]:
        async with scorer_in(folder, log, "one") as (_, scorer, kept):
            await scorer.start_offset(None)
            for start in range(crash_at):
                await scorer.process(log.batch(start, start + 1))
                if start + 1 == saved_at:
                    await scorer.checkpoint()
            return said(kept)

    async def second() -> tuple[list[dict[str, Any]], str, int]:
        async with scorer_in(folder, log, "other") as (_, scorer, kept):
            start = await scorer.start_offset(committed or None)
            await scorer.process(log.batch(start))
            return said(kept), weights(scorer), start

    return asyncio.run(first()), asyncio.run(second())


@pytest.mark.parametrize(
    ("committed", "crash_at", "saved_at", "start"),
    [(0, 20, None, 0), (12, 20, None, 12), (12, 20, 15, 15), (20, 20, 15, 20), (20, 20, 20, 20), (0, 42, 42, 42)],
)
def test_after_a_crash_nothing_is_said_otherwise_and_nothing_is_left_out(
    tmp_path: Path, committed: int, crash_at: int, saved_at: int | None, start: int
) -> None:
    log = whole_log(tmp_path)
    log.committed = committed
    log.append(feedbacks(901))  # so that something is left to be said in any case
    before, (after, hashed, began) = after_a_restart(tmp_path / "crashed", log, committed, crash_at, saved_at)
    updates, plain, _ = all_said(tmp_path / "plain", log, 1)
    assert began == start
    assert hashed == plain
    assert before == updates[: len(before)]
    assert after == updates[len(updates) - len(after) :]
    assert len(before) + len(after) >= len(updates)


def test_a_standby_reads_along_says_nothing_and_goes_on_as_the_active_one_would(tmp_path: Path) -> None:
    log = whole_log(tmp_path)
    updates, plain, _ = all_said(tmp_path / "plain", log, 1)

    async def run() -> None:
        async with (
            scorer_in(tmp_path, log, "one") as (_, active, kept),
            scorer_in(tmp_path, log, "other") as (_, standby, theirs),
        ):
            await active.start_offset(None)
            assert not standby.stands_by
            for start in range(0, 21, 3):
                await active.process(log.batch(start, start + 3))
                log.committed = start + 3
                await standby.stand_by()
                await active.stand_by()
                assert weights(standby) == weights(active)
            assert (active.is_active, active.stands_by, standby.is_active, standby.stands_by) == (
                True,
                False,
                False,
                True,
            )
            assert (theirs.messages, standby.status()) == ([], None)
            await standby.checkpoint()
            assert checkpoints(tmp_path) == []
            # The active one goes on and is lost before it has committed.
            await active.process(log.batch(21, 27))
            assert await standby.start_offset(log.committed) == 21
            await standby.process(log.batch(21))
            assert (standby.is_active, standby.stands_by, weights(standby)) == (True, False, plain)
            ours = said(kept)
            assert ours + said(theirs)[len(ours) - said_until(kept, theirs) :] == updates
            assert said(theirs)[: len(ours) - said_until(kept, theirs)] == ours[said_until(kept, theirs) :]

    asyncio.run(run())


def said_until(kept: KeptPublisher, theirs: KeptPublisher) -> int:
    """Return how many updates of the first there are before the second begins."""
    return said(kept).index(said(theirs)[0])


def test_a_former_owner_says_nothing_that_contradicts_its_successor(tmp_path: Path) -> None:
    log = whole_log(tmp_path)

    async def run() -> None:
        async with (
            scorer_in(tmp_path, log, "one") as (_, paused, kept),
            scorer_in(tmp_path, log, "other") as (_, successor, theirs),
        ):
            await paused.start_offset(None)
            await paused.process(log.batch(0, 10))
            log.committed = 5
            await successor.start_offset(5)
            await successor.process(log.batch(5))
            await paused.process(log.batch(10))  # it does not know yet
            whole = said(theirs)
            assert all(update in said(kept) for update in whole)
            assert weights(paused) == weights(successor)

    asyncio.run(run())


def test_what_was_learned_and_not_published_is_said_again_when_the_partition_comes_back(tmp_path: Path) -> None:
    async def run() -> None:
        async with scorer_behind_a_gate(tmp_path) as (scorer, kept, gate):
            lost = asyncio.create_task(scorer.process(kept.log.batch(2, 4)))
            await gate.waiting.get()
            assert figures(scorer)["groups_learned"] == 2
            lost.cancel()
            scorer.forget()
            assert scorer.status() is None
            start = await scorer.start_offset(kept.log.committed or None)
            assert start == 2
            again = asyncio.create_task(scorer.process(kept.log.batch(start)))
            (await gate.waiting.get()).set_result(None)
            await again
            assert [(u["feedback_id"], u["scorer_step"]) for u in said(kept)] == [("f0", 1), ("f1", 2), ("f2", 3)]

    asyncio.run(run())
