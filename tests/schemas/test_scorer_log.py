"""The scorer's log on the wire: what is kept for ever has to stay readable, and nothing of it may be lost."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas.records import (
    MAX_LOG_RECORD_BYTES,
    Arrival,
    Configure,
    Joined,
    Learning,
    LogRecord,
    Origin,
    ScorerEntry,
    decode_log,
    encode_joined,
    encode_log,
    features_size,
)

WIRE = ["feedback", "e1", "f1", ["feedback", 2, 7], 1700000000.25, "00ff00ff00ff00ff", "status"]
WIRE += [
    ["w0", "voice"],
    ["widget", "voice"],
    [0.5, None],
    [2, 3],
    b"",
]
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
FEATURES = bytes(range(256)) * (features_size(2) // 256) + bytes(features_size(2) % 256)
ARRIVED = replace(ENTRY, kind="arrived", feedback_id=None, rewards=(), features=FEATURES)
ARRIVED_WIRE = ["arrived", "e1", None, *WIRE[3:9], [], [2, 3], FEATURES]

FORMS: list[tuple[LogRecord, dict[str, Any]]] = [
    (Joined((ENTRY, ARRIVED)), {"type": "joined", "entries": [WIRE, ARRIVED_WIRE]}),
    (Joined(()), {"type": "joined", "entries": []}),
    (Learning(paused=True), {"type": "learning", "paused": True}),
    (
        Configure({"rank": 4, "seed": 0}, "scorer-x", 3, 40),
        {"type": "configure", "settings": {"rank": 4, "seed": 0}, "version": "scorer-x", "change": 3, "epoch": 40},
    ),
]


@pytest.mark.parametrize(("record", "form"), FORMS, ids=lambda value: type(value).__name__)
def test_the_wire_format_is_pinned(record: LogRecord, form: dict[str, Any]) -> None:
    wire = msgspec.msgpack.encode(form)
    assert encode_log(record) == wire
    assert decode_log(wire) == record


def test_what_a_record_lacks_has_its_default() -> None:
    assert decode_log(msgspec.msgpack.encode({"type": "configure", "settings": {}})) == Configure({}, None, 0, 0)


def wire_of(entry: list[Any]) -> bytes:
    return msgspec.msgpack.encode({"type": "joined", "entries": [entry]})


def changed(place: int, value: Any) -> bytes:
    return wire_of([*WIRE[:place], value, *WIRE[place + 1 :]])


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        b"\n",
        b"{}",
        b"\xff",
        encode_log(Joined((ENTRY,)))[:-1],
        encode_log(Joined((ENTRY,))) + b"\x00",
        msgspec.msgpack.encode({"type": "other"}),
        msgspec.msgpack.encode({"entries": [WIRE]}),
        msgspec.msgpack.encode({"type": "learning"}),
        msgspec.msgpack.encode({"type": "configure", "settings": None}),
        changed(0, "other"),
        changed(3, ["feedback", 2]),
        changed(7, None),
        changed(8, ["widget", "other"]),
        changed(10, None),
        changed(11, b"features"),
        wire_of([*ARRIVED_WIRE[:11], FEATURES[:-1]]),
        wire_of(ARRIVED_WIRE[:11]),
        wire_of(WIRE[:10]),
        b"\x82\xa4type\xa9configure\xa8settings" + b"\x81\xa1a" * 100_000 + b"\xc0",
    ],
)
def test_what_is_no_record_is_refused_as_such(wire: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_log(wire)


def entries_in(records: list[bytes]) -> list[ScorerEntry]:
    found = [decode_log(record) for record in records]
    assert all(isinstance(record, Joined) and record.entries for record in found)
    return [entry for record in found if isinstance(record, Joined) for entry in record.entries]


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(0, 64), st.booleans()), max_size=60),
    letter=st.sampled_from(["a", "é", "\U0001f600"]),
    length=st.sampled_from([1, 256]),
)
@example(sizes=[(64, False)] * 60, letter="\U0001f600", length=256)
@example(sizes=[(64, False)] * 60, letter="a", length=256)
@example(sizes=[(64, True)] * 60, letter="a", length=1)
def test_what_the_join_decided_is_cut_at_about_a_mebibyte_and_nothing_of_it_is_lost(
    sizes: list[tuple[int, bool]], letter: str, length: int
) -> None:
    entries = [
        replace(
            ARRIVED if arrived else ENTRY,
            experience_id=letter * length,
            intent_type=letter * length,
            item_ids=(letter * length,) * items,
            item_types=("widget",) * items,
            rewards=() if arrived else (0.5,) * items,
            features=bytes(features_size(items)) if arrived else b"",
        )
        for items, arrived in sizes
    ]
    records = encode_joined(entries)
    assert entries_in(records) == entries
    if len(records) == 1:
        assert records == [encode_log(Joined(tuple(entries)))]
    parts = [len(record) for record in records]
    assert max(parts, default=0) < MAX_LOG_RECORD_BYTES + 100
    # Neighbours could not go into one record: a text is taken for four bytes a character.
    assert all(one + other > MAX_LOG_RECORD_BYTES / 4 for one, other in pairwise(parts))


def test_a_batch_of_everyday_size_is_one_record() -> None:
    entries = [replace(ENTRY, feedback_id=f"f{n}") for n in range(500)]
    [record] = encode_joined(entries)
    assert entries_in([record]) == entries
    assert encode_joined([]) == []


def test_an_entry_that_is_too_large_alone_is_a_record_of_its_own() -> None:
    large = replace(ARRIVED, item_ids=("w",) * 700, item_types=("widget",) * 700, features=bytes(features_size(700)))
    assert len(large.features) > MAX_LOG_RECORD_BYTES
    records = encode_joined([ENTRY, large, ENTRY])
    assert [len(entries_in([record])) for record in records] == [1, 1, 1]
    assert entries_in(records) == [ENTRY, large, ENTRY]
