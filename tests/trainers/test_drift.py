"""Alarms on drift: the detector against River's, what is watched, and the two figures that are promised."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from schemas.events import Feedback, ScoreUpdate
from schemas.records import Answer
from trainers.drift import FORGETTING, LOSS, RARE, RATE, DriftMonitor, PageHinkley, Tolerance, judgement_loss


def series(seed: int) -> Iterator[float]:
    """Yield values whose mean moves up and down, as the seed has it."""
    rng, mean = random.Random(seed), 0.2
    for number in range(4000):
        if number % 700 == 699:
            mean = rng.uniform(0.7, 1.0) if mean < 0.5 else rng.uniform(0.0, 0.3)
        yield mean + rng.gauss(0.0, 0.2)


@pytest.mark.parametrize("tolerance", [LOSS, RATE, RARE], ids=["loss", "rate", "rare"])
@pytest.mark.parametrize("seed", range(5))
def test_alarms_are_those_of_river(tolerance: Tolerance, seed: int) -> None:
    drift = pytest.importorskip("river.drift")
    theirs = drift.PageHinkley(
        tolerance.warm_up, tolerance.delta, tolerance.threshold, FORGETTING, "both" if tolerance.down else "up"
    )
    ours = PageHinkley(tolerance)
    expected, found = [], []
    for number, value in enumerate(series(seed)):
        theirs.update(value)
        expected += [number] * theirs.drift_detected
        found += [number] * ours.update(value)
    assert found == expected
    assert found


def test_the_loss_of_a_judgement_is_of_the_items_that_it_judges() -> None:
    assert judgement_loss([0.5, -1.0, 0.2], [1.0, None, -0.8]) == pytest.approx((0.25 + 1.0) / 2)
    assert judgement_loss([0.5], [None]) is None


def feedback(number: int, reward: float, source: str = "user") -> Feedback:
    return Feedback.model_validate(
        {"feedback_id": f"f{number}", "experience_id": f"e{number}", "timestamp": 0, "source": source, "reward": reward}
    )


def update(number: int, before: float, reason: str = "feedback_learned") -> ScoreUpdate:
    items = [{"item_id": "voice", "item_type": "voice", "score": 9.0, "previous_score": before}]
    of: dict[str, Any] = {} if reason == "experience_arrived" else {"feedback_id": f"f{number}"}
    return ScoreUpdate.model_validate(
        {"experience_id": f"e{number}", "reason": reason, "items": items, "scorer_version": "v", "scorer_epoch": 1}
        | {"scorer_step": 1, "latency_ms": 1.0, **of}
    )


def answer(number: int, intent: str, reward: float = 0.5) -> Answer:
    return Answer(
        kind="voice",
        experience_id=f"e{number}",
        query="q",
        intent_type=intent,
        domains=(),
        device_types=(),
        reward=reward,
        judged_by_user=True,
    )


def test_a_loss_that_grows_is_told_with_an_experience_of_it() -> None:
    monitor = DriftMonitor()
    for number in range(400):
        monitor.judged(feedback(number, 1.0), float(number))
        monitor.scored(update(number, 0.9 if number < 200 else -0.9), float(number))
    [alarm] = monitor.alarms.values()
    assert (alarm.series, alarm.of) == ("progressive_loss", "")
    assert 200 < alarm.at < 210
    assert alarm.experience_id == f"e{alarm.at:.0f}"


def test_a_source_that_turns_is_told_by_name_and_the_other_is_not() -> None:
    monitor = DriftMonitor()
    for number in range(600):
        monitor.judged(feedback(number, 0.8), float(number))
        monitor.judged(feedback(number, 0.8 if number < 300 else -0.8, "evaluator"), float(number))
    [(key, alarm)] = monitor.alarms.items()
    assert key == ("reward_rate", "source=evaluator")
    assert 300 < alarm.at < 350


def test_an_intent_whose_answers_are_liked_no_more_and_intents_that_nobody_knows_are_told() -> None:
    monitor = DriftMonitor()
    for number in range(600):
        monitor.answered(answer(number, "trend", 0.5 if number < 300 else -0.5), float(number))
        monitor.answered(answer(number, "status" if number < 500 else f"new-{number}"), float(number))
    assert set(monitor.alarms) == {("reward_rate", "intent=trend"), ("unknown_intents", "")}
    assert monitor.alarms["unknown_intents", ""].at > 500


def test_the_newest_judgement_and_what_came_unjudged_since_are_told() -> None:
    monitor = DriftMonitor()
    assert monitor.as_dict() == {"alarms": [], "newest_judgement": None, "unjudged": 0, "rewards": {}}
    monitor.judged(feedback(1, 1.0), datetime(2026, 1, 1, tzinfo=UTC).timestamp())
    for number, reason in enumerate(("experience_arrived", "feedback_learned", "experience_arrived")):
        monitor.scored(update(number, 0.0, reason), 2e9)
    assert monitor.unjudged == 2
    monitor.judged(feedback(2, 1.0), 3e9)
    assert (monitor.newest_judgement, monitor.unjudged) == (3e9, 0)
