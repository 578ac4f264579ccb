"""The simulated control room: repeatable, valid, and with a taste that its judgements give away."""

from __future__ import annotations

from datetime import UTC, datetime
from statistics import fmean, stdev

import pytest

from schemas.events import VOICE_ITEM_ID, Experience, Feedback, Trace
from schemas.settings import Settings
from streams.demo.board import Accuracy, rank_plan
from streams.demo.room import (
    DISLIKED,
    EVALUATOR_JUDGES,
    JUDGEMENT_NOISE,
    LIKED,
    NEUTRAL,
    QUERIES,
    TRACE_EVERY,
    TRACE_HAS_THINKING,
    USER_JUDGES,
    Exchange,
    hidden_taste,
    simulate,
)
from trainers.items import items_of
from trainers.reward import Judgement, item_rewards
from trainers.traces.suitability import assess, is_eligible

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def room() -> list[Exchange]:
    return simulate(seed=2, count=900, start=START)


def test_the_same_seed_gives_the_same_exchanges(room: list[Exchange]) -> None:
    assert simulate(2, 900, START) == room


def test_a_shorter_run_is_the_beginning_of_a_longer_one(room: list[Exchange]) -> None:
    assert simulate(2, 50, START) == room[:50]


def test_another_seed_gives_another_taste_and_other_queries(room: list[Exchange]) -> None:
    other = simulate(3, 50, START)
    assert hidden_taste(3) != hidden_taste(2)
    assert [x.experience.query for x in other] != [x.experience.query for x in room[:50]]


def test_every_event_survives_the_wire(room: list[Exchange]) -> None:
    for exchange in room:
        assert Experience.from_json(exchange.experience.to_json()) == exchange.experience
        assert all(Feedback.from_json(f.to_json()) == f for f in exchange.feedback)
        assert exchange.trace is None or Trace.from_json(exchange.trace.to_json()) == exchange.trace


def test_ids_are_used_once(room: list[Exchange]) -> None:
    experiences = [x.experience.experience_id for x in room]
    feedback = [f.feedback_id for x in room for f in x.feedback]
    traces = [x.trace.trace_id for x in room if x.trace]
    assert [len(set(ids)) for ids in (experiences, feedback, traces)] == [900, len(feedback), 900 // TRACE_EVERY]


def test_worths_cover_exactly_the_items_that_are_scored(room: list[Exchange]) -> None:
    for exchange in room:
        assert set(exchange.worth) == {item.item_id for item in items_of(exchange.experience)}


def test_plans_have_two_to_four_widgets_of_different_types(room: list[Exchange]) -> None:
    plans = [[widget.widget_type for widget in x.experience.widget_plan] for x in room]
    assert {len(plan) for plan in plans} == {2, 3, 4}
    assert all(len(set(plan)) == len(plan) for plan in plans)


def test_a_plain_room_has_plans_of_two_widgets_and_one_reply_that_is_liked() -> None:
    room = simulate(2, 50, START, plain=True)
    assert {len(x.experience.widget_plan) for x in room} == {2}
    assert len({tuple(worths.items()) for worths in hidden_taste(2, plain=True).replies.values()}) == 1
    assert len({tuple(worths.items()) for worths in hidden_taste(2).replies.values()}) > 1
    assert hidden_taste(2, plain=True).widgets == hidden_taste(2).widgets


def test_each_intent_likes_and_dislikes_as_many_things_but_not_the_same() -> None:
    taste = hidden_taste(2)
    for intent_type in QUERIES:
        worths = sorted(taste.widgets[intent_type].values())
        assert worths == [DISLIKED] * 3 + [NEUTRAL] * 2 + [LIKED] * 3
        assert sorted(taste.replies[intent_type].values()) == [DISLIKED, DISLIKED, NEUTRAL, LIKED]
    assert len({tuple(worths.values()) for worths in taste.widgets.values()}) > 1


def test_a_scorer_that_knows_the_taste_ranks_every_pair_right(room: list[Exchange]) -> None:
    oracle = Accuracy.of([rank_plan(exchange.worth, exchange.worth) for exchange in room])
    assert oracle.value == 1.0
    assert oracle.pairs > 1500


def test_a_scorer_that_knows_nothing_is_right_half_of_the_time(room: list[Exchange]) -> None:
    blind = Accuracy.of([rank_plan(dict.fromkeys(exchange.worth, 0.0), exchange.worth) for exchange in room])
    assert blind.value == 0.5


def test_judgements_scatter_around_the_worth_by_the_stated_noise(room: list[Exchange]) -> None:
    errors = [
        entry.reward
        for exchange in room
        for feedback in exchange.feedback
        for entry in feedback.per_widget_feedback
        if exchange.worth[entry.widget_id] == NEUTRAL
    ]
    assert len(errors) > 500
    assert fmean(errors) == pytest.approx(0.0, abs=0.03)
    assert stdev(errors) == pytest.approx(JUDGEMENT_NOISE, abs=0.03)


def test_blended_rewards_rank_most_pairs_as_the_taste_does(room: list[Exchange]) -> None:
    tallies = []
    for exchange in room:
        ids = [item.item_id for item in items_of(exchange.experience)]
        types = [item.item_type for item in items_of(exchange.experience)]
        judgements = {
            feedback.source: Judgement.of(feedback) for feedback in exchange.feedback if feedback.per_widget_feedback
        }
        rewards = item_rewards(judgements, ids, types, Settings().reward)
        if judgements:
            tallies.append(rank_plan({i: r or 0.0 for i, r in zip(ids, rewards, strict=True)}, exchange.worth))
    accuracy = Accuracy.of(tallies).value
    assert accuracy is not None
    assert accuracy > 0.95


def test_judges_take_part_as_often_as_stated(room: list[Exchange]) -> None:
    by_user = [any(f.source == "user" for f in x.feedback) for x in room]
    by_evaluator = [any(f.source == "evaluator" for f in x.feedback) for x in room]
    assert fmean(by_user) == pytest.approx(USER_JUDGES, abs=0.05)
    assert fmean(by_evaluator) == pytest.approx(EVALUATOR_JUDGES, abs=0.05)


def test_only_evaluators_say_how_sure_they_are(room: list[Exchange]) -> None:
    for feedback in (f for x in room for f in x.feedback):
        assert (feedback.evaluation_confidence is not None) == (feedback.source == "evaluator")


def test_traces_with_thinking_and_no_others_are_eligible(room: list[Exchange]) -> None:
    rules = Settings().traces
    traces = [x.trace for x in room if x.trace]
    eligible = [trace for trace in traces if is_eligible(assess(trace, rules), rules)]
    assert eligible == [trace for trace in traces if trace.thinking]
    assert len(eligible) >= rules.threshold
    assert len(eligible) / len(traces) == pytest.approx(TRACE_HAS_THINKING, abs=0.08)


def test_the_reply_has_a_worth_of_its_own(room: list[Exchange]) -> None:
    assert {exchange.worth[VOICE_ITEM_ID] for exchange in room} == {LIKED, NEUTRAL, DISLIKED}
