"""A simulated control room: operators ask, an assistant guesses an answer, people judge it by a hidden taste.

Everything follows from the seed: the same seed gives the same exchanges, byte for byte.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import fmean

from schemas.events import VOICE_ITEM_ID, Experience, Feedback, Intent, Trace, Widget, WidgetFeedback

JUDGEMENT_NOISE = 0.25
"""Standard deviation of what a judge adds to the true worth, before the reward is cut to -1..1."""

LIKED, NEUTRAL, DISLIKED = 0.7, 0.0, -0.7
"""True worths."""

USER_JUDGES, EVALUATOR_JUDGES = 0.8, 0.5
"""Share of the answers that each of them judges."""

WIDGETS_PER_PLAN, PLAIN_WIDGETS = (2, 4), (2, 2)
"""The fewest and the most."""

TRACE_EVERY = 4
"""One exchange in so many brings the trace of the model call behind it."""

TRACE_HAS_THINKING = 0.85

DEVICES: Mapping[str, tuple[str, ...]] = {
    "hvac": ("air_handler", "thermostat"),
    "pumps": ("pump", "valve"),
    "chillers": ("chiller", "cooling_tower"),
    "power": ("transformer", "feeder"),
    "lighting": ("lamp", "dimmer"),
}
"""Device types by domain."""

QUERIES: Mapping[str, tuple[str, ...]] = {
    "status": ("status of {device} {number}", "is {device} {number} running", "state of {device} {number} now"),
    "trend": ("trend of {device} {number}", "history of {device} {number}", "plot {device} {number} over the week"),
    "alarm": ("alarms of {device} {number}", "why did {device} {number} alarm", "active alarms on {device} {number}"),
    "compare": ("compare {device} {number} with others", "rank {device} {number}", "is {device} {number} the worst"),
}
"""Templates of queries by intent type."""

WIDGETS: Mapping[str, str] = {
    "kpi_card": "current {device} {number}",
    "gauge": "limits of {device} {number}",
    "line_chart": "{device} {number} over time",
    "bar_chart": "{device} {number} and neighbours",
    "table": "readings of {device} {number}",
    "alarm_list": "{device} {number} by severity",
    "heatmap": "hours of {device} {number}",
    "floor_plan": "place of {device} {number}",
}
"""What each widget type shows."""

REPLIES: Mapping[str, str] = {
    "terse": "{device} {number}: see the panel.",
    "explaining": "{device} {number} is within limits because its load fell after noon.",
    "advising": "I recommend to inspect {device} {number} before the next shift.",
    "hedging": "Sorry, I am not sure about {device} {number}; perhaps you could check it yourself.",
}
"""Spoken replies by style."""


@dataclass(frozen=True, slots=True)
class Taste:
    """What the judges of this room like: the true worth, -1 to 1, by intent type."""

    widgets: Mapping[str, Mapping[str, float]]
    """By intent type, then widget type."""
    replies: Mapping[str, Mapping[str, float]]
    """By intent type, then style of reply."""

    def flipped(self) -> Taste:
        """Return the taste of those who like what these dislike."""
        return Taste(*(_flipped(worths) for worths in (self.widgets, self.replies)))


@dataclass(frozen=True, slots=True)
class Exchange:
    """One answer and what follows from it."""

    experience: Experience
    feedback: tuple[Feedback, ...]
    """Judgements, in the order in which they are given; none where nobody judged."""
    trace: Trace | None
    worth: Mapping[str, float]
    """The hidden worth of each item."""


def hidden_taste(seed: int, plain: bool = False) -> Taste:
    """Draw a taste: what is liked in general, and for each intent type one liked and one disliked thing swapped.

    In a plain room the same reply is liked for every intent type.
    """
    rng = random.Random(f"taste/{seed}")
    widgets = _drawn(rng, list(WIDGETS), (LIKED, LIKED, LIKED, NEUTRAL, NEUTRAL, DISLIKED, DISLIKED, DISLIKED))
    replies = _drawn(rng, list(REPLIES), (LIKED, NEUTRAL, DISLIKED, DISLIKED))
    return Taste(
        {intent_type: _swapped(rng, widgets) for intent_type in QUERIES},
        {intent_type: replies if plain else _swapped(rng, replies) for intent_type in QUERIES},
    )


def _drawn(rng: random.Random, names: list[str], worths: tuple[float, ...]) -> dict[str, float]:
    return dict(zip(rng.sample(names, len(names)), worths, strict=True))


def _flipped(worths: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    return {intent: {name: -worth for name, worth in of.items()} for intent, of in worths.items()}


def _swapped(rng: random.Random, worths: Mapping[str, float]) -> dict[str, float]:
    liked = rng.choice([name for name, worth in worths.items() if worth == LIKED])
    disliked = rng.choice([name for name, worth in worths.items() if worth == DISLIKED])
    return {**worths, liked: worths[disliked], disliked: worths[liked]}


def simulate(
    seed: int, count: int, start: datetime, *, plain: bool = False, flipped_from: int | None = None
) -> list[Exchange]:
    """Return `count` exchanges, a second apart from `start` on.

    Args:
        seed: everything follows from it.
        count: how many.
        start: time of the first.
        plain: of few words and a taste that a training of a few steps can learn: a plan of two widgets has a worth
            that tells it from others, where the mean of more is near that of any, and one style of reply is liked.
        flipped_from: the exchange from which on what was liked is disliked; None for never.
    """
    taste, widgets = hidden_taste(seed, plain), PLAIN_WIDGETS if plain else WIDGETS_PER_PLAN
    flip = count if flipped_from is None else flipped_from
    tastes = [taste, taste.flipped()]
    return [
        _exchange(seed, number, start + timedelta(seconds=number), tastes[number >= flip], widgets)
        for number in range(count)
    ]


def _exchange(seed: int, number: int, at: datetime, taste: Taste, widgets: tuple[int, int]) -> Exchange:
    rng = random.Random(f"{seed}/{number}")
    intent_type, domain = rng.choice(list(QUERIES)), rng.choice(list(DEVICES))
    device = rng.choice(DEVICES[domain])
    words = {"device": device.replace("_", " "), "number": rng.randint(1, 9)}
    query = rng.choice(QUERIES[intent_type]).format(**words)
    types = rng.sample(list(WIDGETS), rng.randint(*widgets))
    plan = tuple(
        Widget(
            widget_id=f"w{place}",
            widget_type=kind,
            text=WIDGETS[kind].format(**words),
            size=rng.choice(("small", "medium", "large")),
        )
        for place, kind in enumerate(types)
    )
    style = rng.choice(list(REPLIES))
    experience = Experience(
        experience_id=f"room-{seed}-{number:05d}",
        timestamp=at,
        query=query,
        intent=Intent.model_validate({"type": intent_type, "domains": [domain], "devices": [device]}),
        widget_plan=plan,
        voice_reply=REPLIES[style].format(**words).capitalize(),
        source_model="simulated-assistant",
    )
    worth = {widget.widget_id: taste.widgets[intent_type][widget.widget_type] for widget in plan}
    worth[VOICE_ITEM_ID] = taste.replies[intent_type][style]
    return Exchange(experience, _feedback(rng, experience, worth), _trace(rng, number, experience), worth)


def _feedback(rng: random.Random, experience: Experience, worth: Mapping[str, float]) -> tuple[Feedback, ...]:
    given = []
    if rng.random() < USER_JUDGES:
        given.append(_user(rng, experience, worth))
    if rng.random() < EVALUATOR_JUDGES:
        given.append(_evaluator(rng, experience, worth))
    return tuple(given)


def _user(rng: random.Random, experience: Experience, worth: Mapping[str, float]) -> Feedback:
    """Judge each widget and the reply, or now and then only the answer as a whole."""
    whole = rng.random() < 0.2
    return Feedback(
        feedback_id=f"{experience.experience_id}-user",
        experience_id=experience.experience_id,
        timestamp=experience.timestamp + timedelta(seconds=20),
        source="user",
        reward=_judge(rng, fmean(worth.values())) if whole else None,
        per_widget_feedback=() if whole else _widget_rewards(rng, experience, worth),
        voice_reward=None if whole else _judge(rng, worth[VOICE_ITEM_ID]),
    )


def _evaluator(rng: random.Random, experience: Experience, worth: Mapping[str, float]) -> Feedback:
    """Judge the plan, its widgets and the reply, more or less confidently."""
    plan = fmean(worth[widget.widget_id] for widget in experience.widget_plan)
    return Feedback(
        feedback_id=f"{experience.experience_id}-evaluator",
        experience_id=experience.experience_id,
        timestamp=experience.timestamp + timedelta(seconds=60),
        source="evaluator",
        reward=_judge(rng, plan),
        per_widget_feedback=_widget_rewards(rng, experience, worth),
        voice_reward=_judge(rng, worth[VOICE_ITEM_ID]),
        evaluation_confidence=round(rng.uniform(0.3, 1.0), 2),
    )


def _widget_rewards(
    rng: random.Random, experience: Experience, worth: Mapping[str, float]
) -> tuple[WidgetFeedback, ...]:
    ids = [widget.widget_id for widget in experience.widget_plan]
    return tuple(WidgetFeedback(widget_id=name, reward=_judge(rng, worth[name])) for name in ids)


def _judge(rng: random.Random, worth: float) -> float:
    return round(max(-1.0, min(1.0, worth + rng.gauss(0.0, JUDGEMENT_NOISE))), 3)


def _trace(rng: random.Random, number: int, experience: Experience) -> Trace | None:
    if number % TRACE_EVERY:
        return None
    chosen = ", ".join(widget.widget_type for widget in experience.widget_plan)
    intent = experience.intent
    thinking = f"{intent.type} of a {intent.devices[0].type} in {intent.domains[0]}, at a glance: {chosen}."
    return Trace(
        trace_id=f"{experience.experience_id}-trace",
        timestamp=experience.timestamp,
        kind="widget_selection",
        prompt=experience.query,
        system="You choose the widgets of a control room's dashboard.",
        thinking=thinking if rng.random() < TRACE_HAS_THINKING else None,
        response=f'{{"widgets": "{chosen}"}}',
        model="simulated-assistant",
        input_tokens=rng.randint(90, 160),
        output_tokens=rng.randint(120, 500),
        latency_seconds=round(rng.uniform(2.0, 15.0), 1),
        confidence=round(rng.uniform(0.6, 1.0), 2),
        stop_reason="end_turn",
        experience_id=experience.experience_id,
    )
