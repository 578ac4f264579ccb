"""Rewards: sign-preserving blending of what users and evaluators said about an answer.

A *judgement* is the latest feedback of one source; what it leads to depends on the latest judgements only,
so the order in which feedback of different sources arrives does not matter.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, Self

from schemas.events import Feedback, FeedbackSource, ItemType, PairKind
from schemas.settings import RewardSettings


class WidgetReward(NamedTuple):
    """What was said of one widget."""

    widget_id: str
    reward: float


@dataclass(frozen=True, slots=True)
class Judgement:
    """What rewards need of a feedback, under its names: cheap to keep and to read back."""

    timestamp: datetime
    reward: float | None
    evaluation_confidence: float | None
    voice_reward: float | None
    per_widget_feedback: tuple[WidgetReward, ...]

    @classmethod
    def of(cls, feedback: Feedback) -> Self:
        """Keep what is needed of a feedback."""
        widgets = tuple(WidgetReward(entry.widget_id, entry.reward) for entry in feedback.per_widget_feedback)
        return cls(feedback.timestamp, feedback.reward, feedback.evaluation_confidence, feedback.voice_reward, widgets)

    def as_list(self) -> list[Any]:
        """Return JSON data."""
        widgets = [tuple(entry) for entry in self.per_widget_feedback]
        return [self.timestamp.isoformat(), self.reward, self.evaluation_confidence, self.voice_reward, widgets]

    @classmethod
    def from_list(cls, data: list[Any]) -> Self:
        """Read what `as_list` returned."""
        when, reward, confidence, voice, widgets = data
        parts = tuple(WidgetReward(name, value) for name, value in widgets)
        return cls(datetime.fromisoformat(when), reward, confidence, voice, parts)


Judged = Feedback | Judgement
Judgements = Mapping[FeedbackSource, Judged]
"""The latest feedback of each source that judged."""


def is_newer(feedback: Judged, than: Judged) -> bool:
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


def item_judgements(feedback: Judged, item_ids: Sequence[str], item_types: Sequence[ItemType]) -> list[float | None]:
    """Return what one feedback says of each item, None where it says nothing of it.

    A widget has its own entry of `per_widget_feedback` (the last, where it is named twice), else `reward`; the
    spoken reply has `voice_reward`, else `reward`.
    """
    whole = feedback.reward
    voice = whole if feedback.voice_reward is None else feedback.voice_reward
    widgets = {entry.widget_id: entry.reward for entry in feedback.per_widget_feedback}
    return [
        voice if item_type == "voice" else widgets.get(item_id, whole)
        for item_id, item_type in zip(item_ids, item_types, strict=True)
    ]


def item_rewards(
    judgements: Judgements, item_ids: Sequence[str], item_types: Sequence[ItemType], settings: RewardSettings
) -> list[float | None]:
    """Return one blended reward an item, None where nothing was said about it."""
    said = {source: item_judgements(feedback, item_ids, item_types) for source, feedback in judgements.items()}
    if "user" not in said and "evaluator" not in said:
        implicit = said.get("implicit", [None] * len(item_ids))
        return [None if reward is None else settings.implicit_weight * reward for reward in implicit]
    nothing: list[float | None] = [None] * len(item_ids)
    confidence = answer_confidence(judgements)
    both = zip(said.get("user", nothing), said.get("evaluator", nothing), strict=True)
    return [blend(user, evaluator, confidence, settings) for user, evaluator in both]


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


def unknown_widgets(feedback: Judged, item_ids: Collection[str]) -> tuple[str, ...]:
    """Return the widgets that the feedback judges and the plan does not have, in the feedback's order."""
    return tuple(entry.widget_id for entry in feedback.per_widget_feedback if entry.widget_id not in item_ids)


def _first(value: float | None, otherwise: float | None) -> float | None:
    return otherwise if value is None else value


def _mean_of_widgets(feedback: Judged, item_ids: Collection[str] | None) -> float | None:
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
