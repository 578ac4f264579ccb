"""Rewards: sign-preserving blending of what users and evaluators said about an answer.

A *judgement* is the latest feedback of one source; what it leads to depends on the latest judgements only,
so the order in which feedback of different sources arrives does not matter.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from schemas.events import Feedback, FeedbackSource, ItemType, PairKind
from schemas.settings import RewardSettings

Judgements = Mapping[FeedbackSource, Feedback]
"""The latest feedback of each source that judged."""


def is_newer(feedback: Feedback, than: Feedback) -> bool:
    """Whether `feedback`, which arrived later, replaces `than`: by event time, ties by arrival."""
    return feedback.timestamp >= than.timestamp


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


def item_rewards(
    judgements: Judgements, item_ids: Sequence[str], item_types: Sequence[ItemType], settings: RewardSettings
) -> list[float | None]:
    """Return one blended reward an item, None where nothing was said about it.

    Per source a widget has its own entry of `per_widget_feedback` (the last, where it is named twice), else
    `reward`; the spoken reply has `voice_reward`, else `reward`.
    """
    own = {
        source: {entry.widget_id: entry.reward for entry in feedback.per_widget_feedback}
        for source, feedback in judgements.items()
    }
    rewards = []
    for item_id, item_type in zip(item_ids, item_types, strict=True):
        said = {
            source: _first(feedback.voice_reward if item_type == "voice" else own[source].get(item_id), feedback.reward)
            for source, feedback in judgements.items()
        }
        rewards.append(_blend_sources(said, judgements, settings))
    return rewards


def answer_reward(
    judgements: Judgements, kind: PairKind, settings: RewardSettings, item_ids: Collection[str] | None = None
) -> float | None:
    """Return the blended reward of a whole answer, None where nobody judged it.

    Args:
        judgements: latest feedback of each source.
        kind: the widget plan (`reward`, else the mean of its per-widget rewards) or the spoken reply
            (`voice_reward`, else `reward`).
        settings: how sources are blended.
        item_ids: the plan's widgets; entries for others are ignored. None takes every entry.
    """
    said = {
        source: _first(feedback.voice_reward, feedback.reward)
        if kind == "voice"
        else _first(feedback.reward, _mean_of_widgets(feedback, item_ids))
        for source, feedback in judgements.items()
    }
    return _blend_sources(said, judgements, settings)


def answer_confidence(judgements: Judgements) -> float | None:
    """Return the evaluation confidence of the evaluator's latest judgement, None without one."""
    evaluator = judgements.get("evaluator")
    return None if evaluator is None else evaluator.evaluation_confidence


def unknown_widgets(feedback: Feedback, item_ids: Collection[str]) -> tuple[str, ...]:
    """Return the widgets that the feedback judges and the plan does not have, in the feedback's order."""
    return tuple(entry.widget_id for entry in feedback.per_widget_feedback if entry.widget_id not in item_ids)


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)


def _mean_of_widgets(feedback: Feedback, item_ids: Collection[str] | None) -> float | None:
    own = {
        entry.widget_id: entry.reward
        for entry in feedback.per_widget_feedback
        if item_ids is None or entry.widget_id in item_ids
    }
    return math.fsum(own.values()) / len(own) if own else None


def _blend_sources(
    said: Mapping[FeedbackSource, float | None], judgements: Judgements, settings: RewardSettings
) -> float | None:
    if "user" in judgements or "evaluator" in judgements:
        return blend(said.get("user"), said.get("evaluator"), answer_confidence(judgements), settings)
    implicit = said.get("implicit")
    return None if implicit is None else settings.implicit_weight * implicit
