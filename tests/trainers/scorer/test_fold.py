"""The scorer is a function of its log: equal records give equal state, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas.errors import LogError
from schemas.records import Configure, Joined, Learning, LogRecord, Scored, decode_log, encode_joined, encode_log
from schemas.settings import ScorerSettings
from tests.trainers.scorer.making import HELD_OUT, SMALL, arrival_of, begun, entry, random_stream, run, scorer_after
from trainers.scorer.fold import ScorerFold, architecture_in
from trainers.scorer.log_settings import FEATURES, learning_settings, settings_in
from trainers.scorer.snapshot import Snapshot

FASTER = SMALL.model_copy(update={"learning_rate": 5e-3, "replay_capacity": 12, "groups_per_step": 2})
BIGGER = SMALL.model_copy(update={"rank": 8})

VERSIONS = {"of the same": SMALL, "of another": BIGGER}


def no_version(version: str) -> Snapshot:
    raise AssertionError(version)


def versions(name: str) -> Snapshot:
    """Return what a registry would: a version that learned from the log's first records, alone or with others."""
    learned = scorer_after(12, VERSIONS[name], batch=4)
    return Snapshot.of(learned.learner)


def fold_log(log: Sequence[LogRecord], fold: ScorerFold | None = None, *, silent: bool = False) -> ScorerFold:
    """Fold the log's records from where the fold stands; for a version it is read again as `streams` does."""
    assert isinstance(log[0], Configure)
    fold = fold or ScorerFold(log[0].settings).arrive(0)
    for offset in range(fold.next_offset, len(log)):
        record = log[offset]
        if isinstance(record, Joined):
            fold.apply(offset, record.entries, silent=silent)
        elif isinstance(record, Learning):
            fold.pause(offset, 1000.0 + offset if record.paused else None)
        else:
            fold = fold.configured(offset, record, versions)
            for missed in range(fold.next_offset, offset):
                if isinstance(of := log[missed], Joined):
                    fold.relearn(missed, of.entries)
            fold.arrive(offset)
    return fold


CHANGES: tuple[LogRecord, ...] = (
    Learning(paused=True),
    Learning(paused=False),
    Configure(learning_settings(SMALL)),
    Configure(learning_settings(FASTER)),
    Configure(learning_settings(SMALL), "of the same", 1),
    Configure(learning_settings(SMALL), "of another", 2),
    Configure(learning_settings(BIGGER), "of another", 3),
    Configure(learning_settings(SMALL), "of the same", 4, epoch=40),
)


@st.composite
def logs(draw: st.DrawFn) -> list[LogRecord]:
    """Return a log: its settings, what was joined in batches of any size, and changes of all kinds between them."""
    seed, count = draw(st.integers(0, 10**6)), draw(st.integers(0, 50))
    stream, log, start = random_stream(seed, count), [], 0
    while start < count:
        size = draw(st.integers(1, 20))
        log.append(Joined(tuple(stream[start : start + size])))
        start += size
    for change in draw(st.lists(st.sampled_from(CHANGES), max_size=4)):
        log.insert(draw(st.integers(0, len(log))), change)
    return [Configure(learning_settings(SMALL)), *log]


def state(fold: ScorerFold) -> dict[str, Any]:
    """Return all that two folds of one log must agree in, bit for bit."""
    snapshot = fold.snapshot()
    arrays = {name: (str(array.dtype), array.shape, array.tobytes()) for name, array in snapshot.arrays.items()}
    return {"meta": snapshot.meta, "status": {**fold.status(), "process": None}, **arrays}


def folded(log: Sequence[LogRecord], fold: ScorerFold | None = None, *, silent: bool = False) -> Any:
    """Return the state after the log, or the words with which it is refused."""
    try:
        return state(fold_log(log, fold, silent=silent))
    except LogError as error:
        return str(error)


@settings(max_examples=25, deadline=None)
@given(log=logs(), data=st.data())
def test_state_follows_from_the_log_alone(log: list[LogRecord], data: st.DataObject) -> None:
    """Once more, in silence, and resumed from any checkpoint, as often as wanted."""
    whole = folded(log)
    assert folded(log) == whole
    assert folded(log, silent=True) == whole
    if isinstance(whole, str):
        return
    fold: ScorerFold | None = None
    for stop in sorted(data.draw(st.lists(st.integers(1, len(log)), max_size=4))):
        fold = ScorerFold.restored(fold_log(log[:stop], fold).snapshot())
        assert fold.next_offset == stop
    assert folded(log, fold) == whole


@settings(max_examples=25, deadline=None)
@given(log=logs())
def test_epoch_and_step_only_grow(log: list[LogRecord]) -> None:
    """They are what consumers order score updates by."""
    fold = begun()
    for end, record in enumerate(log[1:], start=2):
        epoch, step, hashed = fold.epoch, fold.learner.step, fold.learner.weights_hash()
        try:
            fold = fold_log(log[:end], fold)
        except LogError:
            return
        assert (fold.epoch, fold.learner.step) >= (epoch, step)
        if not isinstance(record, Configure) or record.version is None:
            assert fold.epoch == epoch
        if isinstance(record, Configure) and fold.epoch == epoch and fold.learning["rank"] == SMALL.rank:
            assert fold.learner.weights_hash() == hashed


def test_records_that_were_encoded_and_read_give_the_same() -> None:
    stream = random_stream(3, 60)
    log: list[LogRecord] = [Configure(learning_settings(SMALL)), Joined(tuple(stream[:40])), Learning(paused=True)]
    travelled = [decode_log(encode_log(record)) for record in log if not isinstance(record, Joined)]
    brought = [replace(one, kind="arrived", rewards=(), feedback_id=None) for one in stream[:40]]
    [joined] = [decode_log(data) for data in encode_joined(brought)]
    assert isinstance(joined, Joined)
    assert folded([travelled[0], joined, travelled[1]]) == folded([log[0], Joined(tuple(brought)), log[2]])


def test_two_folds_say_the_same_of_every_entry() -> None:
    def updates() -> list[Scored]:
        fold, stream = begun(), random_stream(8, 60)
        return [one for n in range(0, 60, 7) for one in fold.apply(fold.next_offset, stream[n : n + 7])]

    one, other = updates(), updates()
    assert one == other
    assert len(one) > 40


def test_settings_take_effect_from_their_record_on() -> None:
    stream = random_stream(4, 80)
    before, after = Joined(tuple(stream[:40])), Joined(tuple(stream[40:]))
    log: list[LogRecord] = [Configure(learning_settings(SMALL)), before, Configure(learning_settings(FASTER)), after]
    fold = fold_log(log)
    assert fold.learning == learning_settings(FASTER)
    assert fold.learner.settings == settings_in(learning_settings(FASTER))
    assert fold.epoch == 1
    told = fold_log(log[:3]).learner
    assert (told.decay.learning_rate, len(told.replay), told.step) == (5e-3, 12, fold_log(log[:2]).learner.step)
    # Learned before under the old settings, and after under the new: as neither of them alone.
    alone = [fold_log([Configure(learning_settings(of)), before, after]) for of in (SMALL, FASTER)]
    assert len({fold.learner.weights_hash(), *(one.learner.weights_hash() for one in alone)}) == 3
    assert fold.learner.life.groups_learned == alone[0].learner.life.groups_learned


def test_settings_said_twice_change_nothing() -> None:
    stream = random_stream(4, 60)
    joined = [Joined(tuple(stream[:30])), Joined(tuple(stream[30:]))]
    same = Configure(learning_settings(SMALL))
    one, other = fold_log([same, *joined]), fold_log([same, same, joined[0], same, joined[1], same])
    assert state(one)["meta"] | {"next_offset": 6} == state(other)["meta"]
    assert one.learner.weights_hash() == other.learner.weights_hash()


def test_counts_of_the_process_go_on_when_settings_change() -> None:
    fold = scorer_after(40)
    process = fold.learner.process.as_dict()
    assert process["groups_learned"] > 0
    fold = fold.configured(fold.next_offset, Configure(learning_settings(FASTER)), no_version)
    assert fold.learner.process.as_dict() == process


def test_settings_without_effect_on_learning_are_not_in_the_log() -> None:
    beside = {"checkpoint_every_steps": 7, "checkpoint_idle": "9s", "checkpoints_kept": 9, "promotion_margin": 0.5}
    assert learning_settings(ScorerSettings.model_validate(beside)) == learning_settings(ScorerSettings())
    every = {**ScorerSettings().model_dump(mode="json"), FEATURES: "of the layout"}
    assert learning_settings(ScorerSettings()).keys() == every.keys() - beside.keys()


def test_settings_of_another_program_are_refused() -> None:
    with pytest.raises(LogError, match=r"settings that this program does not know: .'warmth'"):
        ScorerFold({**learning_settings(SMALL), "warmth": 3})


def test_a_version_in_use_learns_what_it_had_not_seen_and_counts_it_as_no_repetition() -> None:
    stream = random_stream(1, 60)
    log = [Configure(learning_settings(SMALL)), *(Joined(tuple(stream[n : n + 4])) for n in range(0, 60, 4))]
    fold = fold_log([*log, Configure(learning_settings(SMALL), "of the same", 1)])
    assert (fold.base, fold.epoch, fold.changes, fold.next_offset) == ("of the same", 2, 1, len(log) + 1)
    # That version learned the first twelve entries of this very stream in the same way: so it ends where we are.
    plain = fold_log(log)
    assert fold.learner.weights_hash() == plain.learner.weights_hash()
    assert fold.learner.life.as_dict() == plain.learner.life.as_dict() | {
        "duplicates": versions("of the same").meta["counts"]["duplicates"]
    }


def test_a_change_of_the_version_in_use_that_comes_twice_counts_once() -> None:
    stream = random_stream(6, 40)
    log: list[LogRecord] = [Configure(learning_settings(SMALL)), Joined(tuple(stream[:20]))]
    told = Configure(learning_settings(SMALL), "of the same", 1)
    more = Joined(tuple(stream[20:]))
    once, twice = fold_log([*log, told, more]), fold_log([*log, told, more, told])
    assert (twice.epoch, twice.changes, twice.base) == (2, 1, "of the same")
    assert twice.learner.weights_hash() == once.learner.weights_hash()
    # The same version may come into use again: that is another change.
    again = fold_log([*log, told, more, replace(told, change=2)])
    assert (again.epoch, again.changes) == (3, 2)
    assert again.learner.weights_hash() == versions("of the same").meta["weights_hash"] != once.learner.weights_hash()


def test_an_epoch_is_at_least_what_the_record_says() -> None:
    fold = fold_log([Configure(learning_settings(SMALL)), Configure(learning_settings(SMALL), "of the same", 1, 40)])
    assert fold.epoch == 40


def test_a_version_of_another_architecture_is_refused_and_told_and_the_scorer_goes_on() -> None:
    stream = random_stream(7, 40)
    log: list[LogRecord] = [Configure(learning_settings(SMALL)), Joined(tuple(stream[:20]))]
    unfit, more = Configure(learning_settings(SMALL), "of another", 1), Joined(tuple(stream[20:]))
    fold, plain = fold_log([*log, unfit, more]), fold_log([*log, more])
    assert (fold.epoch, fold.base, fold.changes) == (1, None, 1)
    [(version, why)] = fold.status()["version_refused"].items()
    assert version == "of another"
    assert "rank 8" in why
    assert "rank 4" in why
    assert fold.learner.weights_hash() == plain.learner.weights_hash()
    restored = ScorerFold.restored(fold.snapshot())
    assert restored.status()["version_refused"] == {"of another": why}
    taken = fold_log([*log, unfit, more, Configure(learning_settings(SMALL), "of the same", 2)])
    assert (taken.base, taken.epoch, taken.status()["version_refused"]) == ("of the same", 2, None)


def test_a_version_that_was_refused_is_put_into_use_once_the_settings_fit_it() -> None:
    """A worker of the old settings had seen the promotion first; nobody promotes a second time."""
    stream = random_stream(7, 40)
    log: list[LogRecord] = [
        Configure(learning_settings(SMALL)),
        Joined(tuple(stream)),
        Configure(learning_settings(SMALL), "of another", 1),
    ]
    fitting = Configure(learning_settings(BIGGER), "of another", 1)
    fold = fold_log([*log, fitting])
    assert (fold.base, fold.epoch, fold.changes, fold.learner.settings.rank) == ("of another", 2, 1, 8)
    assert fold.status()["version_refused"] is None
    again = fold_log([*log, fitting, fitting])
    assert (again.epoch, again.learner.weights_hash()) == (2, fold.learner.weights_hash())


def test_another_architecture_without_a_version_has_an_effect_only_where_nothing_was_learned() -> None:
    fresh = fold_log([Configure(learning_settings(SMALL)), Configure(learning_settings(BIGGER))])
    assert (fresh.learner.settings.rank, fresh.epoch, fresh.next_offset) == (8, 1, 2)
    for taken in (entry(1), entry(1, kind="arrived"), entry(1, query=HELD_OUT[0])):
        log = [Configure(learning_settings(SMALL)), Joined((taken,)), Configure(learning_settings(BIGGER))]
        fold = fold_log(log)
        assert (fold.learner.settings.rank, fold.learning, fold.next_offset) == (4, learning_settings(SMALL), 3)


def test_another_layout_of_the_features_is_another_architecture() -> None:
    other = {**learning_settings(SMALL), FEATURES: "00"}
    assert architecture_in(other)[FEATURES] == "00"
    fold = fold_log([Configure(learning_settings(SMALL)), Joined((entry(1),)), Configure(other)])
    assert fold.learning == learning_settings(SMALL)


def test_learning_goes_on_after_a_pause_as_if_there_had_been_none() -> None:
    stream = random_stream(9, 60)
    parts = [Joined(tuple(stream[n : n + 10])) for n in range(0, 60, 10)]
    first = Configure(learning_settings(SMALL))
    paused = fold_log([first, *parts[:2], Learning(paused=True), *parts[2:4]])
    assert paused.paused_since == 1003.0
    assert ScorerFold.restored(paused.snapshot()).paused_since == 1003.0
    after = [Learning(paused=True), Learning(paused=False), *parts[4:]]
    fold = fold_log([first, *parts[:2], Learning(paused=True), *parts[2:4], *after])
    plain = fold_log([first, *parts])
    assert fold.paused_since is None
    assert fold.learner.weights_hash() == plain.learner.weights_hash()
    assert fold.learner.life == plain.learner.life


def test_a_pause_is_as_old_as_its_first_record() -> None:
    fold = fold_log([Configure(learning_settings(SMALL)), Learning(paused=True), Learning(paused=True)])
    assert fold.paused_since == 1001.0


def test_an_arrival_alone_means_that_something_was_taken() -> None:
    fold = begun()
    assert not fold.has_learned
    run(fold, [arrival_of(entry(1))], 1)
    assert fold.has_learned
    assert fold.learner.step == 0
