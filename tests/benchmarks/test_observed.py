from __future__ import annotations

from benchmarks.observed import gather_scores
from benchmarks.topics import Record
from schemas.events import ItemScore, ScoreReason, ScoreUpdate


def record(reason: ScoreReason, step: int, feedback_id: str | None = None) -> Record:
    update = ScoreUpdate(
        experience_id="e",
        reason=reason,
        items=(ItemScore(item_id="w0", item_type="widget", score=0.5),),
        scorer_version="v",
        scorer_epoch=1,
        scorer_step=step,
        feedback_id=feedback_id,
        latency_ms=1.0,
    )
    return Record(0, step, 0, b"e", update.to_json())


def test_scores_and_judgements_are_told_apart() -> None:
    scores = gather_scores([record("experience_arrived", 0), record("feedback_learned", 1, "f")])
    assert scores.arrived == {"e": (0.5,)}
    assert scores.judged == {"f": {("feedback_learned", 1)}}
    assert scores.repeated == 0


def test_a_repetition_with_the_same_step_is_one_judgement() -> None:
    scores = gather_scores([record("feedback_learned", 1, "f"), record("feedback_learned", 1, "f")])
    assert scores.judged == {"f": {("feedback_learned", 1)}}
    assert scores.repeated == 1


def test_a_feedback_learned_in_two_steps_shows() -> None:
    scores = gather_scores([record("feedback_learned", 1, "f"), record("feedback_learned", 2, "f")])
    assert len(scores.judged["f"]) == 2
