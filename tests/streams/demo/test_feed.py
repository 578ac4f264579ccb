"""The order in which the demo publishes."""

from __future__ import annotations

from datetime import UTC, datetime

from streams.demo.feed import JUDGED_AFTER, schedule
from streams.demo.room import simulate

ROOM = simulate(seed=2, count=60, start=datetime(2026, 1, 1, tzinfo=UTC))


def test_everything_is_published_once() -> None:
    published = [event for moment in schedule(ROOM) for _, event in moment]
    expected = [e for x in ROOM for e in (x.experience, x.trace, *x.feedback) if e is not None]
    assert sorted(e.to_json() for e in published) == sorted(e.to_json() for e in expected)


def test_feedback_follows_its_answer_some_answers_later() -> None:
    moments = list(schedule(ROOM))
    for number, exchange in enumerate(ROOM):
        assert ("experiences", exchange.experience) in moments[number]
        assert all(("feedback", feedback) in moments[number + JUDGED_AFTER] for feedback in exchange.feedback)
