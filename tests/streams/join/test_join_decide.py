"""The join's decisions over an in-memory partition."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.events import Experience, Feedback
from schemas.records import Answer, Origin, ScorerEntry
from schemas.settings import RewardSettings, ScorerSettings
from streams.join.decide import Joiner, Memory, encode_answer
from streams.join.state import JoinedExperience, Judgements
from streams.tables import Overlay
from trainers.embedding import build_embedder
from trainers.prepare import prepare, query_hash
from trainers.reward import AnswerJudgement, Judgement
from trainers.scorer.entries import Origins

EMBEDDER = build_embedder(ScorerSettings())


class FakeTable:
    """A table of one partition in a dict."""

    name = changelog = "fake"
    generation = 0

    def __init__(self) -> None:
        self.data: dict[bytes, bytes] = {}

    def get(self, partition: int, key: bytes) -> bytes | None:
        return self.data.get(key)

    def take(self, overlay: Overlay, count: int | None = None) -> None:
        for key, value in overlay.writes[:count]:
            if value is None:
                self.data.pop(key, None)
            else:
                self.data[key] = value


class Partition:
    """Runs batches of events through a joiner, as the agent does, and keeps what came out."""

    def __init__(self) -> None:
        self.experiences, self.judgements = FakeTable(), FakeTable()
        self.memory = Memory()
        self.entries: list[ScorerEntry] = []
        self.answers: list[Any] = []
        self.orphans: list[Any] = []
        self.counts: dict[str, int] = {}

    def joiner(self) -> Joiner:
        overlays = Overlay(self.experiences, 0), Overlay(self.judgements, 0)  # type: ignore[arg-type]
        return Joiner(RewardSettings(), 7 * 86_400.0, *overlays, self.memory)

    def run(self, topic: str, events: list[tuple[int, Any]], at: float = 1000.0, persist: bool = True) -> Joiner:
        joiner = self.joiner()
        for offset, event in events:
            if isinstance(event, Experience):
                items = prepare(event, EMBEDDER)
                joiner.arrive(event, query_hash(event.query), items, offset, at)
            else:
                joiner.judge(event, offset, at)
        self.keep(joiner, persist)
        return joiner

    def keep(self, joiner: Joiner, persist: bool = True) -> None:
        self.entries += joiner.out.entries
        self.answers += [answer for sent in joiner.out.answers for answer, _ in Answer.each_from(sent.value)]
        self.orphans += joiner.out.orphans
        for name, count in joiner.out.counts.items():
            self.counts[name] = self.counts.get(name, 0) + count
        if persist:
            self.judgements.take(joiner.judgements)
            self.experiences.take(joiner.experiences)


def experience(name: str = "e1", **fields: Any) -> Experience:
    plan = [
        {"widget_id": "w1", "widget_type": "gauge", "text": "pump one"},
        {"widget_id": "w2", "widget_type": "table"},
    ]
    values = {
        "experience_id": name,
        "timestamp": 1.0,
        "query": "show pump 1",
        "intent": {"type": "status", "domains": ["pumps"], "devices": ["pump"]},
        "widget_plan": plan,
        "voice_reply": "here it is",
    }
    return Experience.model_validate({**values, **fields})


def feedback(name: str = "f1", of: str = "e1", **fields: Any) -> Feedback:
    values: dict[str, Any] = {"feedback_id": name, "experience_id": of, "timestamp": 2.0, "source": "user"}
    if not {"reward", "voice_reward", "per_widget_feedback"} & fields.keys():
        fields["reward"] = 1.0
    return Feedback.model_validate({**values, **fields})


def test_feedback_after_its_experience_carries_the_rewards_of_every_item() -> None:
    partition = Partition()
    partition.run("experiences", [(0, experience())])
    partition.run("feedback", [(7, feedback(reward=0.5, per_widget_feedback=[{"widget_id": "w1", "reward": -1}]))])
    arrived, judged = partition.entries
    assert (arrived.kind, arrived.rewards, arrived.item_ids) == ("arrived", (), ("w1", "w2", "voice"))
    assert (judged.kind, judged.feedback_id, judged.rewards) == ("feedback", "f1", (-1.0, 0.5, 0.5))
    assert (judged.origin.topic, judged.origin.offset) == ("feedback", 7)


def test_early_feedback_is_joined_when_its_experience_comes() -> None:
    partition = Partition()
    partition.run("feedback", [(3, feedback("f1")), (4, feedback("f2", source="evaluator", reward=-1.0))])
    assert partition.entries == []
    partition.run("experiences", [(0, experience())])
    assert [(e.kind, e.feedback_id, e.origin) for e in partition.entries] == [
        ("arrived", None, Origin("experiences", 0, 0)),
        ("feedback", "f1", Origin("feedback", 0, 3)),
        ("feedback", "f2", Origin("feedback", 0, 4)),
    ]
    assert partition.counts["early"] == 2
    assert partition.counts["joined"] == 2


def test_a_second_delivery_of_an_id_changes_nothing() -> None:
    partition = Partition()
    for offset in (0, 1):
        partition.run("experiences", [(offset, experience())])
        partition.run("feedback", [(offset, feedback())])
    assert len(partition.entries) == 2
    assert partition.counts["duplicate_experience"] == 1
    assert partition.counts["duplicate_feedback"] == 1


def test_an_older_judgement_of_the_same_source_is_superseded_and_counted() -> None:
    partition = Partition()
    partition.run("experiences", [(0, experience())])
    partition.run("feedback", [(0, feedback("new", timestamp=9.0)), (1, feedback("old", timestamp=3.0, reward=-1.0))])
    assert [entry.feedback_id for entry in partition.entries if entry.kind == "feedback"] == ["new"]
    assert partition.counts["superseded"] == 1
    assert partition.answers[-1].reward == 1.0


def test_a_widget_that_is_not_there_is_counted_and_the_rest_is_used() -> None:
    partition = Partition()
    partition.run("experiences", [(0, experience())])
    judged = [{"widget_id": "w9", "reward": 1}, {"widget_id": "w2", "reward": -0.5}]
    partition.run("feedback", [(0, feedback(per_widget_feedback=judged))])
    assert partition.entries[-1].rewards == (None, -0.5, None)
    assert partition.counts["unknown_widget"] == 1


def test_feedback_that_only_names_unknown_widgets_is_counted_as_unusable() -> None:
    partition = Partition()
    partition.run("experiences", [(0, experience())])
    partition.run("feedback", [(0, feedback(per_widget_feedback=[{"widget_id": "w9", "reward": 1}]))])
    assert [entry.kind for entry in partition.entries] == ["arrived"]
    assert partition.counts["unusable"] == 1


def test_implicit_feedback_beside_a_judgement_is_counted_as_unusable() -> None:
    partition = Partition()
    partition.run("experiences", [(0, experience())])
    partition.run("feedback", [(0, feedback("f1")), (1, feedback("f2", source="implicit", reward=-1.0))])
    assert [entry.feedback_id for entry in partition.entries] == [None, "f1"]
    assert partition.counts["unusable"] == 1


def test_answers_are_handed_on_only_when_their_reward_changes() -> None:
    partition = Partition()
    partition.run("experiences", [(0, experience())])
    partition.run("feedback", [(0, feedback("f1", voice_reward=-1.0, reward=0.5))])
    assert [(a.kind, a.reward) for a in partition.answers] == [("widget", 0.5), ("voice", -1.0)]
    partition.run("feedback", [(1, feedback("f2", voice_reward=-1.0, reward=0.5))])
    assert len(partition.answers) == 2
    partition.run("feedback", [(2, feedback("f3", voice_reward=1.0, reward=0.5))])
    assert [(a.kind, a.reward) for a in partition.answers[2:]] == [("voice", 1.0)]
    assert [a.feedback_ids for a in partition.answers] == [("f1",), ("f1",), ("f1", "f2", "f3")]


def test_expiry_forgets_the_experience_and_orphans_what_waits() -> None:
    partition = Partition()
    partition.run("experiences", [(0, experience("known"))], at=10.0)
    partition.run("feedback", [(5, feedback("f1", of="never"))], at=20.0)
    joiner = partition.joiner()
    for key in (b"known", b"never"):
        joiner.expire(key, until=20.0)
    partition.keep(joiner)
    assert [(early.feedback.feedback_id, early.offset) for early in partition.orphans] == [("f1", 5)]
    assert partition.experiences.data == {}
    assert partition.judgements.data == {}


def test_what_arrived_later_than_the_expiry_stays() -> None:
    partition = Partition()
    partition.run("feedback", [(0, feedback("early"))], at=10.0)
    partition.run("experiences", [(0, experience())], at=100.0)
    joiner = partition.joiner()
    joiner.expire(b"e1", until=50.0)
    partition.keep(joiner)
    assert partition.orphans == []
    assert joiner.knows("e1")


def test_state_reads_back_what_it_wrote() -> None:
    event = experience()
    joined = JoinedExperience.of(event, query_hash(event.query), prepare(event, EMBEDDER), 17)
    assert JoinedExperience.decode(joined.encode()) == joined
    state = Judgements(
        since=1.5,
        latest={"user": Judgement.of(feedback(per_widget_feedback=[{"widget_id": "w1", "reward": 0.5}]))},
        outcomes={"f1": "joined"},
        answers={"voice": [1.0, None, True]},
    )
    assert Judgements.decode(state.encode()) == state


def test_an_answer_is_the_experiences_own_words_whatever_is_in_them() -> None:
    widget = {"widget_id": "w1", "widget_type": "gauge", "text": "\u2028é", "params": {"n": 2**70, "a": [None]}}
    event = experience(query='a "quoted"\nline', widget_plan=[widget], voice_reply=None)
    joined = JoinedExperience.of(event, query_hash(event.query), prepare(event, EMBEDDER), 5)
    read = JoinedExperience.decode(joined.encode())
    assert read == joined
    plan = Answer.from_json(encode_answer(read, "widget", AnswerJudgement(0.5, None, True)))
    assert (plan.kind, plan.experience_id, plan.query) == ("widget", event.experience_id, event.query)
    assert (plan.intent_type, plan.domains) == (event.intent.type, event.intent.domains)
    assert plan.content == [widget]
    assert (plan.reward, plan.evaluation_confidence, plan.judged_by_user) == (0.5, None, True)
    assert Answer.from_json(encode_answer(read, "voice", AnswerJudgement(-1.0, 0.9, False))).content is None


def test_only_a_key_with_state_is_known_to_belong_to_the_partition() -> None:
    partition = Partition()
    partition.run("feedback", [(0, feedback("f1", of="a"))])
    assert partition.joiner().has_home(b"a")
    assert not partition.joiner().has_home(b"b")


EVENTS = [
    ("experiences", experience("a")),
    ("experiences", experience("b", voice_reply=None)),
    ("feedback", feedback("f1", of="a")),
    ("feedback", feedback("f2", of="a", source="evaluator", reward=-0.5, evaluation_confidence=0.9)),
    ("feedback", feedback("f3", of="b", reward=-1.0)),
    ("feedback", feedback("f4", of="a", timestamp=9.0, reward=-1.0)),
    ("experiences", experience("a")),
    ("feedback", feedback("f1", of="a")),
]


def applied(entries: list[ScorerEntry]) -> list[tuple[str, str | None, tuple[float | None, ...]]]:
    """What a reader that knows the origins it has applied learns."""
    origins = Origins()
    result = []
    for entry in entries:
        if entry.origin not in origins:
            origins.add(entry.origin)
            result.append((entry.experience_id, entry.feedback_id, entry.rewards))
    return result


@settings(max_examples=150, deadline=None)
@given(order=st.permutations(range(len(EVENTS))), crash_at=st.integers(0, len(EVENTS) - 1), survives=st.integers(0, 3))
def test_a_crash_between_output_and_state_loses_nothing_and_learns_nothing_twice(
    order: list[int], crash_at: int, survives: int
) -> None:
    offsets = {"experiences": 0, "feedback": 0}
    log = []
    for index in order:
        topic, event = EVENTS[index]
        log.append((topic, offsets[topic], event))
        offsets[topic] += 1
    calm, crashed = Partition(), Partition()
    for position, (topic, offset, event) in enumerate(log):
        calm.run(topic, [(offset, event)])
        if position == crash_at:
            joiner = crashed.run(topic, [(offset, event)], persist=False)
            crashed.judgements.take(joiner.judgements, survives)
            if survives >= len(joiner.judgements.writes):
                crashed.experiences.take(joiner.experiences, survives - len(joiner.judgements.writes))
        crashed.run(topic, [(offset, event)])
    assert applied(crashed.entries) == applied(calm.entries)
    assert crashed.experiences.data == calm.experiences.data
    assert {k: Judgements.decode(v).latest for k, v in crashed.judgements.data.items()} == {
        k: Judgements.decode(v).latest for k, v in calm.judgements.data.items()
    }


@settings(max_examples=150, deadline=None)
@given(order=st.permutations(range(len(EVENTS))), lost=st.sets(st.integers(0, len(EVENTS) - 1)))
def test_what_is_remembered_of_earlier_batches_changes_no_decision(order: list[int], lost: set[int]) -> None:
    remembering, forgetful = Partition(), Partition()
    for offset, index in enumerate(order):
        topic, event = EVENTS[index]
        forgetful.memory = Memory()
        for partition in (remembering, forgetful):
            if index in lost:  # decided, never durable, and decided again
                partition.run(topic, [(offset, event)], persist=False)
            partition.run(topic, [(offset, event)])
    assert remembering.entries == forgetful.entries
    assert remembering.answers == forgetful.answers
    assert remembering.counts == forgetful.counts
    assert remembering.experiences.data == forgetful.experiences.data
    assert remembering.judgements.data == forgetful.judgements.data


def test_a_successor_that_reads_the_topics_in_another_order_loses_nothing() -> None:
    partition = Partition()
    # One owner publishes both arrivals and dies before its state; the next one reads the feedback first.
    partition.run("experiences", [(0, experience("a")), (1, experience("b"))], persist=False)
    partition.run("feedback", [(0, feedback("f1", of="a"))])
    partition.run("experiences", [(0, experience("a")), (1, experience("b"))])
    assert [name for _, name, _ in applied(partition.entries) if name] == ["f1"]


def test_what_one_owner_kept_as_early_is_learned_from_the_next_one_that_joins_it_at_once() -> None:
    partition = Partition()
    partition.run("experiences", [(0, experience("b"))])
    # f1 waits, f2 is joined; their state is lost, and then the experience of f1 is read first.
    partition.run("feedback", [(0, feedback("f1", of="a")), (1, feedback("f2", of="b"))], persist=False)
    partition.run("experiences", [(1, experience("a"))])
    partition.run("feedback", [(0, feedback("f1", of="a")), (1, feedback("f2", of="b"))])
    assert sorted(name for _, name, _ in applied(partition.entries) if name) == ["f1", "f2"]


@settings(max_examples=300, deadline=None)
@given(
    data=st.data(),
    topics=st.permutations(["experiences"] * 3 + ["feedback"] * 5),
    again=st.permutations(["experiences"] * 3 + ["feedback"] * 5),
)
def test_whatever_order_two_owners_read_in_each_feedback_is_learned_once(
    data: st.DataObject, topics: list[str], again: list[str]
) -> None:
    events = {
        name: list(enumerate(event for topic, event in EVENTS if topic == name)) for name in ("experiences", "feedback")
    }
    partition, done = Partition(), {"experiences": 0, "feedback": 0}
    # The first owner's outputs are out, some of its state and none of its commits survive; one batch is under way.
    last = data.draw(st.integers(0, len(topics) - 1))
    for position, topic in enumerate(topics[: last + 1]):
        partition.run(topic, [events[topic][done[topic]]], persist=position < last)
        done[topic] += 1
    done = {"experiences": 0, "feedback": 0}
    for topic in again:
        partition.run(topic, [events[topic][done[topic]]])
        done[topic] += 1
    learned = [name for _, name, _ in applied(partition.entries) if name]
    assert sorted(learned) == sorted(set(learned))
    assert {"f2", "f3", "f4"} <= set(learned) <= {"f1", "f2", "f3", "f4"}
    assert sorted(name for name, of, _ in applied(partition.entries) if of is None) == ["a", "b"]


@pytest.mark.parametrize("order", [(0, 2, 3), (2, 0, 3), (2, 3, 0), (3, 2, 0), (0, 3, 2), (3, 0, 2)])
def test_the_final_answer_does_not_depend_on_the_order_of_arrival(order: tuple[int, ...]) -> None:
    partition = Partition()
    for offset, index in enumerate(order):
        topic, event = EVENTS[index]
        partition.run(topic, [(offset, event)])
    final = {answer.kind: answer.reward for answer in partition.answers}
    assert final == pytest.approx({"widget": 0.7 - 0.3 * 0.9 * 0.5, "voice": 0.7 - 0.3 * 0.9 * 0.5})
