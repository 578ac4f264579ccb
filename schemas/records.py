"""Records that travel between our own agents on internal topics; not part of the public contract."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta
from msgspec.structs import replace
from pydantic_core import from_json

from schemas.base import MAX_ID_CHARACTERS, MAX_TEXT_CHARACTERS, Event
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


class ScorerEntry(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
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
        features = self.features if self.kind == "arrived" else b""
        return _encode_json(replace(self, features=b"")) + b"\n" + features

    @classmethod
    def decode(cls, data: bytes) -> ScorerEntry:
        """Read the wire format.

        Raises:
            ValueError: the record is not of this form.
        """
        head, newline, features = data.partition(b"\n")
        try:
            entry = _decode_entry(head)
        except RecursionError as error:
            raise ValueError("nested too deeply") from error
        count = len(entry.item_ids)
        expected = features_size(count) if entry.kind == "arrived" else 0
        if not newline or len(features) != expected:
            raise ValueError(f"scorer entry of {count} items has {len(features)} bytes of features, not {expected}")
        return replace(entry, features=features)


_encode_json = msgspec.json.Encoder().encode
_decode_entry = msgspec.json.Decoder(ScorerEntry).decode


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


_Identifier = Annotated[str, Meta(min_length=1, max_length=MAX_ID_CHARACTERS)]


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A widget plan or a reply with its blended reward, as the pairing agent needs it.

    It is made from events that were validated, and is validated itself when it is read back.
    """

    kind: PairKind
    experience_id: _Identifier
    query: Annotated[str, Meta(max_length=MAX_TEXT_CHARACTERS)]
    intent_type: _Identifier
    domains: tuple[_Identifier, ...]
    device_types: tuple[_Identifier, ...]
    content: Any = None
    """A list of widgets, or the reply's text; None or empty where the answer has none."""
    reward: Annotated[float, Meta(ge=-1.0, le=1.0)] | None = None
    """Blended over sources; None where nobody judged it."""
    evaluation_confidence: Annotated[float, Meta(ge=0.0, le=1.0)] | None = None
    """Of the latest judgements of this kind, the evaluator's before the user's; None where none brought one."""
    judged_by_user: bool
    """Whether a user judged this kind."""
    feedback_ids: tuple[_Identifier, ...] = ()
    """The feedback that the reward was blended from, or that an earlier reward was."""

    @classmethod
    def from_json(cls, data: bytes) -> Answer:
        """Decode and validate an answer.

        Raises:
            msgspec.DecodeError: the bytes are not JSON of this form; a `ValueError`.
        """
        try:
            answer = _ANSWER.decode(data)
            if data.count(b"[") + data.count(b"{") > _MAX_NESTING:
                from_json(data)  # pydantic, which a pair goes through, refuses deep nesting
        except RecursionError as error:
            raise msgspec.ValidationError("nested too deeply") from error
        except msgspec.DecodeError:
            raise
        except ValueError as error:
            raise msgspec.ValidationError(str(error)) from error
        if "\x00" in answer.experience_id:
            raise msgspec.ValidationError("must not contain NUL - at `$.experience_id`")
        return answer

    @classmethod
    def each_from(cls, record: bytes) -> list[tuple[Answer, bytes]]:
        """Return the answers of one record and their JSON, a line each: a feedback mostly judges plan and reply.

        Raises:
            msgspec.DecodeError: a line is no answer; a `ValueError`.
        """
        return [(cls.from_json(line), line) for line in record.split(b"\n")]

    def to_json(self) -> bytes:
        """Encode as one line of UTF-8 JSON without absent fields."""
        return msgspec.json.encode(self)


_ANSWER = msgspec.json.Decoder(Answer)
_MAX_NESTING = 100
"""Brackets of an answer from which on it is looked at whether they nest too deeply."""


class Scored(NamedTuple):
    """What the scorer made of one entry: the body of a score update."""

    entry: ScorerEntry
    reason: ScoreReason
    step: int
    scores: tuple[float, ...]
    previous_scores: tuple[float, ...] | None
