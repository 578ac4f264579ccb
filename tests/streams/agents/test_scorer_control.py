"""The scorer's agent and what steers it: pauses, other settings, versions that are put into use."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import ArchitectureMismatchError
from schemas.records import Configure, Learning
from schemas.settings import Settings
from schemas.versions import VersionRecord
from tests.streams.agents.scoring import (
    BROUGHT,
    feedbacks,
    figures,
    reasons,
    said,
    scorer_in,
    settings_in,
    weights,
)
from tests.streams.offline import KeptLog, KeptPublisher, hand_over, joined
from tests.trainers.scorer.making import arrival_of, entry
from trainers.files import write_atomically
from trainers.scorer.fold import ScorerFold
from trainers.scorer.log_settings import learning_settings
from trainers.scorer.reading import VERSION_FILE, encode
from trainers.versions import VersionStore

# Pauses


def test_while_paused_arrivals_are_scored_and_nothing_is_learned_and_then_all_is(tmp_path: Path) -> None:
    plain, paused = tmp_path / "plain", tmp_path / "paused"

    async def without() -> tuple[str, list[dict[str, Any]]]:
        async with scorer_in(plain) as (app, scorer, kept):
            await hand_over(app, BROUGHT, feedbacks(1, 2))
            await hand_over(app, joined(entry(3), arrival_of(entry(50)), entry(4)))
            await hand_over(app, feedbacks(50, 5), feedbacks(6))
            return weights(scorer), [u for u in said(kept) if u["reason"] != "experience_arrived"]

    async def with_a_pause() -> tuple[str, list[dict[str, Any]]]:
        async with scorer_in(paused) as (app, scorer, kept):
            await hand_over(app, BROUGHT, feedbacks(1, 2))
            await hand_over(app, Learning(paused=True))
            hashed, place = weights(scorer), scorer._state.next_offset
            kept.messages.clear()
            await hand_over(app, joined(entry(3), arrival_of(entry(50)), entry(4)))
            assert [(u["reason"], u["experience_id"]) for u in said(kept)] == [("experience_arrived", "e50")]
            assert (weights(scorer), scorer._state.next_offset, scorer.durable_through()) == (hashed, place, place)
            assert scorer.paused_since() == 3.0
            assert await scorer.follow() is None
            await hand_over(app, Learning(paused=False), feedbacks(50, 5))
            assert weights(scorer) == hashed
            assert scorer.durable_through() == place
            # All of it comes again from there, once; what was on its way meanwhile is let go by.
            assert await scorer.follow() == place
            await hand_over(app, feedbacks(6))
            assert weights(scorer) == hashed
            kept.messages.clear()
            await scorer.process(kept.log.batch(place))
            assert (scorer.paused_since(), scorer.durable_through(), await scorer.follow()) == (None, None, None)
            found = [u for u in said(kept) if u["reason"] != "experience_arrived"]
            return weights(scorer), found

    hashed, updates = asyncio.run(without())
    again, later = asyncio.run(with_a_pause())
    assert again == hashed
    assert later == updates[2:]
    assert [update["feedback_id"] for update in later] == ["f3", "f4", "f50", "f5", "f6"]


def test_a_pause_outlives_the_process(tmp_path: Path) -> None:
    log = KeptLog()

    async def first() -> None:
        async with scorer_in(tmp_path, log, "one") as (app, scorer, _):
            log.append(Configure(learning_settings(settings_in(tmp_path).scorer)), BROUGHT, Learning(paused=True))
            await hand_over(app, feedbacks(1))
            await scorer.checkpoint()
            log.committed = scorer.durable_through() or 0

    async def second() -> None:
        async with scorer_in(tmp_path, log, "other") as (app, scorer, kept):
            assert await scorer.start_offset(log.committed) == 3
            await scorer.process(log.batch(3))
            assert (scorer.paused_since(), figures(scorer)["groups_learned"], reasons(kept)) == (2.0, 0, [])
            await hand_over(app, Learning(paused=False))
            assert await scorer.follow() == 3
            await scorer.process(log.batch(3))
            assert (figures(scorer)["groups_learned"], reasons(kept)) == (1, ["feedback_learned"])

    asyncio.run(first())
    asyncio.run(second())


def test_a_pause_without_anything_in_between_needs_nothing_again(tmp_path: Path) -> None:
    async def run() -> None:
        async with scorer_in(tmp_path) as (app, scorer, kept):
            await hand_over(app, BROUGHT, Learning(paused=True), Learning(paused=False), feedbacks(1))
            assert (scorer.paused_since(), await scorer.follow()) == (None, None)
            assert reasons(kept)[-1] == "feedback_learned"

    asyncio.run(run())


# What it writes into its own log


def controls(kept: KeptPublisher) -> int:
    return len(kept.values("scorer-log"))


def test_other_settings_are_said_once_and_taken_from_there_on(tmp_path: Path) -> None:
    async def run() -> None:
        log = KeptLog()
        log.append(Configure(learning_settings(settings_in(tmp_path).scorer)), BROUGHT, feedbacks(1, 2))
        async with scorer_in(tmp_path, log, learning_rate=0.05) as (_, scorer, kept):
            await scorer.start_offset(None)
            await scorer.process(log.batch(0))
            assert figures(scorer)["learning_rate"] == 1e-3
            for _ in range(3):
                assert await scorer.follow() is None
            assert controls(kept) == 1
            assert kept.messages[-1].topic == "scorer-log"
            await scorer.process(log.batch(3))
            assert figures(scorer)["learning_rate"] == 0.05
            assert (figures(scorer)["epoch"], figures(scorer)["groups_learned"]) == (1, 2)
            await scorer.follow()
            assert controls(kept) == 1

    asyncio.run(run())


def test_a_standby_writes_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        log = KeptLog()
        log.append(Configure(learning_settings(settings_in(tmp_path).scorer)), BROUGHT)
        log.committed = 2
        async with scorer_in(tmp_path, log, learning_rate=0.05) as (_, scorer, kept):
            await scorer.stand_by()
            assert scorer.stands_by
            assert await scorer.follow() is None
            assert kept.messages == []

    asyncio.run(run())


def test_another_architecture_without_a_version_of_it_is_refused_when_it_becomes_active(tmp_path: Path) -> None:
    async def run() -> None:
        log = KeptLog()
        log.append(Configure(learning_settings(settings_in(tmp_path).scorer)), BROUGHT, feedbacks(1, 2))
        log.committed = 3
        async with scorer_in(tmp_path, log, rank=8) as (_, scorer, _):
            with pytest.raises(ArchitectureMismatchError, match=r"scorer's log has rank 4.*rank 8.*tierstream retrain"):
                await scorer.start_offset(3)
            assert not scorer.is_active

    asyncio.run(run())


def promote(data_dir: Path, version_of: ScorerFold, name: str) -> None:
    """Add a scorer to the registry and put it into use."""
    store, snapshot = VersionStore(data_dir), version_of.snapshot()
    record = VersionRecord(tier="scorer", version=name, created_at=datetime.now(UTC), reason="r")
    with store.staging(name) as folder:
        write_atomically(folder / VERSION_FILE, encode(snapshot.arrays, snapshot.meta))
        store.add(record, folder)
    store.promote(name, "asked for")


def a_version(settings: Settings, log_length: int) -> ScorerFold:
    """Return a scorer that has learned other feedback, up to an offset in the log."""
    fold = ScorerFold(learning_settings(settings.scorer)).arrive(0)
    fold.apply(1, [entry(number, (-1.0, 1.0)) for number in range(300, 330)])
    return fold.arrive(log_length - 1)


def test_a_version_that_is_put_into_use_goes_on_with_what_it_had_not_seen(tmp_path: Path) -> None:
    async def run() -> None:
        async with scorer_in(tmp_path) as (app, scorer, kept):
            await hand_over(app, BROUGHT, feedbacks(1, 2), feedbacks(3))
            fold = a_version(settings_in(tmp_path), 3)
            promote(tmp_path, fold, "scorer-x")
            before = weights(scorer)
            for _ in range(2):
                await scorer.follow()
            assert (controls(kept), weights(scorer)) == (1, before)
            kept.messages.clear()
            await scorer.process(kept.log.batch(4))
            assert (figures(scorer)["version"], figures(scorer)["epoch"]) == ("scorer-x", 2)
            assert kept.values("score-updates") == []  # what it catches up on was said before
            fold.relearn(3, [entry(3)])
            assert weights(scorer) == fold.learner.weights_hash()
            await hand_over(app, feedbacks(4))
            [update] = said(kept)
            assert (update["scorer_epoch"], update["scorer_version"]) == (2, "scorer-x")
            await scorer.follow()
            assert controls(kept) == 0
            # A process that comes later folds the same.
            log = kept.log
        log.committed = len(log.values)
        async with scorer_in(tmp_path, log, "other") as (_, again, theirs):
            assert await again.start_offset(log.committed) == log.committed
            fold.arrive(4)
            fold.apply(5, [entry(4)])
            assert weights(again) == fold.learner.weights_hash()
            assert (figures(again)["epoch"], theirs.messages) == (2, [])

    asyncio.run(run())


def test_a_version_that_cannot_be_read_is_told_and_the_scorer_before_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        async with scorer_in(tmp_path) as (app, scorer, kept):
            await hand_over(app, BROUGHT, feedbacks(1, 2))
            promote(tmp_path, a_version(settings_in(tmp_path), 3), "scorer-x")
            [file] = (tmp_path / "models").rglob("*.safetensors")
            content = file.read_bytes()
            file.write_bytes(content[:-1] + b"x")
            for _ in range(3):
                await scorer.follow()
            assert controls(kept) == 0
            assert list(figures(scorer)["version_refused"]) == ["scorer-x"]
            assert len([r for r in caplog.records if "the scorer before goes on" in r.getMessage()]) == 1
            await hand_over(app, feedbacks(3))
            assert said(kept)[-1]["scorer_epoch"] == 1
            file.write_bytes(content)
            await scorer.follow()
            assert controls(kept) == 1

    asyncio.run(run())


def test_a_version_of_another_rank_is_refused_and_taken_over_by_a_scorer_of_that_rank(tmp_path: Path) -> None:
    """As the retrain command says: promote, then set the rank and start the workers again."""
    bigger = settings_in(tmp_path, rank=8)

    async def run() -> KeptLog:
        async with scorer_in(tmp_path) as (app, scorer, kept):
            await hand_over(app, BROUGHT, feedbacks(1, 2))
            promote(tmp_path, a_version(bigger, 3), "scorer-big")
            await scorer.follow()
            await scorer.process(kept.log.batch(3))
            [(version, why)] = figures(scorer)["version_refused"].items()
            assert (version, "rank 8" in why, "rank 4" in why) == ("scorer-big", True, True)
            await scorer.follow()
            assert (controls(kept), figures(scorer)["epoch"]) == (1, 1)
            await hand_over(app, feedbacks(3))
            assert said(kept)[-1]["feedback_id"] == "f3"
            await scorer.checkpoint()
            return kept.log

    log = asyncio.run(run())
    log.committed = len(log.values)

    async def restarted() -> None:
        async with scorer_in(tmp_path, log, "other", rank=8) as (app, scorer, kept):
            await scorer.start_offset(log.committed)
            await scorer.follow()
            assert controls(kept) == 1
            await scorer.process(log.batch(log.committed))
            status = figures(scorer)
            assert (status["rank"], status["version"], status["epoch"]) == (8, "scorer-big", 2)
            assert status["version_refused"] is None
            await hand_over(app, feedbacks(4))
            assert (said(kept)[-1]["scorer_epoch"], said(kept)[-1]["feedback_id"]) == (2, "f4")

    asyncio.run(restarted())
