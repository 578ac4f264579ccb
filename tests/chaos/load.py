"""A seeded producer that remembers every id the broker has taken, and the round it belongs to."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from schemas.base import Event
from schemas.events import Experience, Feedback, Trace
from schemas.settings import Settings
from streams.contract import CONTRACTS

INTENTS = ("status", "control", "report", "alarm", "history")
EARLY, TWICE, BY_A_USER_TOO, CORRUPT = 0.2, 0.05, 0.1, 0.01
"""Shares: feedback before its experience, events that come again, a second judgement, bytes that are no event."""

CODECS = (None, "gzip", "snappy", "lz4", "zstd")
IN_A_TRANSACTION = 0.25
"""Share of rounds that are published in one transaction, and then some in another that is aborted."""
TRANSACTIONAL_ID = "chaos-load"
"""Always the same, so that a producer that follows one that failed ends its transaction."""
TAKEN_BACK = 5

Message = tuple[str, bytes | None, bytes]
"""Topic, key and value."""


@dataclass
class Produced:
    """What the broker has taken, by id, with the round."""

    experiences: dict[str, int] = field(default_factory=dict)
    feedback: dict[str, int] = field(default_factory=dict)
    of: dict[str, str] = field(default_factory=dict)
    """The experience that a feedback judges."""
    traces: dict[str, int] = field(default_factory=dict)
    corrupt: dict[bytes, int] = field(default_factory=dict)
    transactions: int = 0
    """That were committed; as many were aborted, and nothing of those may have an effect."""
    codecs: set[str] = field(default_factory=set)
    messages: int = 0
    """Of every kind, repetitions included."""


def experience(number: int) -> Experience:
    """Return an answer whose words, intent and items follow from its number."""
    return Experience.model_validate(
        {
            "experience_id": f"e{number}",
            "timestamp": 1.0 + number,
            "query": f"how is pump {number % 60}",
            "intent": {"type": INTENTS[number % len(INTENTS)], "domains": ["pumps"], "devices": ["pump"]},
            "widget_plan": [{"widget_id": "w1", "widget_type": "gauge", "text": f"pressure {number}"}],
            "voice_reply": f"it runs at {number}",
        }
    )


def feedback(number: int, source: str) -> Feedback:
    """Return a judgement of that answer."""
    values = {
        "feedback_id": f"{source[0]}{number}",
        "experience_id": f"e{number}",
        "timestamp": 10_000.0 + number,
        "source": source,
        "reward": random.Random(f"{source}{number}").choice([-1.0, -0.8, 0.9, 1.0]),
    }
    return Feedback.model_validate(values | ({"evaluation_confidence": 0.9} if source == "evaluator" else {}))


def trace(number: int) -> Trace:
    """Return a trace that is eligible."""
    fields = {"prompt": f"question {number}", "thinking": "let me see", "response": f"answer {number}"}
    values = {"trace_id": f"t{number}", "timestamp": 1.0, "kind": "user_query", "model": "a-model", **fields}
    return Trace.model_validate(values)


def corrupt(number: int, rng: random.Random) -> Message:
    """Return bytes that are no event of their topic, unlike any other."""
    topic = rng.choice(["experiences", "feedback", "claude-traces"])
    mark = f"broken {number}".encode()
    value = rng.choice(
        [b"\xff\xfe" + mark, b'{"schema_version":1,"' + mark, b'{"schema_version":1,"x":"' + mark + b'"}']
    )
    return topic, None if rng.random() < 0.5 else mark, value


class Load:
    """Publishes rounds of events."""

    def __init__(self, settings: Settings, bootstrap: str, seed: int) -> None:
        self.produced = Produced()
        self._settings, self._bootstrap = settings, bootstrap
        self._rng = random.Random(f"load {seed}")
        self._next = 0
        self._broken = 0

    def publish(self, number: int, count: int, seconds: float) -> int:
        """Publish one round, spread over `seconds`, until the broker has all of it; return the count of messages."""
        messages = list(self._messages(number, count))
        asyncio.run(self._publish(messages, seconds))
        self.produced.messages += len(messages)
        return len(messages)

    def _messages(self, number: int, count: int) -> Iterator[Message]:
        placed: list[tuple[float, Message]] = []

        def place(at: float, event: Event, topic: str, kept: dict[str, int]) -> None:
            key = str(getattr(event, str(CONTRACTS[topic].key)))
            name = str(getattr(event, {"feedback": "feedback_id"}.get(topic, str(CONTRACTS[topic].key))))
            kept[name] = number
            message = (topic, key.encode(), event.to_json())
            placed.append((at, message))
            if self._rng.random() < TWICE:
                placed.append((at + self._rng.random() * count / 3, message))

        made = self.produced
        for at in range(count):
            place(at, experience(self._next), "experiences", made.experiences)
            sources = ["evaluator", "user"] if self._rng.random() < BY_A_USER_TOO else ["evaluator"]
            for source in sources:
                event = feedback(self._next, source)
                early = self._rng.random() < EARLY
                shift = -self._rng.random() if early else self._rng.random()
                place(at + shift * count / 4, event, "feedback", made.feedback)
                made.of[event.feedback_id] = event.experience_id
            if at % 5 == 0:
                place(at, trace(self._next), "claude-traces", made.traces)
            if self._rng.random() < 3 * CORRUPT:
                self._broken += 1
                message = corrupt(self._broken, self._rng)
                made.corrupt[message[2]] = number
                placed.append((at, message))
            self._next += 1
        yield from (message for _, message in sorted(placed, key=lambda pair: pair[0]))

    async def _publish(self, messages: list[Message], seconds: float) -> None:
        left = messages
        codec, whole = self._rng.choice(CODECS), self._rng.random() < IN_A_TRANSACTION
        self.produced.codecs.add(codec or "none")
        pause = seconds / max(1, len(messages))
        while left:
            try:
                left = await (self._try_whole if whole else self._try)(left, pause, codec)
            except KafkaError:
                await asyncio.sleep(0.5)  # no broker to begin with

    async def _try(self, messages: list[Message], pause: float, codec: str | None) -> list[Message]:
        """Publish, and return those that the broker did not acknowledge: a repetition harms nothing."""
        async with self._producer(codec) as producer:
            sent = await self._send(producer, messages, pause)
            outcomes = await asyncio.gather(*sent, return_exceptions=True)
        return [m for m, outcome in zip(messages, outcomes, strict=True) if isinstance(outcome, BaseException)]

    async def _try_whole(self, messages: list[Message], pause: float, codec: str | None) -> list[Message]:
        """Publish in one transaction; then more in one that is aborted."""
        async with self._producer(codec, transactional_id=TRANSACTIONAL_ID, transaction_timeout_ms=60_000) as producer:
            async with producer.transaction():
                await asyncio.gather(*await self._send(producer, messages, pause))
            self.produced.transactions += 1
            with contextlib.suppress(KafkaError):
                await producer.begin_transaction()
                taken_back = [experience(self._next + number) for number in range(TAKEN_BACK)]
                events = [
                    event.model_copy(update={"experience_id": f"taken-back-{n}"}) for n, event in enumerate(taken_back)
                ]
                sent = [("experiences", event.experience_id.encode(), event.to_json()) for event in events]
                await asyncio.gather(*await self._send(producer, sent, 0.0))
                await producer.abort_transaction()
        return []

    def _producer(self, codec: str | None, **more: Any) -> AIOKafkaProducer:
        return AIOKafkaProducer(
            bootstrap_servers=self._bootstrap,
            acks="all",
            enable_idempotence=True,
            request_timeout_ms=60_000,
            compression_type=codec,
            **more,
        )

    async def _send(
        self, producer: AIOKafkaProducer, messages: list[Message], pause: float
    ) -> list[asyncio.Future[Any]]:
        sent: list[asyncio.Future[Any]] = []
        for topic, key, value in messages:
            sent.append(await producer.send(self._settings.topic(topic), value, key=key))
            await asyncio.sleep(pause)
        return sent
