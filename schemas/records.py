"""Records that travel between our own agents on internal topics; not part of the public contract."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

from pydantic import JsonValue, TypeAdapter, with_config
from pydantic_core import from_json, to_json

from schemas.base import Event, Identifier, Part, Probability, Reward, Text
from schemas.events import ItemType, PairKind, ScoreReason

FEATURES_PER_ITEM = 384 + 45
"""Floats that an item brings: its embedding, then its structured features."""


@dataclass(frozen=True, slots=True, order=True)
class Origin:
    """The input record that carried the event, however and whenever it was joined: its identity.

    They come in no promised order: feedback that waited for its experience comes late, and what one owner of a
    partition had not published when it died, its successor may publish after records that stand behind it.
    """

    topic: str
    """Name without the prefix."""
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class ScorerEntry:
    """One unit of work for the scorer: the items of an experience, with rewards where it was judged.

    The wire format is one line of JSON, a newline, and the features as little-endian float32:
    the query's embedding (384), then for each item its embedding (384) and structured features (45).
    """

    kind: Literal["arrived", "feedback"]
    experience_id: str
    feedback_id: str | None
    origin: Origin
    received_at: float
    """Broker time of the event in epoch seconds."""
    query_hash: str
    """Hex of 8 bytes of BLAKE2b of the query: decides learned or held out."""
    intent_type: str
    item_ids: tuple[str, ...]
    item_types: tuple[ItemType, ...]
    rewards: tuple[float | None, ...]
    """One an item for `feedback`; empty for `arrived`."""
    features: bytes

    def encode(self) -> bytes:
        """Return the wire format."""
        o = self.origin
        head = {
            "kind": self.kind,
            "experience_id": self.experience_id,
            "feedback_id": self.feedback_id,
            "origin": [o.topic, o.partition, o.offset],
            "received_at": self.received_at,
            "query_hash": self.query_hash,
            "intent_type": self.intent_type,
            "item_ids": self.item_ids,
            "item_types": self.item_types,
            "rewards": self.rewards,
        }
        return to_json(head) + b"\n" + self.features

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read the wire format.

        Raises:
            ValueError: the record is not of this form.
        """
        head, newline, features = data.partition(b"\n")
        fields = from_json(head)
        count = len(fields["item_ids"])
        if not newline or len(features) != 4 * (384 + count * FEATURES_PER_ITEM):
            raise ValueError(f"scorer entry of {count} items has {len(features)} bytes of features")
        return cls(
            kind=fields["kind"],
            experience_id=fields["experience_id"],
            feedback_id=fields["feedback_id"],
            origin=Origin(*fields["origin"]),
            received_at=fields["received_at"],
            query_hash=fields["query_hash"],
            intent_type=fields["intent_type"],
            item_ids=tuple(fields["item_ids"]),
            item_types=tuple(fields["item_types"]),
            rewards=tuple(fields["rewards"]),
            features=features,
        )


class StepRecord(Event):
    """One optimizer update in the log of steps, written before it is applied."""

    kind: Literal["claim", "step"]
    """A claim opens an epoch: later records of lower epochs are void."""
    epoch: int
    """Ownership count of the writer."""
    step: int = 0
    """Number of the update in the scorer's life, from 1."""
    first_offset: int = -1
    """First input offset that the step covers."""
    last_offset: int = -1
    """Last input offset that the step covers."""
    seed: int = 0
    """Seed of the replay draws."""


@with_config(Part.model_config)
@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A widget plan or a reply with its blended reward, as the pairing agent needs it.

    It is made from events that were validated, and is validated itself when it is read back.
    """

    kind: PairKind
    experience_id: Identifier
    query: Text
    intent_type: Identifier
    domains: tuple[Identifier, ...]
    device_types: tuple[Identifier, ...]
    content: JsonValue = None
    """A list of widgets, or the reply's text; None or empty where the answer has none."""
    reward: Reward | None = None
    """Blended over sources; None where nobody judged it."""
    evaluation_confidence: Probability | None = None
    """Of the evaluator's latest judgement."""
    judged_by_user: bool

    @classmethod
    def from_json(cls, data: bytes | str) -> Self:
        """Decode and validate an answer.

        Raises:
            pydantic.ValidationError: the bytes are not JSON of this form.
        """
        answer: Self = _ANSWER.validator.validate_json(data)
        return answer

    def to_json(self) -> bytes:
        """Encode as UTF-8 JSON without absent fields."""
        return _ANSWER.serializer.to_json(self, exclude_none=True)


_ANSWER = TypeAdapter(Answer)


@dataclass(frozen=True, slots=True)
class Scored:
    """What the scorer made of one entry: the body of a score update."""

    entry: ScorerEntry
    reason: ScoreReason
    step: int
    scores: tuple[float, ...]
    previous_scores: tuple[float, ...] | None
