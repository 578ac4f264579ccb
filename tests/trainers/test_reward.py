from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import Feedback
from schemas.settings import RewardSettings
from trainers.reward import (
    Judgement,
    blend,
    blended_from,
    is_newer,
    item_rewards,
    judge_answer,
    unknown_widgets,
)

SETTINGS = RewardSettings()
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
rewards = st.floats(-1, 1)
SOURCES = ("user", "evaluator", "implicit")


def feedback(source="user", widgets=(), at=NOON, **fields):
    entries = [{"widget_id": name, "reward": reward} for name, reward in widgets]
    made = Feedback(
        feedback_id="f", experience_id="e", timestamp=at, source=source, per_widget_feedback=entries, **fields
    )
    return Judgement.of(made)


@pytest.mark.parametrize(
    ("user", "evaluator", "confidence", "expected"),
    [
        (None, None, None, None),
        (0.6, None, 0.9, 0.6),
        (None, -0.8, 0.5, -0.4),
        (None, 0.8, None, 0.4),  # default_confidence 0.5
        (1.0, 1.0, 1.0, 1.0),
        (1.0, -1.0, 0.8, 0.7 - 0.3 * 0.8),
        (0.5, 0.5, None, 0.35 + 0.3 * 0.25),
        (0.1, -1.0, 1.0, 0.05),  # 0.07 - 0.3 would turn the user's sign
        (-0.1, 1.0, 1.0, -0.05),
        (0.0, -1.0, 1.0, -0.3),  # a user's zero has no sign to keep
    ],
)
def test_blend_follows_the_formula(user, evaluator, confidence, expected):
    assert blend(user, evaluator, confidence, SETTINGS) == pytest.approx(expected)


def test_blend_that_comes_to_zero_keeps_the_users_sign():
    settings = RewardSettings(user_weight=0.5)
    assert blend(0.5, -0.5, 1.0, settings) == 0.05


@given(rewards, rewards, st.none() | st.floats(0, 1))
def test_blend_never_turns_the_users_sign_and_stays_in_range(user, evaluator, confidence):
    blended = blend(user, evaluator, confidence, SETTINGS)
    assert -1 <= blended <= 1
    # The product of two tiny numbers may vanish, so signs are compared one by one.
    assert user == 0 or (user > 0) == (blended > 0)


def test_every_reward_setting_changes_the_blend():
    assert blend(1.0, 0.0, 1.0, RewardSettings(user_weight=0.4)) == pytest.approx(0.4)
    assert blend(0.1, -1.0, 1.0, RewardSettings(floor=0.2)) == 0.2
    assert blend(None, 1.0, None, RewardSettings(default_confidence=0.9)) == 0.9
    alone = {"implicit": feedback("implicit", reward=1.0)}
    assert judge_answer(alone, "widget", RewardSettings(implicit_weight=0.6)).reward == 0.6


def test_an_item_has_its_own_reward_else_the_answers():
    said = {"user": feedback(widgets=[("a", -1.0)], reward=0.5)}
    assert item_rewards(said, ["a", "b", "voice"], ["widget", "widget", "voice"], SETTINGS) == [-1.0, 0.5, 0.5]


def test_an_item_that_nobody_judged_has_no_reward():
    said = {"user": feedback(widgets=[("a", 1.0)])}
    assert item_rewards(said, ["a", "b", "voice"], ["widget", "widget", "voice"], SETTINGS) == [1.0, None, None]


def test_items_blend_each_source_by_the_same_rule():
    said = {
        "user": feedback(reward=1.0, voice_reward=-1.0),
        "evaluator": feedback("evaluator", widgets=[("a", 0.5)], voice_reward=-0.5, evaluation_confidence=0.8),
    }
    found = item_rewards(said, ["a", "b", "voice"], ["widget", "widget", "voice"], SETTINGS)
    assert found == [pytest.approx(0.7 + 0.3 * 0.4), 1.0, pytest.approx(-0.7 - 0.3 * 0.4)]


def test_implicit_feedback_counts_only_alone():
    implicit = feedback("implicit", reward=-1.0)
    assert judge_answer({"implicit": implicit}, "widget", SETTINGS).reward == pytest.approx(-0.3)
    with_user = {"implicit": implicit, "user": feedback(voice_reward=0.5)}
    assert judge_answer(with_user, "voice", SETTINGS).reward == 0.5
    assert judge_answer(with_user, "widget", SETTINGS).reward is None


def test_rewards_follow_from_the_latest_judgement_of_each_source_that_counts():
    user, evaluator, implicit = (feedback(s, reward=1.0)._replace(feedback_id=s) for s in SOURCES)
    assert blended_from({"implicit": implicit}) == ["implicit"]
    assert blended_from({"implicit": implicit, "user": user, "evaluator": evaluator}) == ["user", "evaluator"]
    assert blended_from({"user": user._replace(feedback_id=None), "evaluator": evaluator}) == ["evaluator"]


def test_a_widget_plan_has_its_reward_else_the_mean_of_its_widgets():
    whole = {"user": feedback(widgets=[("a", -1.0)], reward=0.5)}
    parts = {"user": feedback(widgets=[("a", -1.0), ("b", 0.5)], voice_reward=1.0)}
    assert judge_answer(whole, "widget", SETTINGS).reward == 0.5
    assert judge_answer(parts, "widget", SETTINGS).reward == -0.25


def test_a_reply_has_its_voice_reward_else_the_reward():
    assert judge_answer({"user": feedback(reward=0.5, voice_reward=-0.5)}, "voice", SETTINGS).reward == -0.5
    assert judge_answer({"user": feedback(reward=0.5)}, "voice", SETTINGS).reward == 0.5
    assert judge_answer({"user": feedback(widgets=[("a", 1.0)])}, "voice", SETTINGS).reward is None


def test_widgets_that_the_plan_lacks_are_named_and_left_out_of_the_mean():
    said = feedback(widgets=[("a", 1.0), ("ghost", -1.0)])
    assert unknown_widgets(said, ["a", "voice"]) == ("ghost",)
    assert judge_answer({"user": said}, "widget", SETTINGS, ["a", "voice"]).reward == 1.0
    assert judge_answer({"user": said}, "widget", SETTINGS, ["other"]).reward is None


def sure(kind, **judgements):
    return judge_answer(judgements, kind, SETTINGS, ["a", "voice"])[1:3]


def test_confidence_counts_for_the_judgement_that_carries_it_the_evaluators_before_the_users():
    user = feedback(reward=1.0, evaluation_confidence=0.9)
    evaluator = feedback("evaluator", reward=1.0, evaluation_confidence=0.7)
    unsure = feedback("evaluator", reward=1.0)
    assert sure("widget", user=user) == (0.9, True)
    assert sure("widget", user=user, evaluator=evaluator) == (0.7, True)
    assert sure("widget", user=user, evaluator=unsure) == (0.9, True)
    assert sure("widget", user=feedback(reward=1.0), evaluator=evaluator) == (0.7, True)
    assert sure("widget", user=feedback(reward=1.0), evaluator=unsure) == (None, True)
    assert sure("widget", evaluator=evaluator) == (0.7, False)
    assert sure("widget") == (None, False)


def test_confidence_about_the_widgets_is_none_about_the_reply():
    user = feedback(voice_reward=1.0)
    evaluator = feedback("evaluator", widgets=[("a", 1.0)], evaluation_confidence=0.9)
    assert sure("voice", user=user, evaluator=evaluator) == (None, True)
    assert sure("widget", user=user, evaluator=evaluator) == (0.9, False)
    ghost = feedback("evaluator", widgets=[("ghost", 1.0)], evaluation_confidence=0.9)
    assert sure("widget", evaluator=ghost) == (None, False)


def test_implicit_feedback_has_its_confidence_counted_where_it_counts_itself():
    implicit = feedback("implicit", reward=1.0, evaluation_confidence=0.6)
    assert sure("widget", implicit=implicit) == (0.6, False)
    assert sure("widget", implicit=implicit, user=feedback(reward=1.0)) == (None, True)


def test_the_users_confidence_does_not_weigh_the_evaluators_reward():
    user = feedback(reward=1.0, evaluation_confidence=1.0)
    judged = judge_answer({"user": user, "evaluator": feedback("evaluator", reward=-1.0)}, "widget", SETTINGS)
    assert judged.reward == pytest.approx(0.7 - 0.3 * 0.5)


def test_the_latest_judgement_is_by_event_time_and_ties_go_to_the_later_arrival():
    before = feedback(reward=1.0)
    assert is_newer(feedback(reward=0.0), before)
    assert is_newer(feedback(reward=0.0, at=NOON + timedelta(seconds=1)), before)
    assert not is_newer(feedback(reward=0.0, at=NOON - timedelta(seconds=1)), before)
