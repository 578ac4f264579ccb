"""Score updates as they are published."""

from __future__ import annotations

import msgspec

from schemas.records import Scored


class _Item(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    item_id: str
    item_type: str
    score: float
    previous_score: float | None = None


class _Update(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    schema_version: int
    experience_id: str
    reason: str
    items: list[_Item]
    scorer_version: str
    scorer_epoch: int
    scorer_step: int
    latency_ms: float
    feedback_id: str | None = None


_encode = msgspec.json.Encoder().encode


def encode_update(result: Scored, epoch: int, version: str, now: float) -> bytes:
    """Return the JSON of the `ScoreUpdate` of one scored entry; `now` is in epoch seconds.

    Written as it is, since nothing of it comes from outside but what was validated there: making the event first costs
    many times as much.
    """
    entry, reason, step, scores, previous = result
    befores = [None] * len(scores) if previous is None else previous
    items = [_Item(*item) for item in zip(entry.item_ids, entry.item_types, scores, befores, strict=True)]
    latency_ms = max(0.0, (now - entry.received_at) * 1000)
    return _encode(_Update(1, entry.experience_id, reason, items, version, epoch, step, latency_ms, entry.feedback_id))
