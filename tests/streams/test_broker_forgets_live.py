"""Topics that were made again, commits that the broker forgot, strangers in a group, partitions that grew."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from confluent_kafka.admin import AdminClient

from streams import topics
from streams.state.belonging import COMMITTED_NAME, TOPICS_NAME
from tests.live import Deployment, Process
from tests.streams.test_stream_live import experience, feedback, of_feedback

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]


def until(holds: Callable[[], Any], what: str, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


def learn(stream: Deployment, numbers: range) -> None:
    stream.publish("experiences", [experience(n) for n in numbers])
    stream.publish("feedback", [feedback(n) for n in numbers])
    stream.wait_for("score-updates", lambda values: {f"f{n}" for n in numbers} <= of_feedback(values).keys())


def ended(stream: Deployment) -> str:
    """Start a worker that may not start; return what it said."""
    worker = stream.start("worker")
    worker.expected_to_run = False
    assert worker.popen.wait(120) == 1
    return worker.log.read_text()


async def admin(stream: Deployment, act: Callable[[AIOKafkaAdminClient], Any]) -> None:
    client = AIOKafkaAdminClient(bootstrap_servers=stream.bootstrap)
    await client.start()
    try:
        await act(client)
    finally:
        await client.close()


def delete(stream: Deployment, *names: str) -> None:
    there = [stream.settings.topic(name) for name in names]
    asyncio.run(admin(stream, lambda client: client.delete_topics(there)))
    client = AdminClient({"bootstrap.servers": stream.bootstrap})
    until(lambda: not set(there) & client.list_topics(timeout=10).topics.keys(), "topics are still there")


@pytest.mark.long
def test_a_topic_that_was_made_again_stops_the_worker_by_name_and_a_reset_learns_from_it(
    bootstrap: str, prefix: str, tmp_path: Path
) -> None:
    with Deployment(bootstrap, prefix, tmp_path / "d", topics={"partitions": 2}) as stream:
        worker = stream.worker()
        learn(stream, range(6))
        assert worker.end() == 0
        assert stream.settings.topic("experiences") in json.loads((tmp_path / "d" / TOPICS_NAME).read_bytes())
        delete(stream, topics.EXPERIENCES)
        said = ended(stream)
        assert f"topic {prefix}experiences was deleted and made again" in said
        assert "'Topics that were made again' in docs/operations.md" in said

        # The documented reset: what came of the inputs goes, and they are read anew by groups of another name.
        delete(stream, topics.SCORER_LOG, topics.ANSWERS, topics.PAIRS, topics.ELIGIBLE_TRACES, topics.JOBS)
        for folder in (tmp_path / "d", *tmp_path.glob("state-*")):
            shutil.rmtree(folder, ignore_errors=True)
    with Deployment(bootstrap, prefix, tmp_path / "d", topics={"partitions": 2}, kafka={"app_id": "again"}) as stream:
        worker = stream.worker()
        learn(stream, range(100, 104))
        stream.publish("experiences", [experience(n) for n in range(6)])
        stream.wait_for("score-updates", lambda values: of_feedback(values)["f5"] == 2)  # the retained feedback, once
        scorer = worker.status()["scorer"]
        assert scorer["groups_learned"] + scorer["groups_held_out"] == 10


@pytest.mark.long
def test_commits_that_the_broker_forgot_stop_the_start_and_can_be_handed_back(
    bootstrap: str, prefix: str, tmp_path: Path
) -> None:
    join = {"retention": 2.0, "tick_interval": 0.5}
    with Deployment(bootstrap, prefix, tmp_path / "d", topics={"partitions": 4}, join=join) as stream:
        worker = stream.worker()
        stream.publish("experiences", [experience(n) for n in range(20)])
        # By no key, so that most lie elsewhere than they belong, and are forwarded.
        stream.publish("feedback", [feedback(n).to_json() for n in range(20)])
        stream.wait_for("score-updates", lambda values: len(of_feedback(values)) == 20)
        time.sleep(6)  # until the join has forgotten them
        assert worker.end() == 0
        noted = (tmp_path / "d" / COMMITTED_NAME).read_text()
        groups = [topics.group(stream.settings, role) for role in topics.ROLES]
        client = AdminClient({"bootstrap.servers": bootstrap})
        for deleted in client.delete_consumer_groups(groups).values():
            deleted.result(30)
        said = ended(stream)
        assert "the broker has forgotten what group" in said
        assert "'Offsets that expired' in docs/operations.md" in said

        hand_back(stream, noted)
        again = stream.worker()
        learn(stream, range(100, 103))
        assert set(of_feedback(stream.read("score-updates")).values()) == {1}
        scorer = again.status()["scorer"]
        assert scorer["groups_learned"] + scorer["groups_held_out"] == 23


def hand_back(stream: Deployment, noted: str) -> None:
    """Commit what the file tells, as `kafka-consumer-groups --reset-offsets --from-file` does."""
    from aiokafka import TopicPartition

    rows = [line.split(",") for line in noted.splitlines()]

    async def run() -> None:
        for group in {row[0] for row in rows}:
            consumer = AIOKafkaConsumer(bootstrap_servers=stream.bootstrap, group_id=group, enable_auto_commit=False)
            await consumer.start()
            own = {TopicPartition(topic, int(p)): int(o) for of, topic, p, o in rows if of == group}
            consumer.assign(list(own))
            await consumer.commit(own)
            await consumer.stop()

    asyncio.run(run())


@pytest.mark.long
def test_a_stranger_in_a_group_is_told_of_and_the_worker_starts_once_it_has_left(
    bootstrap: str, prefix: str, tmp_path: Path
) -> None:
    with Deployment(bootstrap, prefix, tmp_path / "d") as stream:
        group = topics.group(stream.settings, "join")

        async def beside_a_stranger() -> Process:
            stranger = AIOKafkaConsumer(stream.settings.topic("feedback"), bootstrap_servers=bootstrap, group_id=group)
            async with stranger:
                await stranger.getmany(timeout_ms=1000)
                worker = stream.start("worker")
                told = f"joining group {group}, which may have a member that is not of this program"
                deadline = time.monotonic() + 90
                while told not in worker.log.read_text():
                    assert time.monotonic() < deadline, worker.log.read_text()[-3000:]
                    await asyncio.sleep(0.2)
                status, said = worker.get("/readyz")
                assert status == 503, said
            return worker

        worker = asyncio.run(beside_a_stranger())
        worker.wait_until_ready(90)
        learn(stream, range(3))


@pytest.mark.long
def test_partitions_that_grew_are_told_while_it_runs_and_refused_at_a_start(
    bootstrap: str, prefix: str, tmp_path: Path
) -> None:
    with Deployment(bootstrap, prefix, tmp_path / "d", topics={"partitions": 2}) as stream:
        worker = stream.worker()
        name = stream.settings.topic("feedback")
        asyncio.run(admin(stream, lambda client: client.create_partitions({name: NewPartitions(3)})))
        fault = f"topic {name} has 3 partitions, 2 are needed"
        until(lambda: fault in worker.get("/readyz")[1].decode(), "readyz does not tell of it")
        assert worker.get("/readyz")[0] == 503
        found = json.loads(stream.command("audit", "--json").stdout)["findings"]
        assert any(fault in json.dumps(one) and "docs/operations.md" in json.dumps(one) for one in found)
        assert worker.end() == 0
        said = ended(stream)
        assert fault in said
        assert "'Changing topics.partitions' in docs/operations.md" in said
