"""Ledgers decide as a simple model does that keeps everything, whatever crashes; and nothing of them stays behind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.events import Experience, Feedback, FeedbackSource
from schemas.settings import RewardSettings
from streams.join import decide, ledger
from streams.join.expiry import ExpiryIndex
from streams.join.kept import Kept, Memory
from streams.join.state import Judgements
from streams.state.write_buffer import WriteBuffer
from tests.streams.join.partition import EMBEDDER, RETENTION, Partition, applied, experience, feedback
from trainers.prepare import prepare, query_hash
from trainers.reward import Judgement, is_newer, item_judgements, item_rewards, judge_answer

BESIDE_STATE, EARLY, CLEARED = 2, 4, 2
REWARDS = RewardSettings()
EXPERIENCES = [experience("a"), experience("b", voice_reply=None)]
ITEMS = {event.experience_id: prepare(event, EMBEDDER) for event in EXPERIENCES}


@pytest.fixture(autouse=True, scope="module")
def small_bounds() -> Iterator[None]:
    """Let few events reach every bound."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decide, "MAX_BESIDE_STATE", BESIDE_STATE)
        patch.setattr(decide, "MAX_EARLY", EARLY)
        patch.setattr(ledger, "CLEAR_AT_ONCE", CLEARED)
        yield


class Step(NamedTuple):
    """A batch: events with the seconds between them; a tick where it has none."""

    events: tuple[tuple[Experience | Feedback, float], ...]
    wait: float
    survives: int | None
    """How many of its writes survive a crash, after which it is delivered again; None without one."""


class Owner:
    """A worker, and its successor after each crash."""

    def __init__(self) -> None:
        self.partition = Partition()
        self.refused: set[tuple[str, int]] = set()
        self.index: ExpiryIndex | None = None

    def take(self, step: Step, at: float, offset: int, survives: int | None = None) -> None:
        partition, joiner, writes = self.partition, self.partition.joiner(), 10**9 if survives is None else survives
        arriving = bool(step.events) and isinstance(step.events[0][0], Experience)
        for number, (event, wait) in enumerate(step.events):
            at += wait
            if isinstance(event, Experience):
                joiner.arrive(event, query_hash(event.query), ITEMS[event.experience_id], offset + number, at)
            else:
                joiner.judge(event, offset + number, at)
        if not step.events:
            self.index = self.index or ExpiryIndex(partition.judgements.data.items())
            for key in self.index.due(at - RETENTION):
                joiner.expire(key, at - RETENTION)
        partition.keep(joiner, persist=False)
        self.refused |= {(early.feedback.feedback_id, early.offset) for early in joiner.out.refused}
        written = [(partition.experiences, joiner.experiences), (partition.judgements, joiner.judgements)]
        for table, overlay in reversed(written) if arriving else written:
            table.take(overlay, writes)
            writes = max(0, writes - len(overlay.writes))
        if survives is not None:
            self.index, partition.memory = None, Memory()
        elif self.index is not None:
            for since, key in joiner.out.started:
                self.index.add(since, key)

    def known(self, names: set[str]) -> dict[str, set[str]]:
        """Return what the state of each experience knows of some feedbacks."""
        overlays = [WriteBuffer(table, 0) for table in (self.partition.experiences, self.partition.judgements)]  # type: ignore[arg-type]
        kept = Kept(*overlays, Memory())
        keys = [key for key in self.partition.judgements.data if not ledger.is_ledger(key)]
        states = {key: Judgements.decode(self.partition.judgements.data[key]) for key in keys}
        return {key.decode(): {n for n in names if kept.knows(key, state, n)} for key, state in states.items()}


@dataclass
class Life:
    """All of an experience from its first event until it is forgotten."""

    since: float
    experience: Experience | None = None
    seen: set[str] = field(default_factory=set)
    latest: dict[FeedbackSource, Judgement] = field(default_factory=dict)
    early: list[tuple[int, Feedback]] = field(default_factory=list)


class Model:
    """Keeps everything and never crashes."""

    def __init__(self) -> None:
        self.lives: dict[str, Life] = {}
        self.learned: list[tuple[str, str | None, tuple[float | None, ...]]] = []
        self.orphans: set[tuple[str, int]] = set()
        self.refused: set[tuple[str, int]] = set()
        self.answers: dict[tuple[str, str], tuple[float | None, float | None]] = {}

    def take(self, step: Step, at: float, offset: int) -> None:
        for number, (event, wait) in enumerate(step.events):
            at += wait
            if isinstance(event, Experience):
                self.arrive(event, at)
            else:
                self.judge(event, offset + number, at)
        if not step.events:
            for name in [name for name, life in self.lives.items() if life.since <= at - RETENTION]:
                self.forget(name)

    def arrive(self, event: Experience, at: float) -> None:
        life = self.lives.setdefault(event.experience_id, Life(at))
        if life.experience is None:
            self.learned.append((event.experience_id, None, ()))
            life.since, life.experience = at, event
            early, life.early = life.early, []
            for _, judged in early:
                self.join(life, event, judged)

    def judge(self, event: Feedback, offset: int, at: float) -> None:
        name = event.experience_id
        if name in self.lives and at - self.lives[name].since > RETENTION:
            self.forget(name)
        life = self.lives.setdefault(name, Life(at))
        if event.feedback_id in life.seen:
            return
        if life.experience is None and len(life.early) == EARLY:
            self.refused.add((event.feedback_id, offset))
            return
        life.seen.add(event.feedback_id)
        if life.experience is None:
            life.early.append((offset, event))
        else:
            self.join(life, life.experience, event)

    def join(self, life: Life, about: Experience, event: Feedback) -> None:
        judged = Judgement.of(event)
        if event.source in life.latest and not is_newer(judged, life.latest[event.source]):
            return
        life.latest[event.source] = judged
        items = ITEMS[about.experience_id]
        blended = item_rewards(life.latest, items.item_ids, items.item_types, REWARDS)
        own = item_judgements(judged, items.item_ids, items.item_types)
        rewards = tuple(b if o is not None else None for b, o in zip(blended, own, strict=True))
        self.learned.append((event.experience_id, event.feedback_id, rewards))
        for kind in decide.PAIR_KINDS:
            judged_so = judge_answer(life.latest, kind, REWARDS, items.item_ids)
            self.answers[event.experience_id, kind] = judged_so.reward, judged_so.confidence

    def forget(self, name: str) -> None:
        self.orphans |= {(event.feedback_id, offset) for offset, event in self.lives.pop(name).early}


WAITS = st.sampled_from([0.0, 0.0, 1.0, RETENTION / 2, RETENTION + 1])
NAMES = [f"f{number}" for number in range(12)]
JUDGING = st.builds(
    lambda name, of, source, timestamp, reward: feedback(name, of, source=source, timestamp=timestamp, reward=reward),
    st.sampled_from(NAMES),
    st.sampled_from(["a", "a", "b"]),
    st.sampled_from(["user", "evaluator"]),
    st.sampled_from([1.0, 2.0, 3.0]),
    st.sampled_from([-1.0, 0.5, 1.0]),
)
ARRIVING = st.sampled_from(EXPERIENCES)


def batches(events: st.SearchStrategy[Experience] | st.SearchStrategy[Feedback]) -> st.SearchStrategy[Step]:
    """Return batches of some events.

    No retention ends within a batch that is delivered again: what it forgot is as good as new then.
    """
    several = st.lists(st.tuples(events, WAITS), min_size=1, max_size=8).map(tuple)
    at_once = st.lists(st.tuples(events, st.just(0.0)), min_size=1, max_size=8).map(tuple)
    return st.builds(Step, several, WAITS, st.none()) | st.builds(Step, at_once, WAITS, st.integers(0, 30))


TICK = st.builds(Step, st.just(()), WAITS, st.none() | st.integers(0, 6))
STEPS = st.lists(batches(JUDGING) | batches(JUDGING) | batches(ARRIVING) | TICK, max_size=14)


@settings(max_examples=200, deadline=None)
@given(steps=STEPS)
def test_whatever_comes_and_crashes_a_model_that_keeps_everything_decides_the_same(steps: list[Step]) -> None:
    owner, model, at, offset = Owner(), Model(), 1000.0, 0
    for step in steps:
        at += step.wait
        if step.survives is not None:
            owner.take(step, at, offset, step.survives)
        owner.take(step, at, offset)
        model.take(step, at, offset)
        at += sum(wait for _, wait in step.events)
        offset += len(step.events)
    partition = owner.partition
    assert applied(partition.entries) == model.learned
    assert {(a.experience_id, a.kind): (a.reward, a.evaluation_confidence) for a in partition.answers} == model.answers
    assert {(early.feedback.feedback_id, early.offset) for early in partition.orphans} == model.orphans
    assert owner.refused == model.refused
    assert owner.known(set(NAMES)) == {name: life.seen for name, life in model.lives.items()}

    for _ in range(100):
        owner.take(Step((), 0.0, None), at + RETENTION, offset)
    assert (partition.experiences.data, partition.judgements.data) == ({}, {})
    model.take(Step((), 0.0, None), at + RETENTION, offset)
    assert {(early.feedback.feedback_id, early.offset) for early in partition.orphans} == model.orphans


def judge(owner: Owner, first: int, *names: str, at: float, survives: int | None = None) -> None:
    step = Step(tuple((feedback(name, "a", timestamp=1.0), 0.0) for name in names), 0.0, survives)
    owner.take(step, at, first, survives)


def test_what_was_joined_on_arrival_is_no_orphan_though_its_forgetting_is_cut_short() -> None:
    owner = Owner()
    judge(owner, 0, "f0", "f1", "f2", at=0.0)
    owner.take(Step(((EXPERIENCES[0], 0.0),), 0.0, None), 1.0, 0)
    owner.take(Step((), 0.0, 1), RETENTION + 1.0, 0, 1)  # the experience goes, its state stays
    judge(owner, 3, "f3", "f4", "f5", at=RETENTION + 1.0)
    owner.take(Step((), 0.0, None), RETENTION + 1.0, 0)
    assert [early.feedback.feedback_id for early in owner.partition.orphans] == ["f3", "f4", "f5"]


def test_a_ledger_that_is_older_than_its_experience_is_kept_as_long_and_goes_after_it() -> None:
    owner = Owner()
    owner.take(Step((), 0.0, None), 0.0, 0)  # the index of what is due is there from now on
    judge(owner, 0, "f0", "f1", "f2", at=0.0)
    owner.take(Step(((EXPERIENCES[0], 0.0),), 0.0, None), RETENTION - 1.0, 0)
    owner.take(Step((), 0.0, None), RETENTION, 0)
    assert owner.known(set(NAMES)) == {"a": {"f0", "f1", "f2"}}
    for _ in range(2):
        owner.take(Step((), 0.0, None), 2 * RETENTION, 0)
    assert owner.partition.judgements.data == {}


def test_a_batch_forgets_so_many_entries_and_the_next_one_goes_on() -> None:
    owner = Owner()
    judge(owner, 0, *NAMES[:4], at=0.0)
    judge(owner, 4, "f4", at=0.0)
    assert len(owner.known(set(NAMES))["a"]) == EARLY
    entries = [key for key in owner.partition.judgements.data if ledger.is_entry(key)]
    assert sorted(entries) == [b"a\x002\x00f0", b"a\x002\x00f1"]
    owner.take(Step(((EXPERIENCES[0], 0.0),), 0.0, None), 0.0, 0)
    judge(owner, 5, *NAMES[5:9], at=0.0)
    left = []
    for _ in range(4):
        owner.take(Step((), 0.0, None), RETENTION, 0)
        left.append(len(owner.partition.judgements.data))
    assert left == [5, 3, 0, 0]
