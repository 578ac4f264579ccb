"""A deployment that the release before has left, recorded with it, is taken over: nothing is lost or told twice."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streams.topics import topic_specs
from tests.live import Deployment
from tests.streams.test_stream_live import checkpointed, experience, feedback, folded_weights, of_feedback

pytestmark = [pytest.mark.live, pytest.mark.long]

RECORDED = Path(__file__).parents[1] / "recorded" / "release-0.1.json.gz"
LEFT_BY_IT = {"experiences": 24, "judged": 23, "learned": 19, "epoch": 2}
"""What that release said of itself when it was killed; one more feedback waited for its successor."""
SETTINGS: dict[str, Any] = {"topics": {"partitions": 2}, "scorer": {"replay_capacity": 60, "validation_size": 20}}


def lay_out(stream: Deployment) -> None:
    """Put topics, offsets and files as they were recorded, under the deployment's prefix."""
    recorded, prefix = json.loads(gzip.decompress(RECORDED.read_bytes())), stream.settings.topics.prefix
    for name, content in recorded["files"].items():
        path = stream.data_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(content))
    manifest = json.loads((stream.data_dir / "state.json").read_bytes())
    (stream.data_dir / "state.json").write_text(json.dumps({**manifest, "prefix": prefix}))

    async def run() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=stream.bootstrap)
        await admin.start()
        configs = {spec.name: dict(spec.configs) for spec in topic_specs(stream.settings)}
        del configs[prefix + "answers"]["message.timestamp.type"]  # which that release did not set
        await admin.create_topics(
            [
                NewTopic(prefix + name, topic["partitions"], 1, topic_configs=configs.get(prefix + name))
                for name, topic in recorded["topics"].items()
            ]
        )
        await admin.close()
        async with AIOKafkaProducer(bootstrap_servers=stream.bootstrap, max_request_size=2**23) as producer:
            for name, topic in recorded["topics"].items():
                for partition, offset, at, key, value, headers in topic["records"]:
                    sent = await producer.send_and_wait(
                        prefix + name,
                        value and base64.b64decode(value),
                        key=key and base64.b64decode(key),
                        partition=partition,
                        timestamp_ms=at,
                        headers=[(header, base64.b64decode(content)) for header, content in headers],
                    )
                    assert sent.offset == offset
        async with AIOKafkaConsumer(
            bootstrap_servers=stream.bootstrap, group_id=stream.settings.group_id, enable_auto_commit=False
        ) as consumer:
            places = {place: offset for place, offset in recorded["committed"].items() if offset is not None}
            offsets = {
                TopicPartition(prefix + place.rpartition("/")[0], int(place.rpartition("/")[2])): offset
                for place, offset in places.items()
            }
            consumer.assign(list(offsets))
            await consumer.commit(offsets)

    asyncio.run(run())


def test_a_recorded_deployment_is_taken_over(bootstrap: str, prefix: str, tmp_path: Path) -> None:
    stream = Deployment(bootstrap, prefix, tmp_path / "d", **SETTINGS)
    lay_out(stream)
    try:
        refused = stream.command("worker")
        assert refused.returncode == 1
        assert refused.stderr.splitlines()[-1] == (
            "error: this deployment was written by the release before this one; "
            "stop its workers and run `tierstream upgrade`, which takes it over"
        )
        done = stream.command("upgrade", "--json")
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert told["entries"] == LEFT_BY_IT["experiences"] + LEFT_BY_IT["judged"]
        assert told["step"] >= 1
        again = stream.command("upgrade")
        assert again.returncode == 1
        assert "nothing to take over" in again.stderr

        worker = stream.worker()
        updates = stream.wait_for("score-updates", lambda values: len(of_feedback(values)) >= 24)
        assert set(of_feedback(updates).values()) == {1}
        [last] = [update for update in updates if update.get("feedback_id") == "f23"]
        assert last["scorer_epoch"] > LEFT_BY_IT["epoch"]
        stream.publish("experiences", [experience(24)])
        stream.publish("feedback", [feedback(n) for n in (0, 5, 24)])  # two that were judged before, and a new one
        stream.wait_for("score-updates", lambda values: len(of_feedback(values)) >= 25)
        scorer = worker.status()["scorer"]
        assert scorer["groups_learned"] + scorer["groups_held_out"] == 25
        assert scorer["arrived_scored"] == 25
        assert scorer["version"] == told["version"]
        pairs = {pair["pair_id"]: pair for pair in stream.read("preference-pairs")}
        used = Counter((p["kind"], p[f"{s}_experience_id"]) for p in pairs.values() for s in ("chosen", "rejected"))
        assert set(used.values()) == {1}
        assert stream.read("dead-letters") == []
        assert worker.end() == 0
        learner = checkpointed(stream)
        assert (learner.weights_hash(), learner.step) == folded_weights(stream)
        verified = stream.command("replay", "--tier", "scorer", "--verify")
        assert verified.returncode == 0, verified.stdout + verified.stderr
    finally:
        for process in stream.processes:
            process.end()
