"""Records that travel between our own agents on internal topics; not part of the public contract."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta
from pydantic_core import from_json

from schemas.base import MAX_ID_CHARACTERS, MAX_TEXT_CHARACTERS
from schemas.events import FeedbackSource, ItemType, PairKind, ScoreReason

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


class ScorerEntry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One unit of work for the scorer: the items of an experience, with rewards where it was judged.

    Features are little-endian float32: the query's embedding (384), then for each item its embedding (384) and
    structured features (45). They travel with the arrival; a feedback names the arrival, and whoever reads it fills
    them in.
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


class Joined(msgspec.Struct, frozen=True, tag="joined"):
    """What the join decided for one batch of its input, in order."""

    entries: tuple[ScorerEntry, ...]


class Configure(msgspec.Struct, frozen=True, tag="configure"):
    """From here on the scorer learns with these settings and, where one is named, from this version on."""

    settings: dict[str, Any]
    """All that learning depends on, by name, as `trainers.scorer.fold.learning_settings` returns it."""
    version: str | None = None
    """A version of the registry that is put into use; None goes on with what is there."""
    change: int = 0
    """Which change of the registry's version in use this is, counted from 1: one that comes twice counts once."""
    epoch: int = 0
    """The scorer's epoch is at least this from here on."""


class Learning(msgspec.Struct, frozen=True, tag="learning"):
    """Learning is paused, or goes on with what came meanwhile."""

    paused: bool


LogRecord = Joined | Configure | Learning
"""A record of the topic `scorer-log`: all that ever changes the scorer, in order."""

MAX_LOG_RECORD_BYTES = 1024 * 1024
"""What the join decided is cut where a record could pass so much; an entry may be larger alone."""

_ENTRY_BYTES, _ITEM_BYTES = 150, 20
"""What an entry takes beside its features and texts, and each of its items: reward, type and what marks them."""


def encode_log(record: LogRecord) -> bytes:
    """Return a record of `scorer-log` as MessagePack."""
    return _encode_log(record)


def decode_log(data: bytes) -> LogRecord:
    """Read a record of `scorer-log`.

    Raises:
        ValueError: the record is not of this form.
    """
    try:
        record: LogRecord = _decode_log(data)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if isinstance(record, Joined):
        for entry in record.entries:
            expected = features_size(len(entry.item_ids)) if entry.kind == "arrived" else 0
            if len(entry.features) != expected:
                raise ValueError(
                    f"an entry of {len(entry.item_ids)} items has {len(entry.features)} bytes of features, "
                    f"not {expected}"
                )
    return record


def encode_joined(entries: Iterable[ScorerEntry]) -> list[bytes]:
    """Return the records that say what the join decided: one, or several where it would be too large."""
    records: list[bytes] = []
    part: list[ScorerEntry] = []
    size = 0
    for entry in entries:
        more = _most_bytes(entry)
        size += more
        if part and size > MAX_LOG_RECORD_BYTES:
            records.append(encode_log(Joined(tuple(part))))
            part, size = [], more
        part.append(entry)
    return [*records, encode_log(Joined(tuple(part)))] if part else records


def _most_bytes(entry: ScorerEntry) -> int:
    """Return how many bytes an entry takes at most, and not many more than it does: UTF-8 has up to 4 a character."""
    ids = (
        len(entry.experience_id) + len(entry.feedback_id or "") + len(entry.intent_type) + sum(map(len, entry.item_ids))
    )
    return len(entry.features) + _ENTRY_BYTES + _ITEM_BYTES * len(entry.item_ids) + 4 * ids


_encode_log = msgspec.msgpack.Encoder().encode
_decode_log = msgspec.msgpack.Decoder(LogRecord).decode


def features_size(items: int) -> int:
    """Return the bytes of features that an experience of so many items has."""
    return 4 * (384 + items * FEATURES_PER_ITEM)


TICK = b"{}"
"""A record that says nothing but that its broker time has come; on `join-ticks`, and between answers on `answers`."""

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
    """The feedback that reward and confidence follow from: the latest of each source that counts."""
    said: dict[FeedbackSource, Annotated[float, Meta(ge=-1.0, le=1.0)]] = {}
    """What each of these sources said of it by itself."""
    model_version: _Identifier | None = None
    """The version that gave the answer, where the experience names one."""

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

        A tick has none.

        Raises:
            msgspec.DecodeError: a line is no answer; a `ValueError`.
        """
        return [] if record == TICK else [(cls.from_json(line), line) for line in record.split(b"\n")]

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
