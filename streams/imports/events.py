"""Events of what a format found: a trace where there is reasoning, an experience where there is an answer."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from schemas.base import MAX_ID_CHARACTERS, MAX_TEXT_CHARACTERS, Event
from schemas.events import Experience, Feedback, Trace
from streams.imports.found import Bad, Call, Found, LeftOut, Ready, Score
from streams.kafka.dead_letters import explain

_GOOD = frozenset({"good", "positive", "up", "thumbs up", "thumbs_up", "like", "yes", "true", "pass", "correct", "👍"})
_BAD = frozenset(
    {"bad", "negative", "down", "thumbs down", "thumbs_down", "dislike", "no", "false", "fail", "incorrect", "👎"}
)
_KEY_OF: Mapping[type[Event], str] = {Experience: "experience_id", Feedback: "feedback_id", Trace: "trace_id"}


Made = Ready | LeftOut | Bad


@dataclass(frozen=True, slots=True)
class Making:
    """What is to be made of what was found."""

    intent: str | None = None
    """The intent type: a constant, or `.FIELD` of the record, dots going deeper; None for the rule."""
    domain: str | None = None
    """The domain, likewise."""
    scale: tuple[float, float] = (0.0, 1.0)
    """The worst and the best score; what is between becomes a reward between -1 and 1."""
    confidence: float | None = None
    """Of the judgements that bring none."""


def events_of(found: Iterable[Found], making: Making) -> Iterator[Made]:
    """Yield events, and what none is made of; scores last, when every answer is known.

    An event whose id came before is left out as `repeated`. By the rule, answers have the intent type `chat`, the
    task that the source names (else `chat`) as a domain, and one that follows from the prompt: so answers of one task
    are comparable, and those to one prompt always are.
    """
    seen: set[tuple[type[Event], str]] = set()
    answers: dict[str, tuple[Any, str]] = {}
    scores: list[Score] = []
    for one in found:
        if isinstance(one, Score):
            scores.append(one)
        else:
            yield from _fresh(_made(one, making, answers), seen)
    for score in scores:
        yield from _fresh(_judged(score, making, answers), seen)


def _fresh(made: Iterable[Ready | LeftOut | Bad], seen: set[tuple[type[Event], str]]) -> Iterator[Made]:
    for one in made:
        if isinstance(one, Ready):
            key = type(one.event), str(getattr(one.event, _KEY_OF[type(one.event)]))
            if key in seen:
                yield LeftOut(one.where, "repeated")
                continue
            seen.add(key)
        yield one


def _made(one: Call | Ready | LeftOut | Bad, making: Making, answers: dict[str, tuple[Any, str]]) -> Iterator[Made]:
    if not isinstance(one, Call):
        yield one
        return
    if not one.fields.get("prompt"):
        yield LeftOut(one.where, "no_prompt")
        return
    try:
        trace = Trace.model_validate(one.fields)
        experience = _experience(one, trace, making)
    except ValidationError as error:
        too_long = all(found["type"] in ("string_too_long", "too_long") for found in error.errors())
        yield LeftOut(one.where, "too_long") if too_long else Bad(one.where, explain(error)[1])
        return
    if experience is not None:
        yield Ready(one.where, experience)
        for name in (experience.experience_id, *one.known_as):
            if name not in answers or answers[name][0] <= trace.timestamp:
                answers[name] = trace.timestamp, experience.experience_id
    if trace.thinking or trace.thinking_omitted or trace.redacted_thinking:
        led_to = None if experience is None else experience.experience_id
        yield Ready(one.where, trace.model_copy(update={"experience_id": trace.experience_id or led_to}))
    elif experience is None:
        yield LeftOut(one.where, "tool_call" if one.calls_tool else "no_answer")


def _experience(call: Call, trace: Trace, making: Making) -> Experience | None:
    if call.calls_tool or not trace.response.strip():
        return None
    prompt = f"prompt-{hashlib.sha256(trace.prompt.encode()).hexdigest()[:16]}"
    rule = (call.name or "chat")[:MAX_ID_CHARACTERS]
    domain = _chosen(making.domain, call.about)
    return Experience.model_validate(
        {
            "experience_id": trace.trace_id,
            "timestamp": trace.timestamp,
            "query": trace.prompt[-MAX_TEXT_CHARACTERS:],
            "intent": {
                "type": _chosen(making.intent, call.about) or "chat",
                "domains": [domain] if domain else [rule, prompt],
            },
            "voice_reply": trace.response,
            "source_model": trace.model,
            "confidence": trace.confidence,
        }
    )


def _chosen(option: str | None, about: Any) -> str | None:
    """Return what an option says of a record: a constant, or the value of its field; None where it has none."""
    if option is None or not option.startswith("."):
        return option
    for name in option[1:].split("."):
        about = about.get(name) if isinstance(about, Mapping) else None
    return str(about)[:MAX_ID_CHARACTERS] if isinstance(about, (str, int, float)) and str(about) else None


def _judged(score: Score, making: Making, answers: Mapping[str, tuple[Any, str]]) -> Iterator[Made]:
    of = next((answers[name][1] for name in score.of if name in answers), None)
    if of is None:
        yield LeftOut(score.where, "score_without_answer")
        return
    reward = reward_of(score.value, making.scale)
    if isinstance(reward, str):
        yield LeftOut(score.where, reward)
        return
    fields = {
        "feedback_id": score.feedback_id,
        "experience_id": of,
        "timestamp": score.timestamp,
        "source": score.source,
        "reward": reward,
        "evaluation_confidence": making.confidence if score.confidence is None else score.confidence,
        "comment": None if score.comment is None else score.comment[:MAX_TEXT_CHARACTERS],
    }
    try:
        yield Ready(score.where, Feedback.model_validate(fields))
    except ValidationError as error:
        yield Bad(score.where, explain(error)[1])


def reward_of(value: float | bool | str, scale: tuple[float, float]) -> float | str:
    """Return the reward that a score stands for, or the reason why it stands for none.

    True and false, and words for good and bad, are 1 and -1. On the scale of 0 to 1 a score of -1 to 0 is taken as a
    reward already: so thumbs of 1 and -1 need no scale of their own.
    """
    if isinstance(value, str):
        word = value.strip().lower()
        return 1.0 if word in _GOOD else -1.0 if word in _BAD else "score_is_no_number"
    if isinstance(value, bool):
        return 1.0 if value else -1.0
    low, high = scale
    if scale == (0.0, 1.0) and -1 <= value < 0:
        return float(value)
    if not min(low, high) <= value <= max(low, high):
        return "score_beyond_scale"
    return 2 * (value - low) / (high - low) - 1
