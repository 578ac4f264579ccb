"""What the join remembers of an experience: the experience itself, written once, and its judgements, small."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import msgspec
import orjson

from schemas.events import Experience, Feedback, FeedbackSource, ItemType
from trainers.prepare import ItemFeatures
from trainers.reward import AnswerJudgement, Judgement


class JoinedExperience(NamedTuple):
    """An experience as later feedback needs it; its features went to the scorer, once, on arrival.

    What answers repeat of it is kept as the JSON that they are made of, so that it is neither read nor written anew.
    """

    offset: int
    """Of its record: with the partition it names the features."""
    query_hash: str
    intent_type: str
    item_ids: tuple[str, ...]
    item_types: tuple[ItemType, ...]
    about: bytes
    """What `Answer` says of the experience, as members of a JSON object."""
    widgets: bytes
    """The widget plan as JSON."""
    voice_reply: bytes
    """The reply as JSON, `null` where there is none."""

    @classmethod
    def of(cls, experience: Experience, query_hash: str, items: ItemFeatures, offset: int) -> Self:
        """Keep what is needed of an experience and its items."""
        about: dict[str, Any] = {
            "experience_id": experience.experience_id,
            "query": experience.query,
            "intent_type": experience.intent.type,
            "domains": experience.intent.domains,
            "device_types": list(dict.fromkeys(device.type for device in experience.intent.devices)),
        }
        if experience.model_version is not None:
            about["model_version"] = experience.model_version
        return cls(
            offset=offset,
            query_hash=query_hash,
            intent_type=experience.intent.type,
            item_ids=items.item_ids,
            item_types=items.item_types,
            about=_json(about)[1:-1],
            widgets=_json([widget.model_dump(mode="json", exclude_none=True) for widget in experience.widget_plan]),
            voice_reply=_json(experience.voice_reply),
        )

    def encode(self) -> bytes:
        """Return four lines of JSON; JSON as it is made here has no line break."""
        offset, query_hash, intent_type, item_ids, item_types, *texts = self
        head = orjson.dumps([offset, query_hash, intent_type, item_ids, item_types])
        return b"\n".join((head, *texts))

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read what `encode` wrote."""
        head, *texts = data.split(b"\n")
        offset, query_hash, intent_type, item_ids, item_types = orjson.loads(head)
        return cls(offset, query_hash, intent_type, tuple(item_ids), tuple(item_types), *texts)


def encode_answer(
    joined: JoinedExperience,
    kind: str,
    judgement: AnswerJudgement,
    feedback_ids: Sequence[str] = (),
) -> bytes:
    """Return the JSON of an `Answer`."""
    content = joined.widgets if kind == "widget" else joined.voice_reply
    reward, confidence, by_user, said = judgement
    fields = {"reward": reward, "evaluation_confidence": confidence, "judged_by_user": by_user, "said": said}
    judged = orjson.dumps({**fields, "feedback_ids": feedback_ids})
    return b"".join((b'{"kind":"', kind.encode(), b'",', joined.about, b',"content":', content, b",", judged[1:]))


def _json(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:  # an integer beyond 64 bits
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


class EarlyFeedback(msgspec.Struct, array_like=True):
    """Feedback that waits for its experience, with its origin in case it never comes."""

    partition: int
    offset: int
    received_at: float
    feedback: Feedback
    attempt: int = 1
    """Which try of the feedback this is."""

    def encode(self) -> bytes:
        """Return a JSON array."""
        return _ENCODER.encode(self)

    @classmethod
    def decode(cls, data: bytes) -> EarlyFeedback:
        """Read what `encode` wrote."""
        return _EARLY.decode(data)


class Judgements(msgspec.Struct, omit_defaults=True):
    """The judgements of one experience so far. It is written anew with each, so what grows with them has a ledger."""

    since: float
    """Broker time at which the experience, or its first feedback, arrived."""
    latest: dict[FeedbackSource, Judgement] = msgspec.field(default_factory=dict)
    """The judgement that counts, by source."""
    outcomes: dict[str, str] = msgspec.field(default_factory=dict)
    """What became of the feedbacks that are not in the ledger, by id: joined, early, superseded or unusable."""
    early: list[EarlyFeedback] = msgspec.field(default_factory=list)
    """Those of them that wait for the experience."""
    answers: dict[str, list[Any]] = msgspec.field(default_factory=dict)
    """By kind, the reward and confidence that were last handed on."""
    ledger: int | None = None
    """Offset that names the ledger; None where there is none."""
    waiting: int = 0
    """How many feedbacks of the ledger wait for the experience."""
    waiting_from: int = 0
    """Offset of the first of them."""

    def encode(self) -> bytes:
        """Return JSON."""
        return _ENCODER.encode(self)

    @classmethod
    def decode(cls, data: bytes) -> Judgements:
        """Read what `encode` wrote, or an earlier version that had no ledgers, with however many feedbacks."""
        state = _DECODER.decode(data)
        for judged in state.latest.values():
            if judged.feedback_id is not None:
                return state
        state._name_latest()
        return state

    def _name_latest(self) -> None:
        """Say which feedback each judgement is of, as far as an earlier version's state tells."""
        if not self.latest:
            return
        accepted = [name for name, outcome in self.outcomes.items() if outcome in ("joined", "unusable")]
        sources = len(self.latest)
        if sources in (1, len(accepted)):
            for source, name in zip(list(self.latest), accepted[-sources:], strict=False):
                self.latest[source] = self.latest[source]._replace(feedback_id=name)


def _plain(value: Any) -> Any:
    """Return what a waiting feedback is kept as."""
    return value.model_dump(mode="json", exclude_none=True)


def _feedback(_: type, value: Any) -> Feedback:
    return Feedback.model_validate(value)


_ENCODER = msgspec.json.Encoder(enc_hook=_plain)
_DECODER = msgspec.json.Decoder(Judgements, dec_hook=_feedback)
_EARLY = msgspec.json.Decoder(EarlyFeedback, dec_hook=_feedback)
