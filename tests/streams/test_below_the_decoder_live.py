"""What arrives below the JSON decoder: compressed batches, headers of any bytes, transactions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete

from streams import topics
from streams.kafka.publisher import partition_for
from tests.live import Deployment, Process
from tests.raw_batches import BAD_NAME, NAME, batch, changed, send
from tests.streams.test_stream_live import experience, feedback, of_feedback

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]

CODECS = ("gzip", "snappy", "lz4", "zstd")


@pytest.fixture(scope="module")
def stream(broker: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Deployment, Process]]:
    """A worker whose own topics, changelogs included, are compressed by the broker, by each codec in turn.

    Its inputs stay as producers send them: a broker that compresses anew also mends headers' names.
    """
    deployment = Deployment(
        broker.bootstrap, "below-", tmp_path_factory.mktemp("below") / "d", topics={"partitions": 2}
    )

    async def create() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
        await admin.start()
        inputs = {deployment.settings.topic(name) for name in (topics.EXPERIENCES, topics.FEEDBACK)}
        await admin.create_topics(
            [
                NewTopic(
                    spec.name, spec.partitions, 1, topic_configs={**spec.configs, "compression.type": CODECS[n % 4]}
                )
                for n, spec in enumerate(topics.topic_specs(deployment.settings))
                if spec.name not in inputs
            ]
        )
        await admin.close()

    asyncio.run(create())
    with deployment:
        worker = deployment.start("worker")
        worker.wait_until_ready(240)
        yield deployment, worker


def publish(stream: Deployment, events: list[Any], *, commit: bool = True, **options: Any) -> None:
    """Publish feedback by a producer of its own."""

    async def run() -> None:
        async with AIOKafkaProducer(bootstrap_servers=stream.bootstrap, **options) as producer:
            if "transactional_id" in options:
                await producer.begin_transaction()
            for event in events:
                topic = topics.FEEDBACK if hasattr(event, "feedback_id") else topics.EXPERIENCES
                key = event.experience_id.encode()
                await producer.send_and_wait(stream.settings.topic(topic), event.to_json(), key=key)
            if "transactional_id" in options:
                await (producer.commit_transaction() if commit else producer.abort_transaction())

    asyncio.run(run())


def test_every_codec_is_read_from_producers_and_topics(stream: tuple[Deployment, Process]) -> None:
    deployment, _ = stream
    for number, codec in enumerate(CODECS):
        publish(deployment, [experience(number), feedback(number)], compression_type=codec)
    deployment.wait_for("score-updates", lambda values: {f"f{n}" for n in range(4)} <= of_feedback(values).keys())


def test_a_header_of_any_bytes_does_not_stop_the_stream(stream: tuple[Deployment, Process]) -> None:
    deployment, worker = stream
    event = experience(20)
    data = batch([event.to_json()], key=event.experience_id.encode(), headers=[(NAME, b"1")])
    place = partition_for(event.experience_id.encode(), 2)
    name = deployment.settings.topic(topics.EXPERIENCES)
    send(deployment.bootstrap, name, place, changed(data, NAME.encode(), BAD_NAME))
    publish(deployment, [feedback(20)])
    deployment.wait_for("score-updates", lambda values: "f20" in of_feedback(values))
    worker.must_run()
    for command in (("lag", "--json"), ("audit", "--json")):
        result = deployment.command(*command)
        assert (result.returncode, "Traceback" in result.stderr) == (0, False), result.stderr


def test_what_a_transaction_takes_back_is_not_learned_and_is_no_lag(stream: tuple[Deployment, Process]) -> None:
    deployment, _ = stream
    publish(deployment, [experience(30)])
    publish(deployment, [feedback(30)], transactional_id="below-a", commit=False)
    publish(deployment, [feedback(31, of=30)], transactional_id="below-b")
    updates = deployment.wait_for("score-updates", lambda values: "f31" in of_feedback(values))
    assert "f30" not in of_feedback(updates)


def test_an_aborted_transaction_behind_the_committed_offset_is_no_lag(stream: tuple[Deployment, Process]) -> None:
    deployment, worker = stream
    worker.end()
    publish(deployment, [feedback(40)], transactional_id="below-c", commit=False)
    mine = lag_of(deployment, deployment.settings.topic(topics.FEEDBACK))
    assert any(row["end"] > (row["committed"] or 0) for row in mine)
    assert [(row["lag"], row["lag_seconds"]) for row in mine] == [(0, 0.0)] * 2


@pytest.mark.long
def test_what_retention_deletes_before_it_is_read_is_counted(stream: tuple[Deployment, Process]) -> None:
    deployment, worker = stream
    name = deployment.settings.topic(topics.FEEDBACK)
    place = partition_for(b"e0", 2)
    if worker.expected_to_run:  # Alone it needs a committed offset of its own; behind the others there is one.
        publish(deployment, [experience(0), feedback(49, of=0)])
        deployment.wait_for("score-updates", lambda values: "f49" in of_feedback(values))
        worker.end()
    publish(deployment, [feedback(number, of=0) for number in range(50, 55)])
    [before] = [row for row in lag_of(deployment, name) if row["partition"] == place]

    async def delete() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=deployment.bootstrap)
        await admin.start()
        await admin.delete_records({TopicPartition(name, place): RecordsToDelete(before["committed"] + 3)})
        await admin.close()

    asyncio.run(delete())
    [row] = [row for row in lag_of(deployment, name) if row["partition"] == place]
    assert (row["deleted"], row["lag"]) == (3, before["lag"] - 3)
    again = deployment.start("worker")
    again.wait_until_ready(240)
    deployment.wait_for("score-updates", lambda values: "f54" in of_feedback(values))
    told = again.get("/metrics")[1]
    assert b'tierstream_events_total{outcome="deleted_unread",role="join",topic="feedback"} 3.0' in told
    again.end()


def lag_of(deployment: Deployment, topic: str) -> list[dict[str, Any]]:
    return [row for row in json.loads(deployment.command("lag", "--json").stdout) if row["topic"] == topic]
