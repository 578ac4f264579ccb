"""What the demo makes of the stream's events."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from schemas.events import (
    ItemScore,
    JobState,
    JobUpdate,
    PreferencePair,
    ScoreReason,
    ScoreUpdate,
    TrainingJob,
)
from streams.demo.board import Accuracy, Board, rank_plan
from streams.demo.room import Exchange, simulate

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def room() -> list[Exchange]:
    return simulate(seed=2, count=40, start=START)


def update(
    exchange: Exchange,
    reason: ScoreReason,
    feedback_id: str | None = None,
    scores: Mapping[str, float] | None = None,
    before: Mapping[str, float] | None = None,
) -> ScoreUpdate:
    scores = scores or dict.fromkeys(exchange.worth, 0.0)
    return ScoreUpdate(
        experience_id=exchange.experience.experience_id,
        reason=reason,
        items=tuple(
            ItemScore(
                item_id=name,
                item_type="voice" if name == "voice" else "widget",
                score=score,
                previous_score=before[name] if before else None,
            )
            for name, score in scores.items()
        ),
        scorer_version="test",
        scorer_epoch=1,
        scorer_step=1,
        feedback_id=feedback_id,
        latency_ms=1.0,
    )


def job(tier: str = "dpo", count: int = 80) -> TrainingJob:
    return TrainingJob.model_validate(
        {
            "job_id": f"{tier}-1",
            "tier": tier,
            "dataset_path": "jobs/x/dataset.jsonl",
            "dataset_sha256": "0" * 64,
            "example_count": count,
            "base_model": "none",
            "settings": {},
            "requested_at": START,
        }
    )


def state(value: JobState, error: str | None = None) -> JobUpdate:
    return JobUpdate(job_id="dpo-1", tier="dpo", state=value, error=error, timestamp=START)


def wrong(worth: Mapping[str, float]) -> dict[str, float]:
    return {name: -value for name, value in worth.items()}


def test_ties_count_half_and_the_reply_and_equal_worths_not_at_all() -> None:
    worth = {"a": 0.7, "b": -0.7, "c": -0.7, "voice": 0.7}
    assert rank_plan({"a": 1.0, "b": 0.0, "c": 1.0, "voice": -9.0}, worth) == (1.5, 2)


def test_accuracy_without_pairs_has_no_value() -> None:
    assert Accuracy.of([]) == Accuracy(None, 0)
    assert str(Accuracy.of([])) == "-"


def test_accuracy_says_share_and_pairs() -> None:
    assert str(Accuracy.of([(3.0, 4), (0.0, 2)])) == "50% of 6 pairs"


def test_everything_is_waited_for_until_its_score_update_is_there(room: list[Exchange]) -> None:
    board = Board(room)
    assert (len(board.unscored), len(board.unlearned)) == (40, sum(len(x.feedback) for x in room))
    for exchange in room:
        board.take(update(exchange, "experience_arrived"))
        for feedback in exchange.feedback:
            board.take(update(exchange, "feedback_learned", feedback.feedback_id))
    assert not board.unscored
    assert not board.unlearned


def test_an_arrival_is_no_judgement(room: list[Exchange]) -> None:
    board = Board(room)
    board.take(update(room[0], "experience_arrived", scores=room[0].worth))
    assert board.accuracy(0.0, 1.0) == Accuracy(None, 0)


def test_learned_feedback_counts_with_the_scores_before_it(room: list[Exchange]) -> None:
    board, exchange = Board(room), _judged(room)
    learned = update(exchange, "feedback_learned", "f", scores=exchange.worth, before=wrong(exchange.worth))
    board.take(learned)
    assert board.accuracy(0.0, 1.0).value == 0.0


def test_held_out_feedback_counts_with_its_scores(room: list[Exchange]) -> None:
    board, exchange = Board(room), _judged(room)
    board.take(update(exchange, "feedback_held_out", "f", scores=exchange.worth))
    assert board.accuracy(0.0, 1.0).value == 1.0
    assert board.held_out == {"f"}


def test_only_the_first_feedback_of_an_answer_counts(room: list[Exchange]) -> None:
    board, exchange = Board(room), _judged(room)
    board.take(update(exchange, "feedback_learned", "f1", scores=exchange.worth, before=wrong(exchange.worth)))
    board.take(update(exchange, "feedback_learned", "f2", scores=exchange.worth, before=exchange.worth))
    assert board.accuracy(0.0, 1.0).value == 0.0


def test_first_and_last_tenth_are_told_apart(room: list[Exchange]) -> None:
    board = Board(room)
    judged = [exchange for exchange in room if exchange.feedback]
    half = len(judged) // 2
    for number, exchange in enumerate(judged):
        before = wrong(exchange.worth) if number < half else exchange.worth
        board.take(update(exchange, "feedback_learned", exchange.feedback[0].feedback_id, before=before))
    assert (board.accuracy(0.0, 0.1).value, board.accuracy(0.9, 1.0).value) == (0.0, 1.0)


def test_every_tenth_of_the_answers_brings_a_line(room: list[Exchange]) -> None:
    board = Board(room)
    judged = [exchange for exchange in room if exchange.feedback]
    lines = [board.take(update(x, "feedback_held_out", x.feedback[0].feedback_id, scores=x.worth)) for x in judged]
    tenth = len(judged) // 10
    assert [number for number, line in enumerate(lines, start=1) if line] == list(range(tenth, len(judged) + 1, tenth))
    first = lines[tenth - 1]
    assert first is not None
    assert first.startswith(f"{tenth} answers judged: of the newest {tenth}, the scorer had ranked 100% of ")


def test_a_job_is_announced_once(room: list[Exchange]) -> None:
    board = Board(room)
    assert board.take(job()) == "80 examples: DPO job dpo-1 starts"
    assert board.take(job()) is None
    assert board.jobs_of("dpo") == [None]


def test_a_job_has_ended_once_its_end_state_is_seen(room: list[Exchange]) -> None:
    board = Board(room)
    board.take(job())
    assert board.take(state("running")) is None
    assert board.ended() == 0
    assert board.take(state("validated")) == "DPO job dpo-1 is validated"
    assert board.take(state("validated")) is None
    assert board.ended() == 1


def test_a_failed_job_says_why(room: list[Exchange]) -> None:
    board = Board(room)
    board.take(job())
    assert board.take(state("failed", "no disk")) == "DPO job dpo-1 is failed: no disk"


def test_pairs_count_by_id(room: list[Exchange]) -> None:
    pair = PreferencePair.model_construct(pair_id="p")
    board = Board(room)
    board.take(pair)
    board.take(pair)
    assert board.pairs == {"p"}


def _judged(room: list[Exchange]) -> Exchange:
    """Return an exchange whose plan has widgets of different worth."""
    return next(x for x in room if x.feedback and rank_plan(x.worth, x.worth)[1])
