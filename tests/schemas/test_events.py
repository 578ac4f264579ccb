"""What an event may be, at its edges: two forms of embeddings, rewards, timestamps, ids, and unknown fields."""

from __future__ import annotations

import base64
import json
import math
import struct
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas import events, records
from schemas.base import Event
from schemas.events import DeadLetter, Experience, Feedback, Trace, Widget
from schemas.vectors import EMBEDDING_SIZE

EVENTS = sorted(
    {
        found
        for module in (events, records)
        for found in vars(module).values()
        if isinstance(found, type) and issubclass(found, Event) and found is not Event
    },
    key=lambda model: model.__name__,
)

EXPERIENCE: dict[str, Any] = {"experience_id": "e", "timestamp": 1, "query": "q", "intent": {"type": "status"}}
FEEDBACK: dict[str, Any] = {"feedback_id": "f", "experience_id": "e", "timestamp": 1, "source": "user", "reward": 0.5}
TRACE: dict[str, Any] = {
    "trace_id": "t",
    "timestamp": 1,
    "kind": "user_query",
    "prompt": "why",
    "response": "so",
    "model": "m",
}


def experience(**changes: Any) -> Experience:
    return Experience.from_json(json.dumps({**EXPERIENCE, **changes}))


def feedback(**changes: Any) -> Feedback:
    return Feedback.from_json(json.dumps({**FEEDBACK, **changes}))


def refusal(of: type[Event], fields: dict[str, Any]) -> list[str]:
    """Return the places of what is wrong."""
    with pytest.raises(ValidationError) as caught:
        of.from_json(json.dumps(fields))
    return [".".join(map(str, error["loc"])) for error in caught.value.errors()]


# Embeddings

float32 = st.floats(-50.0, 50.0, width=32)
BITS = st.binary(min_size=4 * EMBEDDING_SIZE, max_size=4 * EMBEDDING_SIZE)


def base64_of(numbers: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


@given(start=st.lists(float32, max_size=EMBEDDING_SIZE))
def test_a_list_and_base64_are_the_same_embedding(start: list[float]) -> None:
    numbers = start + [0.25] * (EMBEDDING_SIZE - len(start))
    as_list = experience(query_embedding=numbers, item_embeddings={"w": numbers})
    as_text = experience(query_embedding=base64_of(numbers), item_embeddings={"w": base64_of(numbers)})
    assert as_list == as_text
    assert as_list.query_embedding == struct.pack(f"<{EMBEDDING_SIZE}f", *numbers)
    sent = json.loads(as_list.to_json())
    assert sent["query_embedding"] == sent["item_embeddings"]["w"] == base64_of(numbers)
    assert Experience.from_json(as_list.to_json()) == as_list


@given(data=BITS)
def test_bytes_are_an_embedding_exactly_where_their_length_is_within_the_bound(data: bytes) -> None:
    fields = {**EXPERIENCE, "query_embedding": base64.b64encode(data).decode()}
    if math.hypot(*struct.unpack(f"<{EMBEDDING_SIZE}f", data)) <= 1000:
        assert Experience.from_json(json.dumps(fields)).query_embedding == data
    else:
        assert refusal(Experience, fields) == ["query_embedding"]


@pytest.mark.parametrize(
    "value",
    [
        [0.5] * 383,
        [0.5] * 385,
        [],
        "",
        "AAAA",
        "no base64!",
        base64_of([0.5] * 383),
        base64_of([0.5] * 384)[:-1],
        [0.5] * 383 + [None],
        [0.5] * 383 + ["0.5"],
        [0.5] * 383 + [[0.5]],
        [0.5] * 383 + [1e39],
        [True] * 384,
        [0.5] * 383 + [False],
        [0.0] * 383 + [1000.1],
        [0.0] * 383 + [-1000.1],
        [51.04] * 384,
        [0.5] * 383 + [float("nan")],
        [0.5] * 383 + [float("inf")],
        {"0": 0.5},
        7,
        True,
    ],
)
def test_what_is_no_embedding_is_refused_by_its_place(value: Any) -> None:
    assert refusal(Experience, {**EXPERIENCE, "query_embedding": value}) == ["query_embedding"]
    assert refusal(Experience, {**EXPERIENCE, "item_embeddings": {"w": value}}) == ["item_embeddings.w"]


@pytest.mark.parametrize("numbers", [[0.0] * 383 + [1000.0], [51.03] * 384, [0.0] * 384])
def test_a_vector_within_the_bound_is_an_embedding(numbers: list[float]) -> None:
    assert experience(query_embedding=numbers).query_embedding == struct.pack(f"<{EMBEDDING_SIZE}f", *numbers)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (struct.pack("<384f", *range(-128, 128), *range(128)), "embedding has length "),
        (struct.pack(">384f", *[0.05] * 384), "embedding has length "),
        (bytes([0, 0, 200, 127]) * 384, "embedding holds NaN or infinity"),
    ],
)
def test_int8_values_and_another_byte_order_are_refused_with_the_bound(data: bytes, reason: str) -> None:
    with pytest.raises(ValidationError) as caught:
        experience(query_embedding=base64.b64encode(data).decode())
    assert caught.value.errors()[0]["msg"].startswith(f"Value error, {reason}")


# Rewards


@pytest.mark.parametrize("value", [True, False, "0.5", "1", 1.0000001, -2, float("nan"), float("inf"), [], {}])
@pytest.mark.parametrize("name", ["reward", "voice_reward", "evaluation_confidence"])
def test_a_reward_is_a_number_within_bounds_and_nothing_else(name: str, value: Any) -> None:
    assert refusal(Feedback, {**FEEDBACK, name: value}) == [name]


@pytest.mark.parametrize("value", [True, "1", 2, float("nan"), None])
def test_a_widgets_reward_is_such_a_number_too(value: Any) -> None:
    judged = [{"widget_id": "w", "reward": value}]
    assert refusal(Feedback, {**FEEDBACK, "per_widget_feedback": judged}) == ["per_widget_feedback.0.reward"]


@given(value=st.floats(-1, 1) | st.sampled_from([-1, 0, 1]))
def test_every_reward_within_bounds_comes_back(value: float) -> None:
    event = feedback(reward=value)
    assert event.reward == value
    assert Feedback.from_json(event.to_json()) == event


def test_no_reward_is_refused_and_zero_is_one() -> None:
    assert refusal(Feedback, {**FEEDBACK, "reward": None}) == [""]
    assert refusal(Feedback, {**FEEDBACK, "reward": None, "per_widget_feedback": []}) == [""]
    assert feedback(reward=0).reward == 0
    assert feedback(reward=None, voice_reward=0).voice_reward == 0


# Timestamps

NOON = datetime(2026, 2, 8, 12, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    "value",
    [
        "2026-02-08T12:30:00Z",
        "2026-02-08T13:30:00+01:00",
        "2026-02-08T12:30:00",
        "2026-02-08 12:30:00.000000Z",
        NOON.timestamp(),
        int(NOON.timestamp()),
    ],
)
def test_a_timestamp_is_rfc_3339_or_epoch_seconds_and_utc_without_a_zone(value: Any) -> None:
    assert feedback(timestamp=value).timestamp == NOON
    assert feedback(timestamp=value).timestamp.tzinfo is not None
    assert Feedback.from_json(feedback(timestamp=value).to_json()).timestamp == NOON


def test_parts_of_a_second_are_kept() -> None:
    assert feedback(timestamp=1.25).timestamp == datetime.fromtimestamp(1.25, UTC)


@pytest.mark.parametrize("value", ["yesterday", "", None, [], "2026-13-01T00:00:00Z", float("nan"), 1e30])
def test_what_is_no_timestamp_is_refused(value: Any) -> None:
    assert refusal(Feedback, {**FEEDBACK, "timestamp": value}) == ["timestamp"]


# Ids and texts


@pytest.mark.parametrize("value", ["", "a\x00b", "\x00", "x" * 257, 7, None, ["e"]])
@pytest.mark.parametrize("name", ["feedback_id", "experience_id"])
def test_an_id_is_a_text_of_1_to_256_characters_without_nul(name: str, value: Any) -> None:
    assert refusal(Feedback, {**FEEDBACK, name: value}) == [name]


@pytest.mark.parametrize("name", ["x" * 256, " ", "é\U0001f600", "line\nbreak", "/../", '"', "\u2028"])
def test_any_other_id_comes_back_as_it_was(name: str) -> None:
    event = feedback(experience_id=name)
    assert (event.experience_id, Feedback.from_json(event.to_json())) == (name, event)


@pytest.mark.parametrize(
    "hidden", [{"type": "a\x00"}, {"type": "t", "domains": ["\x00"]}, {"type": "t", "devices": ["\x00"]}]
)
def test_nul_is_refused_within_an_intent_too(hidden: dict[str, Any]) -> None:
    assert len(refusal(Experience, {**EXPERIENCE, "intent": hidden})) == 1


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(ValidationError):
        Experience.from_json(json.dumps({**EXPERIENCE, "query": "?"}).replace("?", "\\ud800"))


def test_texts_have_bounds() -> None:
    assert experience(query="x" * 65_536).query
    assert refusal(Experience, {**EXPERIENCE, "query": "x" * 65_537}) == ["query"]
    assert Trace.from_json(json.dumps({**TRACE, "thinking": "x" * 524_288}))
    assert refusal(Trace, {**TRACE, "thinking": "x" * 524_289}) == ["thinking"]


# Plans


def widget(name: str) -> dict[str, str]:
    return {"widget_id": name, "widget_type": "gauge"}


def test_widgets_are_told_apart_by_their_ids_and_none_is_the_voice() -> None:
    assert refusal(Experience, {**EXPERIENCE, "widget_plan": [widget("a"), widget("a")]}) == ["widget_plan"]
    assert refusal(Experience, {**EXPERIENCE, "widget_plan": [widget("voice")]}) == ["widget_plan"]
    assert experience(widget_plan=[]).widget_plan == ()
    assert len(experience(widget_plan=[widget(f"w{n}") for n in range(64)]).widget_plan) == 64
    assert refusal(Experience, {**EXPERIENCE, "widget_plan": [widget(f"w{n}") for n in range(65)]}) == ["widget_plan"]


def test_a_bare_string_is_a_devices_type() -> None:
    found = experience(intent={"type": "t", "devices": ["pump", {"type": "fan", "id": "f1"}]}).intent.devices
    assert [(device.type, device.id) for device in found] == [("pump", None), ("fan", "f1")]


# Every event


@pytest.mark.parametrize("model", EVENTS, ids=lambda model: model.__name__)
def test_no_field_without_a_value_is_needed_to_read_an_event_back(model: type[Event]) -> None:
    """Absent fields are not written, so a field that may be None must have None as its default."""
    needed = {name: field.annotation for name, field in model.model_fields.items() if field.is_required()}
    assert not [name for name, annotation in needed.items() if type(None) in getattr(annotation, "__args__", ())]


@pytest.mark.parametrize("model", EVENTS, ids=lambda model: model.__name__)
def test_an_unknown_schema_version_is_refused(model: type[Event]) -> None:
    assert "schema_version" in refusal(model, {"schema_version": 2})


def test_unknown_fields_are_passed_over_and_events_do_not_change() -> None:
    event = feedback(new_field={"deep": [1]}, per_widget_feedback=[{"widget_id": "w", "reward": 1, "why": "?"}])
    assert event == feedback(per_widget_feedback=[{"widget_id": "w", "reward": 1}])
    with pytest.raises(ValidationError, match="frozen"):
        event.reward = 1.0  # type: ignore[misc]


def test_a_dead_letter_without_key_and_value_comes_back() -> None:
    fields = {"topic": "t", "partition": 0, "offset": 1, "value_sha256": "0", "value_bytes": 0, "timestamp": 1}
    letter = DeadLetter.model_validate({**fields, "error_type": "invalid_json", "error": "nothing there"})
    assert (letter.key, letter.value, DeadLetter.from_json(letter.to_json())) == (None, None, letter)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_number_is_null_in_free_forms_too(number: str) -> None:
    widget = (
        f'{{"widget_id": "w", "widget_type": "k", "position": [{number}, 1], "params": {{"a": {{"b": {number}}}}}}}'
    )
    read = Widget.model_validate_json(widget)
    assert (read.position, read.params) == ([None, 1], {"a": {"b": None}})
    assert Widget.model_validate_json(read.model_dump_json()) == read


@pytest.mark.parametrize("version", [True, False, 2, "1", None])
def test_a_schema_version_is_the_number_that_is_known(version: Any) -> None:
    assert refusal(Experience, {**EXPERIENCE, "schema_version": version}) == ["schema_version"]


@pytest.mark.parametrize("turns", [5, "text", {"role": "user"}, [1], [], [{"role": "robot", "content": "x"}], [{}]])
def test_turns_that_are_none_are_refused_and_never_crash_the_reader(turns: Any) -> None:
    without_prompt = {name: value for name, value in TRACE.items() if name != "prompt"}
    assert refusal(Trace, {**without_prompt, "messages": turns})
