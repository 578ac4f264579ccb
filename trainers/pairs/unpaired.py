"""Labelled answers that no pair has used, pure: what makes one an example by itself, and how many jobs so many give."""

from __future__ import annotations

from schemas.events import LabelledAnswer
from schemas.records import Answer
from schemas.settings import PairsSettings
from trainers.pairs.rules import confidence_of, example_id, has_content, side_of, stamp

LEAST_SHARE = 4
"""Of a job's answers at least one in so many is good, and as many are bad."""


def label(answer: Answer, settings: PairsSettings) -> LabelledAnswer:
    """Return a candidate as an example by itself.

    Raises:
        ValueError: it is no candidate.
    """
    side = side_of(answer.reward, settings)
    if side is None or answer.reward is None:
        raise ValueError(f"{answer.experience_id!r} is no candidate")
    return LabelledAnswer(
        answer_id=example_id(answer.kind, answer.experience_id),
        kind=answer.kind,
        prompt=answer.query,
        answer=answer.content,
        good=side == "chosen",
        reward=answer.reward,
        evaluation_confidence=confidence_of(answer, settings),
        experience_id=answer.experience_id,
        intent_type=answer.intent_type,
        feedback_ids=answer.feedback_ids,
        chosen_by=stamp(settings),
    )


def broken_label(answer: LabelledAnswer, settings: PairsSettings) -> str | None:
    """Return the rule that a labelled answer breaks, judged from its own fields, or None where it obeys all."""
    side, confidence = side_of(answer.reward, settings), answer.evaluation_confidence
    checks = {
        "wrong_side": side == ("chosen" if answer.good else "rejected"),
        "chosen_low_confidence": not answer.good or (confidence or 0.0) >= settings.min_evaluation_confidence,
        "no_content": has_content(answer.answer),
        "wrong_id": answer.answer_id == example_id(answer.kind, answer.experience_id),
    }
    return next((name for name, holds in checks.items() if not holds), None)


def least_of_a_side(threshold: int) -> int:
    """Return how many good answers, and how many bad ones, a job of so many has at least."""
    return -(-threshold // LEAST_SHARE)


def jobs_of(good: int, bad: int, threshold: int) -> int:
    """Return how many jobs so many answers give at most, in whatever order they come."""
    return min((good + bad) // threshold, min(good, bad) // least_of_a_side(threshold))
