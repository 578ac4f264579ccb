"""Which score updates count."""

from __future__ import annotations

from schemas.events import ScoreUpdate
from streams.client import Freshness


def update(epoch: int = 1, step: int = 1, feedback: str | None = "f1", reason: str = "feedback_learned") -> ScoreUpdate:
    return ScoreUpdate.model_validate(
        {
            "experience_id": "e1",
            "reason": reason,
            "items": [],
            "scorer_version": "v",
            "scorer_epoch": epoch,
            "scorer_step": step,
            "feedback_id": feedback,
            "latency_ms": 1.0,
        }
    )


def test_update_that_comes_twice_counts_once() -> None:
    fresh = Freshness()
    assert [fresh.accepts(update()) for _ in range(3)] == [True, False, False]


def test_updates_of_other_feedback_steps_and_reasons_all_count() -> None:
    fresh = Freshness()
    others = [update(), update(feedback="f2"), update(step=2), update(feedback=None, reason="experience_arrived")]
    assert [fresh.accepts(u) for u in others] == [True] * 4


def test_former_owner_is_ignored_once_a_higher_epoch_was_seen() -> None:
    fresh = Freshness()
    assert [fresh.accepts(update(epoch=e, step=s)) for e, s in [(1, 1), (2, 2), (1, 3), (2, 3)]] == [
        True,
        True,
        False,
        True,
    ]


def test_memory_is_bounded() -> None:
    fresh = Freshness()
    assert all(fresh.accepts(update(step=step)) for step in range(10_001))
    assert fresh.accepts(update(step=0))  # long forgotten
    assert not fresh.accepts(update(step=10_000))
