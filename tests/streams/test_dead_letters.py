"""Records that cannot be used: what is kept of them, and how the reason is told."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.base import Event
from schemas.events import DeadLetter, Experience, Feedback
from streams.kafka.dead_letters import MAX_VALUE_BYTES, dead_letter, explain, to_outgoing


def letter(key: bytes | None = b"k", value: bytes | None = b"v", error: str = "e") -> DeadLetter:
    return dead_letter("feedback", 3, 17, key, value, "invalid_event", error)


@given(key=st.none() | st.binary(max_size=40), value=st.none() | st.binary(max_size=400))
@example(key=b"\xff\x00", value=b"x" * (MAX_VALUE_BYTES + 1))
@example(key=None, value=b"")
def test_origin_and_bytes_come_back_from_the_wire(key: bytes | None, value: bytes | None) -> None:
    found = DeadLetter.from_json(letter(key, value).to_json())
    assert (found.topic, found.partition, found.offset, found.attempt) == ("feedback", 3, 17, 1)
    assert (None if found.key is None else base64.b64decode(found.key)) == key
    assert (None if found.value is None else base64.b64decode(found.value)) == (value and value[:MAX_VALUE_BYTES])
    assert found.value_sha256 == hashlib.sha256(value or b"").hexdigest()
    assert found.value_bytes == len(value or b"")


def test_hash_and_size_of_a_value_that_is_cut_are_of_the_whole() -> None:
    whole = bytes(range(256)) * 2048
    cut = letter(value=whole)
    assert len(base64.b64decode(cut.value or "")) == 256 * 1024
    assert (cut.value_bytes, cut.value_sha256) == (512 * 1024, hashlib.sha256(whole).hexdigest())
    assert len(cut.to_json()) < 360 * 1024


def test_a_long_reason_is_cut() -> None:
    assert len(letter(error="x" * 10_000).error) == 500


@pytest.mark.parametrize("key", [b"e1", b"\xff\xfe", b"", None])
def test_a_letter_has_the_key_of_its_source(key: bytes | None) -> None:
    sent = to_outgoing("p-dead-letters", letter(key))
    assert (sent.topic, sent.partition, sent.key) == ("p-dead-letters", 0, key)
    assert DeadLetter.from_json(sent.value or b"").offset == 17


GOOD: dict[str, Any] = {"feedback_id": "f", "experience_id": "e", "timestamp": 1, "source": "user", "reward": 1.0}


def reason(model: type[Event], value: bytes) -> tuple[str, str]:
    with pytest.raises(ValidationError) as caught:
        model.from_json(value)
    return explain(caught.value)


def feedback(**changes: Any) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


@pytest.mark.parametrize(
    ("value", "kind", "words"),
    [
        (b"", "invalid_json", "EOF while parsing"),
        (b"\xff\xfe", "invalid_json", "expected value"),
        (b'{"feedback_id": "f"', "invalid_json", "EOF while parsing"),
        (b"[]", "invalid_event", "object"),
        (feedback(schema_version=2), "unknown_schema_version", "schema_version: Input should be 1"),
        (feedback(reward=2), "invalid_event", "reward: Input should be less than or equal to 1"),
        (feedback(reward=None), "invalid_event", "no reward: one of reward"),
        (feedback(reward=float("nan")), "invalid_event", "reward: Input should be a finite number"),
        (feedback(source="gossip"), "invalid_event", "source: Input should be 'user', 'evaluator' or 'implicit'"),
        (
            feedback(source=1, reward="no"),
            "invalid_event",
            "source: Input should be 'user', 'evaluator' or 'implicit' (an",
        ),
        (
            feedback(per_widget_feedback=[{"widget_id": "w", "reward": 9}]),
            "invalid_event",
            "per_widget_feedback.0.reward: Input should be less than or equal to 1",
        ),
    ],
)
def test_the_reason_is_a_word_and_a_line_that_names_the_field(value: bytes, kind: str, words: str) -> None:
    found, line = reason(Feedback, value)
    assert (found, "\n" in line) == (kind, False)
    assert words in line


def test_further_mistakes_are_counted() -> None:
    assert reason(Feedback, b"{}")[1] == "feedback_id: Field required (and 3 more)"


def test_the_reason_does_not_repeat_what_was_sent() -> None:
    fields = {"experience_id": "e", "timestamp": "PRIVATE", "query": ["PRIVATE"], "intent": {"type": "PRIVATE" * 99}}
    assert "PRIVATE" not in str(reason(Experience, json.dumps(fields).encode()))
