"""A seeded day with the numbers of the replaced system's audit, as real events.

730 experiences with feedback: 297 positive (mean reward 0.930), 312 negative (-0.692), 121 neutral; 167 judged with
evaluation confidence, all good ones. They give exactly 13 widget and 2 voice pairs in whatever order they arrive:
each pair has a subject area of its own, and elsewhere good and bad answers never meet in area, device, intent,
content or gap, nor does feedback that has only come in part make any of them change sides where they would.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from schemas.events import Experience, Feedback, Trace

EXPERIENCES = 730
POSITIVE, NEGATIVE, NEUTRAL = 297, 312, 121
POSITIVE_MEAN, NEGATIVE_MEAN = 0.930, -0.692
WITH_CONFIDENCE = 167
WIDGET_PAIRS, VOICE_PAIRS = 13, 2
THRESHOLD = 80

_START = datetime(2026, 2, 8, 6, tzinfo=UTC)
_INTENTS = ("status", "trend", "compare", "alarm", "control")
_SAME = ("The usual overview", "Here you are.")


@dataclass(frozen=True)
class AuditDay:
    """Events of a day; `feedbacks` are in the order of their timestamps."""

    seed: int
    experiences: tuple[Experience, ...]
    feedbacks: tuple[Feedback, ...]


@dataclass
class _Builder:
    """Collects events; every answer says something of its own unless it is told what to say."""

    seed: int
    name: str
    rng: random.Random
    experiences: list[Experience] = field(default_factory=list)
    feedbacks: list[Feedback] = field(default_factory=list)

    def add(
        self,
        area: str,
        *said: dict[str, Any],
        intent: str = "status",
        devices: Sequence[str] = (),
        plan: str | None = "own",
        voice: str | None = "own",
    ) -> None:
        """Add an experience and its feedback; `plan` and `voice` are texts, `own` for one of its own, None for none."""
        number = len(self.experiences)
        name = f"{self.name}-{self.seed}-{number:04d}"
        query = f"what about {area} item {number % 7}"
        text = f"{area} view {number}" if plan == "own" else plan
        widgets = [
            {"widget_id": f"w{place}", "widget_type": kind, "text": f"{text}, {kind}", "size": "medium"}
            for place, kind in enumerate(("gauge", "line_chart"), start=1)
        ]
        at = _START + timedelta(seconds=60 * number)
        self.experiences.append(
            Experience.model_validate(
                {
                    "experience_id": name,
                    "timestamp": at,
                    "query": query,
                    "intent": {"type": intent, "domains": [area], "devices": list(devices)},
                    "widget_plan": widgets if text is not None else [],
                    "voice_reply": f"{area} reply {number}" if voice == "own" else voice,
                    "source_model": "assistant-1",
                }
            )
        )
        for place, fields in enumerate(said, start=1):
            self.feedbacks.append(
                Feedback.model_validate(
                    {
                        "feedback_id": f"{name}-f{place}",
                        "experience_id": name,
                        "timestamp": at + timedelta(seconds=self.rng.randint(5, 20) + 20 * place),
                        **fields,
                    }
                )
            )

    def intent(self) -> str:
        return self.rng.choice(_INTENTS)


def _user(reward: float, **more: Any) -> dict[str, Any]:
    return {"source": "user", "reward": reward, **more}


def _user_widgets(first: float, second: float, **more: Any) -> dict[str, Any]:
    judged = [{"widget_id": "w1", "reward": first}, {"widget_id": "w2", "reward": second}]
    return {"source": "user", "per_widget_feedback": judged, **more}


def _evaluator(reward: float, confidence: float | None = None, **more: Any) -> dict[str, Any]:
    return {"source": "evaluator", "reward": reward, "evaluation_confidence": confidence, **more}


def _evaluator_widgets(first: float, second: float, confidence: float) -> dict[str, Any]:
    return _user_widgets(first, second) | {"source": "evaluator", "evaluation_confidence": confidence}


def _good_with_confidence(rng: random.Random, style: int) -> tuple[float, tuple[dict[str, Any], ...]]:
    """Return the reward by the formula 0.7·u + 0.3·c·e (or c·e) and the feedback that leads to it."""
    confidence = round(rng.uniform(0.9, 1.0), 2)
    if style == 0:
        return confidence, (_evaluator(1.0, confidence),)
    if style == 1:
        confidence = round(rng.uniform(0.5, 1.0), 2)
        return 0.7 + 0.3 * confidence, (_user(1.0), _evaluator(1.0, confidence))
    if style == 2:
        return confidence * 0.95, (_evaluator_widgets(1.0, 0.9, confidence),)
    if style == 3:
        said = (_user_widgets(1.0, 0.9, voice_reward=1.0), _evaluator(1.0, confidence, voice_reward=0.9))
        return 0.7 * 0.95 + 0.3 * confidence, said
    # A mild disagreement, and a first judgement that the same user takes back for a better one.
    return 0.7 + 0.3 * 0.6 * -0.1, (_user(0.4), _user(1.0), _evaluator(-0.1, 0.6))


def _bad(style: int) -> tuple[float, tuple[dict[str, Any], ...]]:
    """Return a reward below -0.1 and the feedback without confidence that leads to it."""
    if style == 0:
        return -0.5, (_evaluator(-1.0),)
    if style == 1:
        return -0.7 - 0.3 * 0.5 * 0.8, (_user(-1.0), _evaluator(-0.8))
    if style == 2:
        return -0.3, ({"source": "implicit", "reward": -1.0},)
    return -0.75, (_user_widgets(-1.0, -0.5, voice_reward=-0.9),)


def _around(mean: float, count: int, spread: float) -> list[float]:
    """Return rewards with this mean: pairs that lie evenly on both sides of it."""
    steps = [spread * (place // 2 + 1) / (count // 2 + 1) for place in range(count - count % 2)]
    return [mean + (step if place % 2 else -step) for place, step in enumerate(steps)] + [mean] * (count % 2)


def _add_pairs(day: _Builder) -> tuple[list[float], list[float]]:
    """Add 13 areas with one good and one bad answer each; two of them differ in what was spoken, too."""
    good, bad = [], []
    for place in range(WIDGET_PAIRS):
        reward, said = _good_with_confidence(day.rng, place % 4)
        worse, complaint = _bad(place % 2)
        good_voice, bad_voice = "own", "own"
        if place >= VOICE_PAIRS:
            good_voice, bad_voice = [("own", None), (_SAME[1], _SAME[1]), (None, "own")][place % 3]
        area, intent = f"line {place + 1}", day.intent()
        day.add(area, *said, intent=intent, voice=good_voice, devices=["pump"])
        day.add(area, *complaint, intent=intent, voice=bad_voice, devices=["pump", "valve"] if place % 2 else [])
        good.append(reward)
        bad.append(worse)
    return good, bad


def _add_near_misses(day: _Builder) -> tuple[list[float], list[float]]:
    """Add areas in which one rule each stands between good and bad: gap, content, device, intent."""
    day.add("gap", _evaluator(0.3, 0.5), voice=None)
    day.add("gap", _user(-0.12), voice=None)
    good, bad = [0.15], [-0.12]
    for area in ("lobby", "roof"):
        day.add(area, _evaluator(1.0, 0.95), plan=_SAME[0], voice=_SAME[1])
        day.add(area, _user(-0.9), plan=_SAME[0], voice=_SAME[1])
    good += [0.95] * 2
    bad += [-0.9] * 2
    for area, devices, intents in (("plant", ("pump", "chiller"), ("status", "status")), ("hall", ("", ""), _INTENTS)):
        for place in range(20):
            reward, said = _good_with_confidence(day.rng, place % 4 if place % 10 else 4)
            worse, complaint = _bad(place % 4)
            day.add(area, *said, devices=[name for name in devices[:1] if name], intent=intents[0])
            day.add(area, *complaint, devices=[name for name in devices[1:] if name], intent=intents[1])
            good.append(reward)
            bad.append(worse)
    return good, bad


def _add_unmatched(day: _Builder, good: list[float], bad: list[float]) -> None:
    """Add the rest of the good and the bad; free rewards bring the means to the audit's."""
    for place in range(WITH_CONFIDENCE - len(good)):
        reward, said = _good_with_confidence(day.rng, place % 4 if place % 10 else 4)
        day.add(day.rng.choice(("north", "east")), *said, intent=day.intent())
        good.append(reward)
    free = POSITIVE - len(good)
    for place, reward in enumerate(_around((POSITIVE * POSITIVE_MEAN - sum(good)) / free, free, 0.02)):
        judged = _user_widgets(reward, reward, voice_reward=0.8) if place % 4 == 0 else _user(reward)
        day.add("west" if place % 4 == 1 else "north", judged, intent=day.intent())
    for place in range(100):
        reward, said = _bad(place % 4)
        day.add("south", *said, intent=day.intent())
        bad.append(reward)
    free = NEGATIVE - len(bad)
    for place, reward in enumerate(_around((NEGATIVE * NEGATIVE_MEAN - sum(bad)) / free, free, 0.1)):
        # In the west, bad answers meet good ones that nobody evaluated.
        day.add("west" if place % 6 == 0 else "south", _user(reward), intent=day.intent())


def _add_neutral(day: _Builder) -> None:
    """Add neutral ones; where a part of their feedback would be a judgement, their area is their own."""
    for place in range(NEUTRAL):
        said: list[tuple[dict[str, Any], ...]] = [
            (_user(0.0),),
            (_user(0.05), _evaluator(-1.0)),
            ({"source": "implicit", "reward": 0.2},),
            (_user_widgets(1.0, -1.0),),
            (_user(-0.08),),
        ]
        day.add(f"yard {place}", *said[place % len(said)], intent=day.intent())


def audit_day(seed: int) -> AuditDay:
    """Return the audit's day; the seed chooses rewards, intents, times and the order of the experiences."""
    day = _Builder(seed, "exp", random.Random(seed))
    paired, missed = _add_pairs(day), _add_near_misses(day)
    _add_unmatched(day, paired[0] + missed[0], paired[1] + missed[1])
    _add_neutral(day)
    return _finished(day)


def top_up(day: AuditDay) -> AuditDay:
    """Return 65 more areas with one pair each, 62 of widgets and 3 of replies, which makes 80 with the day's own."""
    more = _Builder(day.seed, "more", random.Random(day.seed + 1))
    for place in range(THRESHOLD - WIDGET_PAIRS - VOICE_PAIRS):
        spoken = place >= 62
        contents = {"plan": None, "voice": "own"} if spoken else {"plan": "own", "voice": None}
        intent = more.intent()
        more.add(f"extra {place}", _evaluator(1.0, 0.9), intent=intent, **contents)
        more.add(f"extra {place}", _user(-0.8), intent=intent, **contents)
    return _finished(more)


def traces(count: int) -> list[Trace]:
    """Return so many traces that can be trained on."""
    return [
        Trace(
            trace_id=f"trace-{number:04d}",
            timestamp=_START + timedelta(minutes=number),
            kind="user_query",
            prompt=f"Why did pump {number} trip?",
            thinking=f"Pump {number} drew more current than its limit, so the relay opened.",
            response=f"Pump {number} tripped on over-current.",
            model="reasoner-1",
            input_tokens=60,
            output_tokens=90,
            latency_seconds=2.5,
            stop_reason="end_turn",
        )
        for number in range(count)
    ]


def write_legacy_traces(folder: Path) -> None:
    """Write the audit's two traces as the replaced system did: appended to one `traces.jsonl`."""
    old = [
        {
            "trace_type": "user_query",
            "prompt": "What are the current vibration levels for pump 001?",
            "thinking": "The operator wants the latest vibration readings of pump 001, so I look at its sensors.",
            "response": "Pump 001 vibrates at 2.1 mm/s, within its limit of 4.5 mm/s.",
            "claude_time": 14.9,
            "input_tokens": 140,
            "output_tokens": 504,
        },
        {
            "trace_type": "widget_selection",
            "prompt": "Select widgets for the query.",
            "thinking": None,
            "response": '{"widgets": []}',
            "claude_time": 11.4,
            "input_tokens": 12837,
            "output_tokens": 679,
        },
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "traces.jsonl").write_text("".join(json.dumps(one) + "\n" for one in old), encoding="utf-8")


def _finished(day: _Builder) -> AuditDay:
    experiences = list(day.experiences)
    day.rng.shuffle(experiences)
    return AuditDay(
        day.seed, tuple(experiences), tuple(sorted(day.feedbacks, key=lambda one: (one.timestamp, one.feedback_id)))
    )
