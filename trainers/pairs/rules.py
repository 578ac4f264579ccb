"""The rules of Tier 2, pure, each with the name that the funnel counts it under."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from typing import Literal

import orjson
from pydantic import JsonValue

from schemas.events import PairKind, PreferencePair
from schemas.records import Answer
from schemas.settings import PairsSettings
from trainers.text import normalised

Side = Literal["chosen", "rejected"]
SIDES: tuple[Side, Side] = ("chosen", "rejected")

_NOTHING: tuple[JsonValue, ...] = ("", {}, [])

DROP_REASONS = ("no_reward", "neutral", "chosen_no_confidence", "chosen_low_confidence", "no_content")
"""Why an answer is no candidate, in the order in which the rules are asked."""

REJECT_REASONS = ("different_intent", "no_shared_domain", "no_shared_device", "small_gap", "same_answer")
"""Why two candidates make no pair, in the order in which the rules are asked."""


_STAMPED = (
    "chosen_reward_above",
    "rejected_reward_below",
    "min_evaluation_confidence",
    "min_reward_gap",
    "one_to_one",
    "patience",
)


def side_of(reward: float | None, settings: PairsSettings) -> Side | None:
    """Return the side that a reward puts an answer on, None where it is absent or neutral."""
    if reward is None:
        return None
    if reward > settings.chosen_reward_above:
        return "chosen"
    return "rejected" if reward < settings.rejected_reward_below else None


def confidence_of(answer: Answer, settings: PairsSettings) -> float | None:
    """Return the confidence of the answer's judgement: the evaluator's, else `user_confidence` where a user judged."""
    if answer.evaluation_confidence is None and answer.judged_by_user:
        return settings.user_confidence
    return answer.evaluation_confidence


def has_content(content: JsonValue) -> bool:
    """Whether there is a widget plan or a reply that says something."""
    return bool(content.strip()) if isinstance(content, str) else bool(content)


def drop_reason(answer: Answer, settings: PairsSettings) -> str | None:
    """Return why the answer is no candidate, one of `DROP_REASONS`, or None where it is one."""
    side = side_of(answer.reward, settings)
    if side is None:
        return "no_reward" if answer.reward is None else "neutral"
    if side == "chosen":
        confidence = confidence_of(answer, settings)
        if confidence is None:
            return "chosen_no_confidence"
        if confidence < settings.min_evaluation_confidence:
            return "chosen_low_confidence"
    return None if has_content(answer.content) else "no_content"


def substance(content: JsonValue) -> bytes:
    """Return a digest of what an answer says, however it is spelt.

    Left out are widget ids, which only tell the widgets of one plan apart, and fields that say nothing.
    """
    if isinstance(content, list):
        content = [
            {name: value for name, value in widget.items() if name != "widget_id"}
            if isinstance(widget, dict)
            else widget
            for widget in content
        ]
    return hashlib.blake2b(_canonical(_said(content)), digest_size=16).digest()


def _said(content: JsonValue) -> JsonValue:
    """Return JSON with its texts normalised, without fields that are null, empty text, `{}` or `[]`."""
    if isinstance(content, str):
        return normalised(content)
    if isinstance(content, list):
        return [_said(one) for one in content]
    if isinstance(content, dict):
        parts = {name: _said(value) for name, value in content.items()}
        return {name: value for name, value in parts.items() if value is not None and value not in _NOTHING}
    return content


def devices_disagree(chosen: frozenset[str], rejected: frozenset[str]) -> bool:
    """Whether both name devices and share no type."""
    return bool(chosen) and bool(rejected) and chosen.isdisjoint(rejected)


def gap_is_small(chosen_reward: float, rejected_reward: float, settings: PairsSettings) -> bool:
    """Whether the rewards are too close to prefer one."""
    return chosen_reward - rejected_reward < settings.min_reward_gap


def reject_reason(chosen: Answer, rejected: Answer, settings: PairsSettings) -> str | None:
    """Return why two candidates of one kind make no pair, one of `REJECT_REASONS`, or None where they do."""
    if chosen.intent_type != rejected.intent_type:
        return "different_intent"
    if set(chosen.domains).isdisjoint(rejected.domains):
        return "no_shared_domain"
    if devices_disagree(frozenset(chosen.device_types), frozenset(rejected.device_types)):
        return "no_shared_device"
    if chosen.reward is None or rejected.reward is None or gap_is_small(chosen.reward, rejected.reward, settings):
        return "small_gap"
    return "same_answer" if substance(chosen.content) == substance(rejected.content) else None


def example_id(kind: PairKind, *experience_ids: str) -> str:
    """Return the id of a pair or a labelled answer: 32 hex digits of a hash of kind and experiences."""
    named = json.dumps([kind, *experience_ids])
    return hashlib.sha256(named.encode()).hexdigest()[:32]


def make_pair(chosen: Answer, rejected: Answer, settings: PairsSettings) -> PreferencePair:
    """Return the pair of two candidates that no rule rejects.

    Raises:
        ValueError: one of them is no candidate.
    """
    confidence = confidence_of(chosen, settings)
    if chosen.reward is None or rejected.reward is None or confidence is None:
        raise ValueError(f"{chosen.experience_id!r} and {rejected.experience_id!r} are no candidates")
    return PreferencePair(
        pair_id=example_id(chosen.kind, chosen.experience_id, rejected.experience_id),
        kind=chosen.kind,
        prompt=chosen.query,
        rejected_prompt=rejected.query,
        chosen=chosen.content,
        rejected=rejected.content,
        reward_gap=chosen.reward - rejected.reward,
        chosen_experience_id=chosen.experience_id,
        rejected_experience_id=rejected.experience_id,
        chosen_reward=chosen.reward,
        rejected_reward=rejected.reward,
        evaluation_confidence=confidence,
        intent_type=chosen.intent_type,
        shared_domains=_shared(chosen.domains, rejected.domains),
        shared_device_types=_shared(chosen.device_types, rejected.device_types),
        chosen_devices=chosen.device_types,
        rejected_devices=rejected.device_types,
        chosen_feedback_ids=chosen.feedback_ids,
        rejected_feedback_ids=rejected.feedback_ids,
        chosen_by=stamp(settings),
    )


@lru_cache(maxsize=8)
def stamp(settings: PairsSettings) -> dict[str, JsonValue]:
    """Return the rules that an example is chosen by, for it to carry."""
    return {name: getattr(settings, name) for name in _STAMPED}


def broken_rule(pair: PreferencePair, settings: PairsSettings) -> str | None:
    """Return the rule that a finished pair breaks, judged from its own fields, or None where it obeys all."""
    checks = {
        "chosen_reward": side_of(pair.chosen_reward, settings) == "chosen",
        "rejected_reward": side_of(pair.rejected_reward, settings) == "rejected",
        "chosen_low_confidence": pair.evaluation_confidence >= settings.min_evaluation_confidence,
        "no_content": has_content(pair.chosen) and has_content(pair.rejected),
        "no_shared_domain": bool(pair.shared_domains),
        "no_shared_device": not devices_disagree(frozenset(pair.chosen_devices), frozenset(pair.rejected_devices)),
        "wrong_gap": pair.reward_gap == pair.chosen_reward - pair.rejected_reward,
        "small_gap": not gap_is_small(pair.chosen_reward, pair.rejected_reward, settings),
        "same_experience": pair.chosen_experience_id != pair.rejected_experience_id,
        "same_answer": substance(pair.chosen) != substance(pair.rejected),
        "wrong_id": pair.pair_id == example_id(pair.kind, pair.chosen_experience_id, pair.rejected_experience_id),
    }
    return next((name for name, holds in checks.items() if not holds), None)


def _canonical(content: JsonValue) -> bytes:
    try:
        return orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:  # an integer beyond 64 bits
        return json.dumps(content, sort_keys=True).encode()


def _shared(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    others = set(second)
    return tuple(dict.fromkeys(name for name in first if name in others))
