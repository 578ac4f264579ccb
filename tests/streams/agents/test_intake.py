"""Decoding a batch: every record is an event, is sent on, or is set aside; none is lost."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from schemas.events import Feedback
from streams.agents.decoding import FORWARDED, DecodedBatch, decode_batch
from streams.kafka.publisher import partition_for
from streams.kafka.unpacking import Unreadable
from streams.transport.batch import Record, RecordBatch
from tests.streams.offline import record

PARTITIONS = 4


def feedback(of: str) -> bytes:
    fields = {"feedback_id": "f", "experience_id": of, "timestamp": 1, "source": "user", "reward": 1.0}
    return Feedback.model_validate(fields).to_json()


def named(partition: int) -> str:
    """Return an experience whose key belongs to a partition."""
    names = (f"e{n}" for n in range(1000))
    return next(name for name in names if partition_for(name.encode(), PARTITIONS) == partition)


def taken_in(partition: int, *records: Record) -> DecodedBatch[Feedback]:
    batch = RecordBatch("p-feedback", partition, records)
    return decode_batch(batch, Feedback, lambda event: event.experience_id, PARTITIONS)


def test_a_record_on_its_keys_partition_is_an_event() -> None:
    home = record(feedback(named(2)), 5)
    intake = taken_in(2, home)
    assert [(found, event.experience_id) for found, event in intake.events] == [(home, named(2))]
    assert (intake.forwards, intake.letters) == ([], [])


def test_a_record_elsewhere_is_sent_on_as_it_is_with_a_mark() -> None:
    value = feedback(named(3)).replace(b"{", b'{"unknown":1,', 1)
    intake = taken_in(2, record(value, 5, key=b"of the producer"))
    [sent] = intake.forwards
    assert (sent.topic, sent.partition, sent.key, sent.value) == ("p-feedback", 3, named(3).encode(), value)
    assert tuple(sent.headers) == (FORWARDED,)
    assert (intake.events, intake.letters) == ([], [])


def test_a_record_that_was_sent_on_is_an_event_where_it_belongs() -> None:
    intake = taken_in(3, record(feedback(named(3)), 5, headers=(FORWARDED,)))
    assert len(intake.events) == 1


def test_a_record_is_never_sent_on_twice() -> None:
    intake = taken_in(2, record(feedback(named(3)), 5, headers=[("other", b""), FORWARDED]))
    [letter] = intake.letters
    assert (letter.error_type, letter.topic, letter.partition, letter.offset) == ("misrouted", "p-feedback", 2, 5)
    assert letter.error == "its key belongs to partition 3 of 4, it was forwarded to 2"
    assert (intake.events, intake.forwards) == ([], [])


def test_the_key_counts_that_the_event_holds_and_not_the_records() -> None:
    assert len(taken_in(1, record(feedback(named(1)), key=named(0).encode())).events) == 1


def test_a_record_without_value_is_set_aside() -> None:
    [letter] = taken_in(0, record(None, 9)).letters
    assert (letter.error_type, letter.offset, letter.value) == ("invalid_json", 9, None)


records_strategy = st.lists(
    st.tuples(
        st.sampled_from(["e1", "e2", "e3", "é \U0001f600", "x" * 257]).map(
            lambda name: feedback("e1").replace(b'"e1"', f'"{name}"'.encode())
        )
        | st.binary(max_size=30)
        | st.none(),
        st.sampled_from([(), (FORWARDED,)]),
    ),
    max_size=12,
)


@given(partition=st.integers(0, PARTITIONS - 1), values=records_strategy)
def test_every_record_ends_in_one_place_in_order(partition: int, values: list[tuple[bytes | None, tuple]]) -> None:  # type: ignore[type-arg]
    records = [record(value, 3 * n, headers=headers) for n, (value, headers) in enumerate(values)]
    intake = taken_in(partition, *records)
    offsets = [found.offset for found, _ in intake.events] + [letter.offset for letter in intake.letters]
    assert sorted(offsets) == sorted(set(offsets))
    sent_on = Counter(sent.value for sent in intake.forwards)
    rest = Counter(one.value for one in records if one.offset not in offsets)
    assert sent_on == rest
    assert [found.offset for found, _ in intake.events] == sorted(found.offset for found, _ in intake.events)
    assert all(partition_for(event.experience_id.encode(), PARTITIONS) == partition for _, event in intake.events)
    assert all(sent.partition != partition for sent in intake.forwards)


def test_what_cannot_be_unpacked_is_set_aside_by_place_with_what_is_known() -> None:
    lost = Unreadable("p-feedback", 2, 5, 0, 0, None, None, None, -1, -1, (), 8, "offsets 5 to 7 cannot be read: why")
    intake = taken_in(2, lost, record(feedback(named(2)), 8))
    [letter] = intake.letters
    assert (letter.error_type, letter.error) == ("unreadable_batch", "offsets 5 to 7 cannot be read: why")
    assert (letter.topic, letter.partition, letter.offset, letter.key, letter.value) == ("p-feedback", 2, 5, None, None)
    assert len(intake.events) == 1
