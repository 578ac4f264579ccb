"""The public event of a scored entry."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from schemas.events import ScoreUpdate
from schemas.records import Scored
from tests.trainers.scorer.making import entry
from trainers.scorer.updates import encode_update


def updated(result: Scored, epoch: int, version: str, now: float) -> ScoreUpdate:
    return ScoreUpdate.from_json(encode_update(result, epoch, version, now))


JUDGED = replace(entry(7, (1.0, -1.0)), received_at=100.0, item_types=("widget", "voice"), item_ids=("w", "voice"))


def test_an_update_carries_scores_before_and_after_and_where_they_are_from() -> None:
    update = updated(Scored(JUDGED, "feedback_learned", 12, (0.5, -0.25), (0.1, 0.2)), 3, "online-r32-x", 100.025)
    assert update.model_dump(exclude={"latency_ms", "schema_version"}) == {
        "experience_id": "e7",
        "reason": "feedback_learned",
        "items": (
            {"item_id": "w", "item_type": "widget", "score": 0.5, "previous_score": 0.1},
            {"item_id": "voice", "item_type": "voice", "score": -0.25, "previous_score": 0.2},
        ),
        "scorer_version": "online-r32-x",
        "scorer_epoch": 3,
        "scorer_step": 12,
        "feedback_id": "f7",
    }
    assert update.latency_ms == pytest.approx(25.0)


def test_an_arrival_has_no_feedback_and_no_score_before() -> None:
    arrived = entry(7, (1.0, 1.0), kind="arrived")
    update = updated(Scored(arrived, "experience_arrived", 0, (0.5, 0.5), None), 1, "v", 0.0)
    assert update.feedback_id is None
    assert [item.previous_score for item in update.items] == [None, None]
    assert b"previous_score" not in update.to_json()
    assert b"feedback_id" not in update.to_json()


def test_an_update_is_what_its_own_model_reads() -> None:
    update = updated(Scored(JUDGED, "feedback_held_out", 2, (0.5, -0.25), None), 3, "v", 101.0)
    assert ScoreUpdate.from_json(update.to_json()) == update


def test_a_plan_without_items_has_an_update_without_scores() -> None:
    update = updated(Scored(entry(1, (), kind="arrived"), "experience_arrived", 0, (), None), 1, "v", 0.0)
    assert update.items == ()


def test_clocks_that_disagree_give_no_negative_latency() -> None:
    assert updated(Scored(JUDGED, "feedback_learned", 1, (0.0, 0.0), None), 1, "v", 99.0).latency_ms == 0.0


def test_scores_that_do_not_fit_the_items_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        updated(Scored(JUDGED, "feedback_learned", 1, (0.0,), None), 1, "v", 0.0)
