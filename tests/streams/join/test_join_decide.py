"""The join's decisions over an in-memory partition."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.records import Answer, Origin
from streams.join.kept import Memory
from streams.join.state import JoinedExperience, Judgements, encode_answer
from tests.streams.join.partition import EMBEDDER, Partition, applied, experience, feedback
from trainers.prepare import prepare, query_hash
from trainers.reward import AnswerJudgement, Judgement


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
    assert [a.feedback_ids for a in partition.answers] == [("f1",), ("f1",), ("f3",)]


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


OF_USER = [3.0, 1.0, None, None, {}]
OF_EVALUATOR = [2.0, -0.5, 0.9, None, {}]


@pytest.mark.parametrize(
    ("latest", "outcomes", "named"),
    [
        ({"user": OF_USER, "evaluator": OF_EVALUATOR}, {"f1": "joined", "f2": "joined"}, ["f1", "f2"]),
        ({"user": OF_USER}, {"f1": "joined", "f2": "unusable", "f3": "superseded"}, ["f2"]),
        ({"user": OF_USER, "evaluator": OF_EVALUATOR}, dict.fromkeys(["f1", "f2", "f3"], "joined"), [None, None]),
        ({}, {"f1": "early"}, []),
    ],
)
def test_the_state_of_an_earlier_version_names_the_latest_judgements_as_far_as_it_tells(
    latest: dict[str, Any], outcomes: dict[str, str], named: list[str | None]
) -> None:
    old = {"since": 1.5, "latest": latest, "outcomes": outcomes, "early": [], "answers": {}}
    state = Judgements.decode(json.dumps(old).encode())
    assert [judged.feedback_id for judged in state.latest.values()] == named
    assert (state.outcomes, state.ledger) == (outcomes, None)


def old_state(outcome: str, count: int, **more: Any) -> bytes:
    """Return the state of an earlier version: all ids within."""
    outcomes = {f"f{number}": outcome for number in range(count)}
    return json.dumps({"since": 500.0, "latest": {}, "outcomes": outcomes, "early": [], "answers": {}, **more}).encode()


def test_the_state_of_an_earlier_version_goes_to_a_ledger_with_its_next_judgement() -> None:
    partition = Partition()
    partition.run("experiences", [(0, experience())])
    partition.judgements.data[b"e1"] = old_state("joined", 100, latest={"user": [9.0, 1.0, None, None, {}]})
    partition.run("feedback", [(100 + number, feedback(f"f{number}")) for number in range(100)])
    assert partition.counts["duplicate_feedback"] == 100
    partition.run("feedback", [(200, feedback("new", source="evaluator", timestamp=1.0))])
    assert partition.answers[-1].feedback_ids == ("f99", "new")
    assert len(partition.judgements.data.pop(b"e1")) < 300
    entries = {b"e1\x00200\x00f%d" % number: b"joined" for number in range(100)}
    assert partition.judgements.data == {b"e1\x00200": b'{"since":500.0}', **entries}


@pytest.mark.parametrize("judged_first", [False, True])
def test_feedback_that_waits_in_the_state_of_an_earlier_version_is_joined(judged_first: bool) -> None:
    partition = Partition()
    early = [
        [0, number, 500.0, feedback(f"f{number}").model_dump(mode="json", exclude_none=True), 1] for number in range(50)
    ]
    partition.judgements.data[b"e1"] = old_state("early", 50, early=early)
    if judged_first:
        partition.run("feedback", [(50, feedback("f50"))])
    partition.run("experiences", [(0, experience())])
    joined = [(entry.feedback_id, entry.origin.offset) for entry in partition.entries if entry.feedback_id]
    assert joined == [(f"f{number}", number) for number in range(50 + judged_first)]
    partition.run("feedback", [(60 + number, feedback(f"f{number}")) for number in range(50)])
    assert partition.counts["duplicate_feedback"] == 50


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


def test_an_answer_says_which_version_gave_it_and_what_each_source_said_whenever_it_is_judged() -> None:
    partition = Partition()
    partition.run("experiences", [(0, experience(model_version="dpo-a1", widget_plan=[]))])
    partition.run("experiences", [(1, experience("e2"))])
    partition.run("feedback", [(0, feedback("f1", reward=0.5))])
    partition.run("feedback", [(1, feedback("f2", source="evaluator", reward=1.0)), (2, feedback("f3", of="e2"))])
    told = [(answer.model_version, answer.said) for answer in partition.answers if answer.kind == "voice"]
    assert told == [("dpo-a1", {"user": 0.5}), ("dpo-a1", {"user": 0.5, "evaluator": 1.0}), (None, {"user": 1.0})]


def test_only_a_key_with_state_is_known_to_belong_to_the_partition() -> None:
    partition = Partition()
    partition.run("feedback", [(0, feedback("f1", of="a"))])
    assert partition.joiner().owns_key(b"a")
    assert not partition.joiner().owns_key(b"b")


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
