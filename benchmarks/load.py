"""A synthetic control room's events, encoded ahead so that publishing costs the measured machine little."""

from __future__ import annotations

import base64
import math
import random
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import orjson

from schemas.settings import Settings
from schemas.vectors import EMBEDDING_SIZE
from streams import topics
from streams.kafka.publisher import Outgoing, partition_for

WIDGET_TYPES = ("line_chart", "gauge", "table", "alert_list", "map", "kpi_tile")
INTENTS = ("status", "trend", "compare", "alarm", "control", "report", "forecast", "inventory")
DEVICES = ("chiller", "pump", "valve", "fan", "boiler", "meter")
WIDGETS = 3
QUERIES = 500
VECTORS = 2_000
SOURCES = ("user", "evaluator")
START = datetime(2026, 1, 1, tzinfo=UTC)


class Load:
    """Events that are the same at every call with one seed.

    Args:
        settings: names and partitions of the topics.
        experiences: how many experiences the feedback is about.
        seed: of everything that is drawn.
    """

    def __init__(self, settings: Settings, experiences: int, seed: int = 0) -> None:
        self._topic, self._partitions = settings.topic, settings.topics.partitions
        self._count = experiences
        self._random = random.Random(seed)
        vectors = np.random.default_rng(seed).standard_normal((VECTORS, EMBEDDING_SIZE)).astype("<f4")
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        self._vectors = [base64.b64encode(vector.tobytes()).decode() for vector in vectors]
        self._homes = [partition_for(self._key(number), self._partitions) for number in range(experiences)]

    def experiences(self) -> Iterator[Outgoing]:
        """Yield every experience: three widgets and a reply, all embeddings supplied."""
        for number in range(self._count):
            yield self._address(topics.EXPERIENCES, number, self._experience(number))

    def feedback(self, first: int, count: int) -> list[Outgoing]:
        """Return judgements number `first` and on; they go round the experiences, and each is newer than the last.

        User and evaluator take turns; half of them judge widgets one by one and the reply.
        """
        return [
            self._address(topics.FEEDBACK, number % self._count, self._feedback(number))
            for number in range(first, first + count)
        ]

    def _address(self, topic: str, number: int, event: dict[str, object]) -> Outgoing:
        return Outgoing(self._topic(topic), self._homes[number], self._key(number), orjson.dumps(event))

    def _experience(self, number: int) -> dict[str, object]:
        query = number % QUERIES
        names = [f"w{place}" for place in range(WIDGETS)]
        kinds = self._random.sample(WIDGET_TYPES, WIDGETS)
        device = DEVICES[query % len(DEVICES)]
        items = [*names, "voice"]
        return {
            "experience_id": self._key(number).decode(),
            "timestamp": (START + timedelta(seconds=number)).isoformat(),
            "query": f"what is the state of {device} {query}",
            "intent": {"type": INTENTS[query % len(INTENTS)], "domains": ["hvac", device], "devices": [device]},
            "widget_plan": [
                {"widget_id": name, "widget_type": kind, "text": f"{kind} of {device} {query}, answer {number}"}
                for name, kind in zip(names, kinds, strict=True)
            ],
            "voice_reply": f"{device} {query} runs as planned, says answer {number}",
            "query_embedding": self._vectors[query],
            "item_embeddings": {name: self._random.choice(self._vectors) for name in items},
        }

    def _feedback(self, number: int) -> dict[str, object]:
        # Turns by round, so that every experience is judged by both.
        source = SOURCES[number // self._count % len(SOURCES)]
        event: dict[str, object] = {
            "feedback_id": feedback_id(number),
            "experience_id": self._key(number % self._count).decode(),
            "timestamp": (START + timedelta(days=1, seconds=number)).isoformat(),
            "source": source,
            "reward": self._reward(),
        }
        if source == "evaluator":
            event["evaluation_confidence"] = 0.9
        if number % 2:
            event["per_widget_feedback"] = [
                {"widget_id": f"w{place}", "reward": self._reward()} for place in range(WIDGETS)
            ]
            event["voice_reward"] = self._reward()
        return event

    def _reward(self) -> float:
        return round(self._random.uniform(-1.0, 1.0), 2)

    @staticmethod
    def _key(number: int) -> bytes:
        return b"answer-%d" % number


def values(messages: Iterable[Outgoing]) -> list[bytes]:
    """Return what is sent, without topics and keys."""
    return [message.value or b"" for message in messages]


def feedback_id(number: int) -> str:
    """Return the id of judgement `number`."""
    return f"judgement-{number}"


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below or at which `share` of the values lie (nearest rank).

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("no values")
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
