"""Rewards: sign-preserving blending of what users and evaluators said about an answer.

A *judgement* is the latest feedback of one source; what it leads to depends on the latest judgements only,
so the order in which feedback of different sources arrives does not matter.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Self

from schemas.events import Feedback, FeedbackSource, ItemType, PairKind
from schemas.settings import RewardSettings


class Judgement(NamedTuple):
    """What rewards need of a feedback: cheap to keep, to compare and to read back."""

    timestamp: float
    """In epoch seconds."""
    reward: float | None
    evaluation_confidence: float | None
    voice_reward: float | None
    widgets: dict[str, float]
    """What was said of single widgets, by id; of one that was named twice, the last."""
    feedback_id: str | None = None
    """The feedback; None where an earlier version kept the judgement and which one it was cannot be told."""

    @classmethod
    def of(cls, feedback: Feedback) -> Self:
        """Keep what is needed of a feedback."""
        return cls(
            feedback.timestamp.timestamp(),
            feedback.reward,
            feedback.evaluation_confidence,
            feedback.voice_reward,
            {entry.widget_id: entry.reward for entry in feedback.per_widget_feedback},
            feedback.feedback_id,
        )


Judgements = Mapping[FeedbackSource, Judgement]
"""The latest feedback of each source that judged."""


def is_newer(judgement: Judgement, than: Judgement) -> bool:
    """Whether `judgement`, which arrived later, replaces `than`: by event time, ties by arrival."""
    return judgement.timestamp >= than.timestamp


def blend(
    user: float | None, evaluator: float | None, confidence: float | None, settings: RewardSettings
) -> float | None:
    """Return `w·u + (1-w)·c·e`, which keeps the user's sign; None where nobody judged.

    Args:
        user: the user's reward u, -1 to 1.
        evaluator: the evaluator's reward e, -1 to 1.
        confidence: the evaluator's c, 0 to 1; `default_confidence` where it is None.
        settings: weight w and floor.

    A blend that does not have the sign of a non-zero u becomes `sign(u)·floor`; a source that is absent leaves
    the other alone (u, or c·e).
    """
    if evaluator is None:
        return user
    weighted = (settings.default_confidence if confidence is None else confidence) * evaluator
    if user is None:
        return weighted
    blended = settings.user_weight * user + (1 - settings.user_weight) * weighted
    if user and blended * user <= 0:
        return math.copysign(settings.floor, user)
    return blended


def item_judgements(
    judgement: Judgement, item_ids: Sequence[str], item_types: Sequence[ItemType]
) -> list[float | None]:
    """Return what one judgement says of each item, None where it says nothing of it.

    A widget has its own reward where it was judged by itself, else `reward`; the spoken reply has `voice_reward`, else
    `reward`.
    """
    _, whole, _, voice, widgets, _ = judgement
    if voice is None:
        if not widgets:
            return [whole] * len(item_ids)
        voice = whole
    return [
        voice if item_type == "voice" else widgets.get(item_id, whole)
        for item_id, item_type in zip(item_ids, item_types, strict=True)
    ]


def item_rewards(
    judgements: Judgements, item_ids: Sequence[str], item_types: Sequence[ItemType], settings: RewardSettings
) -> list[float | None]:
    """Return one blended reward an item, None where nothing was said about it."""
    said = {source: item_judgements(judged, item_ids, item_types) for source, judged in judgements.items()}
    if "user" not in said and "evaluator" not in said:
        implicit = said.get("implicit", [None] * len(item_ids))
        return [None if reward is None else settings.implicit_weight * reward for reward in implicit]
    nothing: list[float | None] = [None] * len(item_ids)
    confidence = _evaluators_confidence(judgements)
    both = zip(said.get("user", nothing), said.get("evaluator", nothing), strict=True)
    return [blend(user, evaluator, confidence, settings) for user, evaluator in both]


class AnswerJudgement(NamedTuple):
    """What is said of a whole answer."""

    reward: float | None
    """Blended over the sources; None where nobody judged it."""
    confidence: float | None
    """Of the judgements that it is blended from, the evaluator's before the user's; None where none brought one."""
    by_user: bool
    """Whether a user judged it."""
    said: Mapping[FeedbackSource, float] = {}
    """What each of these sources said of it by itself."""


_BY_WEIGHT: tuple[FeedbackSource, ...] = ("evaluator", "user", "implicit")


def judge_answer(
    judgements: Judgements, kind: PairKind, settings: RewardSettings, item_ids: Collection[str] | None = None
) -> AnswerJudgement:
    """Return what the latest judgements say of a whole answer.

    Args:
        judgements: latest of each source.
        kind: the widget plan (`reward`, else the mean of its per-widget rewards) or the spoken reply
            (`voice_reward`, else `reward`). Who judged the other kind only has said nothing of this one.
        settings: how sources are blended.
        item_ids: the plan's widgets; entries for others are ignored. None takes every entry.
    """
    said = {
        source: reward
        for source, judged in judgements.items()
        if (source != "implicit" or len(judgements) == 1)
        and (reward := _said_of_answer(judged, kind, item_ids)) is not None
    }
    if "implicit" in said:
        blended: float | None = settings.implicit_weight * said["implicit"]
    else:
        blended = blend(said.get("user"), said.get("evaluator"), _evaluators_confidence(judgements), settings)
    sure = (judgements[source].evaluation_confidence for source in _BY_WEIGHT if source in said)
    return AnswerJudgement(blended, next((c for c in sure if c is not None), None), "user" in said, said)


def blended_from(judgements: Judgements) -> list[str]:
    """Return the feedbacks that rewards and confidence follow from: the latest of each source that counts."""
    explicit = [judged for source, judged in judgements.items() if source != "implicit"]
    counting = explicit or judgements.values()
    return [judged.feedback_id for judged in counting if judged.feedback_id is not None]


def unknown_widgets(judgement: Judgement, item_ids: Collection[str]) -> tuple[str, ...]:
    """Return the widgets that were judged and that the plan does not have, in the feedback's order."""
    return tuple(name for name in judgement.widgets if name not in item_ids)


def _first(value: float | None, otherwise: float | None) -> float | None:
    return otherwise if value is None else value


def _mean_of_widgets(judgement: Judgement, item_ids: Collection[str] | None) -> float | None:
    own = [reward for name, reward in judgement.widgets.items() if item_ids is None or name in item_ids]
    return math.fsum(own) / len(own) if own else None


def _said_of_answer(judged: Judgement, kind: PairKind, item_ids: Collection[str] | None) -> float | None:
    if kind == "voice":
        return _first(judged.voice_reward, judged.reward)
    return _mean_of_widgets(judged, item_ids) if judged.reward is None else judged.reward


def _evaluators_confidence(judgements: Judgements) -> float | None:
    evaluator = judgements.get("evaluator")
    return None if evaluator is None else evaluator.evaluation_confidence
