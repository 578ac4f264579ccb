"""What the join remembers of an experience: the experience itself, written once, and its judgements, small."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

import orjson
from pydantic import JsonValue

from schemas.events import Experience, Feedback, FeedbackSource, ItemType
from trainers.prepare import ItemFeatures
from trainers.reward import Judgement


@dataclass(frozen=True, slots=True)
class JoinedExperience:
    """An experience as later feedback needs it; its features went to the scorer, once, on arrival."""

    query: str
    query_hash: str
    intent_type: str
    domains: tuple[str, ...]
    device_types: tuple[str, ...]
    widgets: list[JsonValue]
    """The widget plan as JSON data."""
    voice_reply: str | None
    item_ids: tuple[str, ...]
    item_types: tuple[ItemType, ...]
    offset: int
    """Of its record: with the partition it names the features."""

    @classmethod
    def of(cls, experience: Experience, query_hash: str, items: ItemFeatures, offset: int) -> Self:
        """Keep what is needed of an experience and its items."""
        types = dict.fromkeys(device.type for device in experience.intent.devices)
        return cls(
            query=experience.query,
            query_hash=query_hash,
            intent_type=experience.intent.type,
            domains=experience.intent.domains,
            device_types=tuple(types),
            widgets=[widget.model_dump(mode="json", exclude_none=True) for widget in experience.widget_plan],
            voice_reply=experience.voice_reply,
            item_ids=items.item_ids,
            item_types=items.item_types,
            offset=offset,
        )

    def encode(self) -> bytes:
        """Return JSON."""
        return orjson.dumps({name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read what `encode` wrote."""
        fields = orjson.loads(data)
        for name in ("domains", "device_types", "item_ids", "item_types"):
            fields[name] = tuple(fields[name])
        return cls(**fields)


@dataclass(slots=True)
class EarlyFeedback:
    """Feedback that waits for its experience, with its origin in case it never comes."""

    partition: int
    offset: int
    received_at: float
    feedback: Feedback
    attempt: int = 1
    """Which try of the feedback this is."""


@dataclass(slots=True)
class Judgements:
    """The judgements of one experience so far."""

    since: float
    """Broker time at which the experience, or its first feedback, arrived."""
    latest: dict[FeedbackSource, Judgement] = field(default_factory=dict)
    """The judgement that counts, by source."""
    outcomes: dict[str, str] = field(default_factory=dict)
    """What became of each feedback, by id: joined, early, superseded or unusable."""
    early: list[EarlyFeedback] = field(default_factory=list)
    """Feedback that waits for the experience."""
    answers: dict[str, list[Any]] = field(default_factory=dict)
    """By kind, the reward and confidence that were last handed on."""

    def encode(self) -> bytes:
        """Return JSON."""
        return orjson.dumps(
            {
                "since": self.since,
                "latest": {source: judgement.as_list() for source, judgement in self.latest.items()},
                "outcomes": self.outcomes,
                "early": [
                    [
                        *(e.partition, e.offset, e.received_at),
                        *(e.feedback.model_dump(mode="json", exclude_none=True), e.attempt),
                    ]
                    for e in self.early
                ],
                "answers": self.answers,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read what `encode` wrote."""
        fields = orjson.loads(data)
        return cls(
            since=fields["since"],
            latest={source: Judgement.from_list(f) for source, f in fields["latest"].items()},
            outcomes=fields["outcomes"],
            early=[
                EarlyFeedback(p, o, at, Feedback.model_validate(f), *attempt)
                for p, o, at, f, *attempt in fields["early"]
            ],
            answers=fields["answers"],
        )
