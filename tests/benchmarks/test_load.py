from __future__ import annotations

import pytest

from benchmarks.load import Load, feedback_id, percentile
from schemas.events import Experience, Feedback
from schemas.settings import Settings
from streams.kafka.publisher import partition_for


def load() -> Load:
    return Load(Settings(), experiences=3)


def test_experiences_bring_every_embedding() -> None:
    messages = list(load().experiences())
    events = [Experience.from_json(message.value or b"") for message in messages]
    assert [event.experience_id.encode() for event in events] == [message.key for message in messages]
    for event in events:
        assert event.query_embedding is not None
        assert set(event.item_embeddings or {}) == {"w0", "w1", "w2", "voice"}


def test_events_lie_on_their_keys_partition() -> None:
    source = load()
    for message in [*source.experiences(), *source.feedback(0, 5)]:
        assert message.partition == partition_for(message.key or b"", Settings().topics.partitions)


def test_feedback_goes_round_the_experiences_and_grows_newer() -> None:
    events = [Feedback.from_json(message.value or b"") for message in load().feedback(2, 5)]
    assert [event.feedback_id for event in events] == [feedback_id(number) for number in range(2, 7)]
    assert [event.experience_id for event in events] == [f"answer-{number % 3}" for number in range(2, 7)]
    assert [event.source for event in events] == ["user", "evaluator", "evaluator", "evaluator", "user"]
    assert events == sorted(events, key=lambda event: event.timestamp)


@pytest.mark.parametrize(("share", "value"), [(0.5, 5.0), (0.99, 10.0), (0.1, 1.0), (1.0, 10.0)])
def test_percentile_is_the_nearest_rank(share: float, value: float) -> None:
    assert percentile([float(number) for number in range(10, 0, -1)], share) == value


def test_percentile_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)
