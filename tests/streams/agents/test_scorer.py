"""The scorer's agent: what it publishes follows from its log alone, whoever is active, and nothing is left out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from schemas.errors import ArchitectureMismatchError, InputError, LogError
from schemas.records import Configure, Joined, Learning, LogRecord
from schemas.settings import Settings
from schemas.versions import VersionRecord
from streams.agents.scorer import ScorerAgent
from streams.publisher import Outgoing, PublishError, Receipt
from streams.upgrade_check import UNFINISHED, is_of_before
from tests.streams.offline import KeptLog, KeptPublisher, hand_over, joined, offline_app
from tests.trainers.scorer.making import HELD_OUT, arrival_of, entry, random_stream
from trainers.files import write_atomically
from trainers.scorer.checkpoint import CheckpointStore, version_name_of
from trainers.scorer.fold import ScorerFold
from trainers.scorer.log_settings import learning_settings
from trainers.scorer.reading import VERSION_FILE, encode, newest_first
from trainers.versions import VersionStore

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


# What is published


def test_every_entry_has_its_update_with_version_epoch_and_step(tmp_path: Path) -> None:
    async def run() -> None:
        async with scorer_in(tmp_path) as (app, scorer, kept):
            one, held = entry(1), entry(2, query=HELD_OUT[0])
            await hand_over(app, joined(arrival_of(one), arrival_of(held)), joined(one, held))
            assert [(u["reason"], u["experience_id"], u["scorer_step"]) for u in said(kept)] == [
                ("experience_arrived", "e1", 0),
                ("experience_arrived", "e2", 0),
                ("feedback_learned", "e1", 1),
                ("feedback_held_out", "e2", 1),
            ]
            version = version_name_of(settings_in(tmp_path).scorer)
            assert {(u["scorer_epoch"], u["scorer_version"]) for u in said(kept)} == {(1, version)}
            assert [len(u["items"]) for u in said(kept)] == [2] * 4
            status = figures(scorer)
            assert (status["groups_learned"], status["groups_held_out"], status["arrived_scored"]) == (1, 1, 2)

    asyncio.run(run())


def all_said(folder: Path, log: KeptLog, size: int) -> tuple[list[dict[str, Any]], str, dict[str, Any]]:
    """Let a scorer process the log, so many records at a time; return what it says, its weights and its figures."""

    async def run() -> tuple[list[dict[str, Any]], str, dict[str, Any]]:
        async with scorer_in(folder, log, f"by {size}") as (_, scorer, kept):
            await scorer.start_offset(None)
            for start in range(0, len(log.values), size):
                await scorer.process(log.batch(start, start + size))
            return said(kept), weights(scorer), figures(scorer)

    return asyncio.run(run())


def test_what_is_said_does_not_depend_on_how_many_records_come_at_once(tmp_path: Path) -> None:
    log = whole_log(tmp_path)
    updates, hashed, status = all_said(tmp_path, log, 1)
    assert len(updates) > 60
    assert {update["reason"] for update in updates} == {"experience_arrived", "feedback_learned", "feedback_held_out"}
    assert all_said(tmp_path, log, 7) == all_said(tmp_path, log, 100) == (updates, hashed, status)


# Chunks


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


BROUGHT = joined(*(arrival_of(entry(number)) for number in range(20)))


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


def test_a_chunk_is_learned_while_updates_are_on_their_way_and_no_checkpoint_is_ahead_of_them(tmp_path: Path) -> None:
    async def run() -> None:
        async with scorer_behind_a_gate(tmp_path) as (scorer, kept, gate):
            first = asyncio.create_task(scorer.process(kept.log.batch(2, 3)))
            let_first_go = await gate.waiting.get()
            second = asyncio.create_task(scorer.process(kept.log.batch(3, 4)))
            let_second_go = await gate.waiting.get()
            assert figures(scorer)["groups_learned"] == 2
            saving = asyncio.create_task(scorer.checkpoint())
            await settled()
            assert [task.done() for task in (first, second, saving)] == [False] * 3
            let_second_go.set_result(None)
            await second
            await settled()
            assert (saving.done(), checkpoints(tmp_path)) == (False, [])
            let_first_go.set_result(None)
            await asyncio.gather(first, saving)
            assert checkpoints(tmp_path) == [f"scorer-{4:012d}.safetensors"]
            assert reasons(kept) == ["feedback_learned"] * 2

    asyncio.run(run())


def test_updates_that_were_not_published_end_the_role_and_are_in_no_checkpoint(tmp_path: Path) -> None:
    async def run() -> None:
        async with scorer_behind_a_gate(tmp_path) as (scorer, kept, gate):
            first = asyncio.create_task(scorer.process(kept.log.batch(2, 3)))
            (await gate.waiting.get()).set_exception(PublishError("the broker is away"))
            with pytest.raises(PublishError):
                await first
            saving = asyncio.create_task(scorer.checkpoint())
            await settled()
            assert (saving.done(), checkpoints(tmp_path)) == (False, [])
            saving.cancel()

    asyncio.run(run())


def test_a_partition_that_comes_back_while_updates_are_on_their_way_is_no_failure(tmp_path: Path) -> None:
    """A rebalance may end before the broker has acknowledged what went out before it."""

    async def run() -> None:
        async with scorer_behind_a_gate(tmp_path) as (scorer, kept, gate):
            first = asyncio.create_task(scorer.process(kept.log.batch(2, 3)))
            let_go = await gate.waiting.get()
            scorer.forget()
            start = await scorer.start_offset(kept.log.committed or None)
            assert start == 2  # it is said again, as it was
            let_go.set_result(None)
            await first
            again = asyncio.create_task(scorer.process(kept.log.batch(start)))
            (await gate.waiting.get()).set_result(None)
            await again
            updates = said(kept)
            assert updates[0] == updates[1]
            assert [update["feedback_id"] for update in updates] == ["f0", "f0", "f1", "f2"]
            assert figures(scorer)["groups_learned"] == 3

    asyncio.run(run())


def test_chunks_that_come_again_change_nothing_and_say_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        async with scorer_behind_a_gate(tmp_path) as (scorer, kept, gate):
            gate._topic = "none"
            for start, end in ((2, 3), (3, 4), (2, 3), (2, 5)):
                await scorer.process(kept.log.batch(start, end))
            assert [update["feedback_id"] for update in said(kept)] == ["f0", "f1", "f2"]
            assert figures(scorer)["duplicates"] == 0

    asyncio.run(run())


def test_a_chunk_that_leaves_some_out_is_refused_before_anything_is_learned_of_it(tmp_path: Path) -> None:
    async def run() -> None:
        async with scorer_behind_a_gate(tmp_path) as (scorer, kept, _):
            before = weights(scorer)
            with pytest.raises(RuntimeError, match="records from 3 on came where 2 should"):
                await scorer.process(kept.log.batch(3))
            assert (weights(scorer), reasons(kept)) == (before, [])

    asyncio.run(run())


# What cannot be folded


@pytest.mark.parametrize("starting", [True, False])
def test_a_record_that_cannot_be_read_stops_the_scorer_and_names_its_offset(tmp_path: Path, starting: bool) -> None:
    async def run() -> None:
        async with scorer_in(tmp_path) as (app, scorer, kept):
            await hand_over(app, BROUGHT)
            bad = kept.log.append(b"not of ours")
            kept.log.append(feedbacks(1))
            if starting:
                scorer.forget()
            met = scorer.start_offset(bad + 2) if starting else scorer.process(kept.log.batch(bad))
            with pytest.raises(LogError, match=f"a record at offset {bad} that cannot be read: .* nothing of it may"):
                await met
            assert scorer._state.next_offset == bad
            assert "feedback_learned" not in reasons(kept)

    asyncio.run(run())


@pytest.mark.parametrize("first", [BROUGHT, Learning(paused=True)])
def test_a_log_that_does_not_begin_with_its_settings_is_refused(tmp_path: Path, first: LogRecord) -> None:
    async def run() -> None:
        async with scorer_in(tmp_path, earlier=[first]) as (_, scorer, kept):
            await scorer.start_offset(None)
            with pytest.raises(
                LogError, match=f"does not begin with the scorer's settings: {type(first).__name__} at 0"
            ):
                await scorer.process(kept.log.batch(0))

    asyncio.run(run())


def test_a_log_whose_beginning_is_gone_is_refused_where_it_is_needed(tmp_path: Path) -> None:
    async def run() -> None:
        async with scorer_in(tmp_path) as (_, scorer, kept):
            kept.log.append(BROUGHT, feedbacks(1))
            kept.log.kept_from, kept.log.committed = 1, 3
            with pytest.raises(InputError, match="starts at offset 1, and 0 is needed"):
                await scorer.start_offset(3)

    asyncio.run(run())


def test_checkpoints_of_the_release_before_are_not_learned_anew_in_silence(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    assert not is_of_before(settings)
    folder = tmp_path / "scorer" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "scorer-00000002-000000000017.safetensors").write_bytes(b"x")
    assert is_of_before(settings)
    (folder / "scorer-000000000017.safetensors").write_bytes(b"x")
    assert not is_of_before(settings)
    (folder.parent / UNFINISHED).touch()
    assert is_of_before(settings)


# Starting, standing by, falling over


def whole_log(folder: Path) -> KeptLog:
    log = KeptLog()
    log.append(Configure(learning_settings(settings_in(folder).scorer)), *arrivals_of())
    return log


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


# Checkpoints


def test_checkpoints_come_by_steps_and_when_idle_and_only_where_something_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.agents.checkpointing.PAUSE_SECONDS", 0.0)

    async def run() -> None:
        async with scorer_in(tmp_path, checkpoint_every_steps=2, checkpoint_idle="1ms") as (app, scorer, kept):
            await hand_over(app, BROUGHT)
            await hand_over(app, feedbacks(1))
            await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})
            assert checkpoints(tmp_path) == []
            await hand_over(app, feedbacks(2))
            await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})
            assert checkpoints(tmp_path) == [f"scorer-{4:012d}.safetensors"]
            await hand_over(app, feedbacks(3))
            await scorer.checkpoint_when_idle()  # it notes the change
            await asyncio.sleep(0.01)
            await scorer.checkpoint_when_idle()
            assert checkpoints(tmp_path)[0] == f"scorer-{5:012d}.safetensors"
            count = len(list((tmp_path / "scorer" / "checkpoints").iterdir()))
            await scorer.checkpoint_when_idle()
            await scorer.checkpoint()
            assert len(list((tmp_path / "scorer" / "checkpoints").iterdir())) == count == 2
            found = CheckpointStore(tmp_path / "scorer", settings_in(tmp_path).scorer).load()
            assert found is not None
            assert found.meta["weights_hash"] == weights(scorer)
            assert kept.log.committed == 0  # it is durable by itself, whatever is committed

    asyncio.run(run())


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
    with store.staging("scorer", name) as folder:
        write_atomically(folder / VERSION_FILE, encode(snapshot.arrays, snapshot.meta))
        store.add(record, folder)
    store.promote("scorer", name, "asked for")


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
