"""Hostile records through a running deployment: no restart, and each of them is learned, set aside or counted."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from schemas.base import Event
from schemas.events import Experience, Feedback, Trace
from streams import topics
from tests.hostile import CODECS, Hostile, records
from tests.live import Deployment, Process
from tests.raw_batches import BAD_NAME, NAME, batch, changed, send
from tests.streams.test_stream_live import distinct, experience, of_feedback

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(1200)]

MODELS: dict[str, type[Event]] = {"experiences": Experience, "feedback": Feedback, "claude-traces": Trace}
ONE_EACH = {
    "experiences": ("arrived", "duplicate_experience", "dead_lettered"),
    "feedback": ("joined", "unusable", "superseded", "early", "duplicate_feedback", "dead_lettered"),
    "claude-traces": ("stored", "duplicate_trace", "dead_lettered"),
}
"""What a record comes to; one that lies elsewhere than it belongs is forwarded, and comes to it there."""

Place = tuple[str, int, int]


def publish(stream: Deployment, drawn: list[Hostile]) -> dict[Place, Hostile]:
    """Publish the records; return each by its place."""

    async def run() -> dict[Place, Hostile]:
        producers = {
            codec: AIOKafkaProducer(bootstrap_servers=stream.bootstrap, compression_type=codec, max_request_size=2**23)
            for codec in CODECS
        }
        for producer in producers.values():
            await producer.start()
        sent = []
        for one in drawn:
            sent.append(
                await producers[one.codec].send(
                    stream.settings.topic(one.topic),
                    one.value,
                    key=one.key,
                    headers=list(one.headers),
                    timestamp_ms=one.timestamp_ms,
                )
            )
        told = await asyncio.gather(*sent)
        for producer in producers.values():
            await producer.stop()
        return {(at.topic, at.partition, at.offset): one for at, one in zip(told, drawn, strict=True)}

    return asyncio.run(run())


def of_bad_header(stream: Deployment) -> int:
    """Publish a record with a header that is no text to each partition; return how many."""
    for partition in range(stream.settings.topics.partitions):
        data = batch([experience(10**6 + partition).to_json()], headers=[(NAME, b"1")])
        send(stream.bootstrap, stream.settings.topic("experiences"), partition, changed(data, NAME.encode(), BAD_NAME))
    return stream.settings.topics.partitions


def counted(worker: Process) -> dict[str, int]:
    """Return how many records of each topic have come to something."""
    events = worker.status()["events"]
    return {topic: sum(events.get(topic, {}).get(name, 0) for name in names) for topic, names in ONE_EACH.items()}


def is_an_event(one: Hostile) -> bool:
    try:
        MODELS[one.topic].from_json(one.value or b"")
    except ValueError:
        return False
    return True


def identity(event: Event) -> str:
    """What makes an event a repetition of another: a judgement's id counts within its experience."""
    if isinstance(event, Feedback):
        return f"{event.experience_id} {event.feedback_id}"
    assert isinstance(event, Experience | Trace)
    return event.trace_id if isinstance(event, Trace) else event.experience_id


@pytest.mark.parametrize("count", [300, 10_000])
def test_every_hostile_record_is_learned_set_aside_or_counted(
    bootstrap: str, prefix: str, tmp_path: Path, count: int
) -> None:
    with Deployment(bootstrap, prefix, tmp_path / "d") as stream:
        worker = stream.worker()
        drawn = list(records(16, count))
        experiences = [one for one in drawn if one.topic == "experiences"]
        # Experiences first, so that feedback of one that is there does not wait.
        by_place = publish(stream, experiences)
        wanted = Counter({"experiences": len(experiences) + of_bad_header(stream)})
        wait_for_sums(stream, worker, wanted)
        by_place |= publish(stream, [one for one in drawn if one.topic != "experiences"])
        wanted.update(one.topic for one in drawn if one.topic != "experiences")
        wait_for_sums(stream, worker, wanted)

        events = {place: one for place, one in by_place.items() if is_an_event(one)}
        letters = Counter(
            (letter["topic"], letter["partition"], letter["offset"]) for letter in stream.read(topics.DEAD_LETTERS)
        )
        assert letters == Counter(by_place.keys() - events.keys())
        assert 0.3 * count < len(events) < 0.8 * count
        ids = {topic: set[str]() for topic in MODELS}
        for one in events.values():
            ids[one.topic].add(identity(MODELS[one.topic].from_json(one.value or b"")))
        known = ids["experiences"] | {f"e{10**6 + n}" for n in range(stream.settings.topics.partitions)}
        updates = stream.wait_for(
            topics.SCORE_UPDATES,
            lambda values: {u["experience_id"] for u in values if u["reason"] == "experience_arrived"} >= known,
        )
        assert {u["experience_id"] for u in updates if u["reason"] == "experience_arrived"} == known
        outcomes = worker.status()["events"]["feedback"]
        stream.wait_for(topics.SCORE_UPDATES, lambda values: len(of_feedback(values)) == outcomes["joined"])
        assert outcomes["joined"] + outcomes["early"] + outcomes.get("superseded", 0) + outcomes.get(
            "unusable", 0
        ) == len(ids["feedback"])
        assert worker.status()["events"]["claude-traces"]["stored"] == len(ids["claude-traces"])
        assert distinct(stream.read(topics.ELIGIBLE_TRACES), "trace_id") <= ids["claude-traces"]
        assert "ended with code" not in worker.log.read_text()
        assert worker.end() == 0


def wait_for_sums(stream: Deployment, worker: Process, wanted: Counter[str], seconds: float = 600) -> None:
    """Wait until every record has come to one thing."""
    deadline = time.monotonic() + seconds
    while (found := counted(worker)) != {topic: wanted[topic] for topic in MODELS}:
        worker.must_run()
        assert time.monotonic() < deadline, f"{found} of {wanted}: {worker.status()['events']}\n{stream.logs()}"
        time.sleep(0.3)
