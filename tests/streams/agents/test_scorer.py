"""The scorer's agent: what it publishes follows from its log alone, whoever is active, and nothing is left out."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from schemas.errors import InputError, LogError
from schemas.records import Learning, LogRecord
from streams.kafka.publisher import PublishError
from streams.state.upgrade_check import UNFINISHED, is_of_before
from tests.streams.agents.scoring import (
    BROUGHT,
    all_said,
    checkpoints,
    feedbacks,
    figures,
    reasons,
    said,
    scorer_behind_a_gate,
    scorer_in,
    settings_in,
    settled,
    weights,
    whole_log,
)
from tests.streams.offline import hand_over, joined
from tests.trainers.scorer.making import HELD_OUT, arrival_of, entry
from trainers.scorer.checkpoint import CheckpointStore, version_name_of

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


def test_what_is_said_does_not_depend_on_how_many_records_come_at_once(tmp_path: Path) -> None:
    log = whole_log(tmp_path)
    updates, hashed, status = all_said(tmp_path, log, 1)
    assert len(updates) > 60
    assert {update["reason"] for update in updates} == {"experience_arrived", "feedback_learned", "feedback_held_out"}
    assert all_said(tmp_path, log, 7) == all_said(tmp_path, log, 100) == (updates, hashed, status)


# Chunks


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
