"""An answer on its way from the join to the pairing: what it is read back as, and what is refused."""

import json

import msgspec
import pytest

from schemas.records import Answer

FIELDS = {
    "kind": "widget",
    "experience_id": "a",
    "query": "show pump 1",
    "intent_type": "status",
    "domains": ["hvac", "water"],
    "device_types": ["pump"],
    "content": [{"widget_id": "w", "text": "°C", "params": {"limit": 2**70, "unset": None}}],
    "reward": -0.25,
    "evaluation_confidence": 0.5,
    "judged_by_user": True,
}


def answer(**changes):
    return Answer(**(FIELDS | {"domains": ("hvac", "water"), "device_types": ("pump",)} | changes))


@pytest.mark.parametrize("changes", [{}, {"reward": None, "evaluation_confidence": None}, {"content": None}])
def test_an_answer_is_read_back_as_it_was_sent(changes):
    assert Answer.from_json(answer(**changes).to_json()) == answer(**changes)
    assert Answer.from_json(json.dumps(FIELDS).encode()) == answer()


def test_absent_fields_are_not_sent():
    assert b"reward" not in answer(reward=None).to_json()


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "chart"},
        {"experience_id": ""},
        {"experience_id": "a\x00b"},
        {"experience_id": "x" * 257},
        {"query": 5},
        {"intent_type": None},
        {"domains": "hvac"},
        {"domains": [1]},
        {"reward": 2},
        {"reward": True},
        {"reward": "0.5"},
        {"reward": float("nan")},
        {"evaluation_confidence": -0.1},
        {"judged_by_user": None},
    ],
)
def test_a_foreign_record_is_refused(changes):
    with pytest.raises(msgspec.DecodeError):
        Answer.from_json(json.dumps(FIELDS | changes).encode())


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"{}", b"\xff\xfe", b'{"kind":"widget"}'])
def test_bytes_that_are_no_answer_are_refused(data):
    with pytest.raises(msgspec.DecodeError):
        Answer.from_json(data)


def test_a_record_is_an_answer_a_line():
    plan, reply = answer(), answer(kind="voice", content="It runs.\nAll is well.")
    lines = [plan.to_json(), reply.to_json()]
    assert Answer.each_from(b"\n".join(lines)) == list(zip((plan, reply), lines, strict=True))
    with pytest.raises(msgspec.DecodeError):
        Answer.each_from(lines[0] + b"\n")


@pytest.mark.parametrize("depth", [300, 900, 100_000])
def test_content_that_nests_too_deeply_to_be_paired_is_refused(depth):
    nested = b"[" * depth + b"]" * depth
    with pytest.raises(msgspec.DecodeError):
        Answer.from_json(json.dumps(FIELDS | {"content": "deep"}).encode().replace(b'"deep"', nested))
