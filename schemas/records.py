"""Records that travel between our own agents on internal topics; not part of the public contract."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, Self

from pydantic import TypeAdapter, with_config
from pydantic_core import from_json, to_json

from schemas.base import Event, FreeJson, Identifier, Part, Probability, Reward, Text
from schemas.events import ItemType, PairKind, ScoreReason

FEATURES_PER_ITEM = 384 + 45
"""Floats that an item brings: its embedding, then its structured features."""


class Origin(NamedTuple):
    """The input record that carried the event, however and whenever it was joined: its identity.

    They come in no promised order: feedback that waited for its experience comes late, and what one owner of a
    partition had not published when it died, its successor may publish after records that stand behind it.
    """

    topic: str
    """Name without the prefix."""
    partition: int
    offset: int


class Arrival(NamedTuple):
    """The place of an experience's record: it names the features that were made of it, which never change."""

    partition: int
    offset: int


class ScorerEntry(NamedTuple):
    """One unit of work for the scorer: the items of an experience, with rewards where it was judged.

    The wire format is one line of JSON, a newline, and for `arrived` the features as little-endian float32:
    the query's embedding (384), then for each item its embedding (384) and structured features (45). A feedback
    names the arrival that they came with, and whoever reads it fills them in.
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
    arrival: Arrival
    features: bytes = b""
    """Empty where a feedback's are not filled in."""

    def encode(self) -> bytes:
        """Return the wire format."""
        fields = self._asdict()
        del fields["features"]
        return to_json(fields) + b"\n" + (self.features if self.kind == "arrived" else b"")

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read the wire format.

        Raises:
            ValueError: the record is not of this form.
        """
        head, newline, features = data.partition(b"\n")
        fields = from_json(head)
        count = len(fields["item_ids"])
        expected = features_size(count) if fields["kind"] == "arrived" else 0
        if not newline or len(features) != expected:
            raise ValueError(f"scorer entry of {count} items has {len(features)} bytes of features, not {expected}")
        return cls(
            fields["kind"],
            fields["experience_id"],
            fields["feedback_id"],
            Origin(*fields["origin"]),
            fields["received_at"],
            fields["query_hash"],
            fields["intent_type"],
            tuple(fields["item_ids"]),
            tuple(fields["item_types"]),
            tuple(fields["rewards"]),
            Arrival(*fields["arrival"]),
            features,
        )


def features_size(items: int) -> int:
    """Return the bytes of features that an experience of so many items has."""
    return 4 * (384 + items * FEATURES_PER_ITEM)


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
    content: FreeJson = None
    """A list of widgets, or the reply's text; None or empty where the answer has none."""
    reward: Reward | None = None
    """Blended over sources; None where nobody judged it."""
    evaluation_confidence: Probability | None = None
    """Of the evaluator's latest judgement."""
    judged_by_user: bool
    feedback_ids: tuple[Identifier, ...] = ()
    """The feedback that the reward was blended from, or that an earlier reward was."""

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


class Scored(NamedTuple):
    """What the scorer made of one entry: the body of a score update."""

    entry: ScorerEntry
    reason: ScoreReason
    step: int
    scores: tuple[float, ...]
    previous_scores: tuple[float, ...] | None
