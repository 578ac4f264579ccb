"""Scorer entries on the wire: what is kept for ever has to stay readable."""

from __future__ import annotations

import orjson
import pytest

from schemas.records import Arrival, Origin, ScorerEntry, features_size

HEAD = {
    "kind": "feedback",
    "experience_id": "e1",
    "feedback_id": "f1",
    "origin": ["feedback", 2, 7],
    "received_at": 1700000000.25,
    "query_hash": "00ff00ff00ff00ff",
    "intent_type": "status",
    "item_ids": ["w0", "voice"],
    "item_types": ["widget", "voice"],
    "rewards": [0.5, None],
    "arrival": [2, 3],
}
ENTRY = ScorerEntry(
    kind="feedback",
    experience_id="e1",
    feedback_id="f1",
    origin=Origin("feedback", 2, 7),
    received_at=1700000000.25,
    query_hash="00ff00ff00ff00ff",
    intent_type="status",
    item_ids=("w0", "voice"),
    item_types=("widget", "voice"),
    rewards=(0.5, None),
    arrival=Arrival(2, 3),
)


def test_the_wire_format_is_pinned() -> None:
    line = orjson.dumps(HEAD) + b"\n"
    assert ScorerEntry.decode(line) == ENTRY
    assert ENTRY.encode() == line


def test_an_arrival_carries_its_features_after_the_line() -> None:
    features = bytes(range(256)) * (features_size(2) // 256) + bytes(features_size(2) % 256)
    head = HEAD | {"kind": "arrived", "feedback_id": None, "rewards": []}
    wire = orjson.dumps(head) + b"\n" + features
    entry = ScorerEntry.decode(wire)
    assert (entry.features, entry.rewards, entry.feedback_id) == (features, (), None)
    assert entry.encode() == wire


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        b"\n",
        b"[]\n",
        b"\xff\n",
        orjson.dumps(HEAD),
        orjson.dumps(HEAD) + b"\nfeatures",
        orjson.dumps(HEAD | {"kind": "arrived"}) + b"\n",
        orjson.dumps(HEAD | {"kind": "other"}) + b"\n",
        orjson.dumps(HEAD | {"origin": ["feedback", 2]}) + b"\n",
        orjson.dumps(HEAD | {"item_ids": None}) + b"\n",
        orjson.dumps({name: value for name, value in HEAD.items() if name != "arrival"}) + b"\n",
        b'{"more":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n",
    ],
)
def test_what_is_no_entry_is_refused_as_such(wire: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        ScorerEntry.decode(wire)
