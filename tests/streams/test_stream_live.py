"""The whole stream on a real broker: events in; scores, pairs, traces and jobs out."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from confluent_kafka import Producer as LibrdkafkaProducer

from schemas.events import Experience, Feedback, Trace
from streams.kafka.publisher import partition_for
from streams.state.scorer_log import LogReader
from streams.state.scorer_state import ScorerState
from tests.live import Deployment
from trainers.scorer.checkpoint import CheckpointStore
from trainers.scorer.fold import ScorerFold
from trainers.scorer.learner import OnlineLearner

pytestmark = pytest.mark.live

QUERIES = 40


def experience(number: int, **fields: Any) -> Experience:
    widget = {"widget_id": "w1", "widget_type": "gauge", "text": f"pressure {number}"}
    values = {
        "experience_id": f"e{number}",
        "timestamp": 1.0 + number,
        "query": f"how is pump {number % QUERIES}",
        "intent": {"type": "status", "domains": ["pumps"], "devices": ["pump"]},
        "widget_plan": [widget],
        "voice_reply": f"it runs at {number}",
    }
    return Experience.model_validate({**values, **fields})


def feedback(number: int, of: int | None = None, **fields: Any) -> Feedback:
    values = {
        "feedback_id": f"f{number}",
        "experience_id": f"e{number if of is None else of}",
        "timestamp": 1000.0 + number,
        "source": "evaluator",
        "reward": random.Random(number).choice([-1.0, 1.0]),
        "evaluation_confidence": 0.9,
    }
    return Feedback.model_validate({**values, **fields})


def trace(number: int, **fields: Any) -> Trace:
    values = {
        "trace_id": f"t{number}",
        "timestamp": 1.0,
        "kind": "user_query",
        "prompt": f"question {number}",
        "thinking": "let me see",
        "response": f"answer {number}",
        "model": "a-model",
    }
    return Trace.model_validate({**values, **fields})


def of_feedback(updates: list[dict[str, Any]]) -> Counter[str]:
    return Counter(update["feedback_id"] for update in updates if update.get("feedback_id"))


def distinct(values: list[dict[str, Any]], key: str) -> set[str]:
    return {value[key] for value in values}


def folded_weights(deployment: Deployment) -> tuple[str, int]:
    """Fold the whole log again, in this process and from nothing."""

    async def run(folder: Path) -> OnlineLearner:
        state = ScorerState(deployment.settings, folder)
        async with LogReader(deployment.settings) as reader:
            await state.catch_up(reader, None)
        assert state.fold is not None
        return state.fold.learner

    with TemporaryDirectory() as folder:
        learner = asyncio.run(run(Path(folder)))
    return learner.weights_hash(), learner.step


def checkpointed(deployment: Deployment) -> OnlineLearner:
    snapshot = CheckpointStore(deployment.data_dir / "scorer", deployment.settings.scorer).load()
    assert snapshot is not None
    return ScorerFold.restored(snapshot).learner


def test_events_become_scores_pairs_traces_and_one_job_a_threshold(bootstrap: str, prefix: str, tmp_path: Path) -> None:
    with Deployment(bootstrap, prefix, tmp_path / "d") as stream:
        worker = stream.worker()
        stream.publish("feedback", [feedback(n) for n in range(60)])  # early
        stream.publish("experiences", [experience(n) for n in range(200)])
        stream.publish("feedback", [feedback(n) for n in range(60, 200)])
        stream.publish("feedback", [feedback(n) for n in range(30)])  # repeated
        stream.publish("claude-traces", [trace(n) for n in range(110)] + [trace(200, thinking=None), trace(0)])
        updates = stream.wait_for("score-updates", lambda values: len(of_feedback(values)) >= 200)
        stream.wait_until_idle()
        jobs = stream.read("training-jobs")
        assert distinct(jobs, "tier") == {"dpo", "sft"}
        assert set(of_feedback(updates).values()) == {1}
        assert {u["experience_id"] for u in updates if u["reason"] == "experience_arrived"} == {
            f"e{n}" for n in range(200)
        }
        pairs = stream.read("preference-pairs")
        used = Counter((p["kind"], p[f"{side}_experience_id"]) for p in pairs for side in ("chosen", "rejected"))
        assert set(used.values()) == {1}
        dpo = [job for job in jobs if job["tier"] == "dpo"]
        assert len(dpo) == len(pairs) // 80 > 0
        assert [job["example_count"] for job in jobs if job["tier"] == "sft"] == [100]
        for job in jobs:
            data = (stream.data_dir / job["dataset_path"]).read_bytes()
            assert hashlib.sha256(data).hexdigest() == job["dataset_sha256"]
        assert stream.read("dead-letters") == []
        scorer = worker.status()["scorer"]
        assert scorer["groups_learned"] + scorer["groups_held_out"] == 200
        assert scorer["parameters"] == 28193
        stored = list((stream.data_dir / "traces").glob("traces-*.jsonl"))
        assert sum(len(path.read_bytes().splitlines()) for path in stored) == 111
        assert worker.end() == 0
        assert checkpointed(stream).weights_hash() == folded_weights(stream)[0]


@pytest.mark.long
def test_after_sigkills_nothing_is_lost_nothing_learned_twice_and_the_weights_are_the_logs(
    bootstrap: str, prefix: str, tmp_path: Path
) -> None:
    scorer = {"checkpoint_every_steps": 3, "groups_per_step": 4}
    with Deployment(bootstrap, prefix, tmp_path / "d", scorer=scorer) as stream:
        worker = stream.worker()
        stream.publish("experiences", [experience(n) for n in range(400)])
        for first in range(0, 400, 100):
            stream.publish("feedback", [feedback(n) for n in range(first, first + 100)])
            stream.publish("claude-traces", [trace(n) for n in range(first // 4, first // 4 + 25)])
            time.sleep(random.Random(first).uniform(0.05, 0.4))
            worker.kill()
            worker = stream.worker()
        stream.wait_for("score-updates", lambda values: len(of_feedback(values)) >= 400)
        stream.wait_until_idle()
        jobs = stream.read("training-jobs")
        status = worker.status()["scorer"]
        assert status["groups_learned"] + status["groups_held_out"] == 400
        assert status["arrived_scored"] == 400
        assert status["epoch"] == 1
        assert worker.end() == 0
        learner = checkpointed(stream)
        assert (learner.weights_hash(), learner.step) == folded_weights(stream)
        verified = stream.command("replay", "--tier", "scorer", "--verify", "--json")
        assert verified.returncode == 0, verified.stderr
        found = json.loads(verified.stdout)
        assert (found["agrees"], found["step"], found["replayed"]) == (True, learner.step, learner.weights_hash())
        by_feedback: dict[str, set[int]] = {}
        for update in stream.read("score-updates"):
            if update.get("feedback_id"):
                by_feedback.setdefault(update["feedback_id"], set()).add(update["scorer_step"])
        assert {len(steps) for steps in by_feedback.values()} == {1}
        pairs = {p["pair_id"]: p for p in stream.read("preference-pairs")}
        used = Counter(
            (p["kind"], p[f"{side}_experience_id"]) for p in pairs.values() for side in ("chosen", "rejected")
        )
        assert set(used.values()) == {1}
        assert len(distinct([job for job in jobs if job["tier"] == "sft"], "job_id")) == 1
        dpo = distinct([job for job in stream.read("training-jobs") if job["tier"] == "dpo"], "job_id")
        assert len(dpo) == len(pairs) // 80
        lines = [line for p in (stream.data_dir / "traces").glob("*.jsonl") for line in p.read_bytes().splitlines()]
        assert len(lines) == 100


def test_bad_input_is_set_aside_with_its_reason_and_the_stream_goes_on(
    bootstrap: str, prefix: str, tmp_path: Path
) -> None:
    good = experience(1).to_json()
    bad = {
        "experiences": [
            (b"\xff\xfe\x00", "invalid_json"),
            (good.replace(b'"how is pump 1"', b"17"), "invalid_event"),
            (good.replace(b'"schema_version":1', b'"schema_version":9'), "unknown_schema_version"),
            (good.replace(b'"timestamp"', b'"query_embedding":[0.5,NaN],"timestamp"'), "invalid_event"),
            (
                good.replace(b'"timestamp"', b'"query_embedding":' + str([0.5] * 383).encode() + b',"timestamp"'),
                "invalid_event",
            ),
            (good.replace(b"how is pump 1", b"x" * 900_000), "invalid_event"),
        ],
        "feedback": [
            (feedback(1).to_json().replace(b'"reward":', b'"reward":2,"was":'), "invalid_event"),
            (feedback(1).to_json().replace(b'"reward":', b'"reward":NaN,"was":'), "invalid_event"),
            (
                b'{"schema_version":1,"feedback_id":"x","experience_id":"e1","timestamp":1,"source":"user"}',
                "invalid_event",
            ),
        ],
        "claude-traces": [(b"[]", "invalid_event"), (b"", "invalid_json")],
    }
    with Deployment(bootstrap, prefix, tmp_path / "d") as stream:
        worker = stream.worker()
        for topic, cases in bad.items():
            stream.publish(topic, [value for value, _ in cases], key="k")
        stream.publish("experiences", [experience(5)])
        stream.publish("feedback", [feedback(5, per_widget_feedback=[{"widget_id": "w9", "reward": 1.0}], reward=1.0)])
        expected = Counter(reason for cases in bad.values() for _, reason in cases)
        letters = stream.wait_for("dead-letters", lambda values: len(values) >= expected.total())
        assert Counter(letter["error_type"] for letter in letters) == expected
        for letter in letters:
            assert letter["value_bytes"] == 0 or letter["value"]
            assert "\n" not in letter["error"]
        sizes = [letter["value_bytes"] for letter in letters]
        assert max(sizes) > 900_000
        assert max(len(letter["value"] or "") for letter in letters) <= 256 * 1024 * 4 / 3 + 4
        updates = stream.wait_for("score-updates", lambda values: len(of_feedback(values)) == 1)
        assert distinct(updates, "experience_id") == {"e5"}
        assert worker.status()["events"]["feedback"]["unknown_widget"] == 1


@pytest.mark.long
def test_events_of_both_partitioners_meet(bootstrap: str, prefix: str, tmp_path: Path) -> None:
    with Deployment(bootstrap, prefix, tmp_path / "d") as stream:
        worker = stream.worker()
        stream.publish("experiences", [experience(n) for n in range(100)])
        producer = LibrdkafkaProducer({"bootstrap.servers": bootstrap})
        elsewhere = []

        def delivered(error: Any, message: Any) -> None:
            assert error is None
            elsewhere.append(message.partition() != partition_for(message.key(), 4))

        for n in range(100):
            event = feedback(n)
            producer.produce(
                stream.settings.topic("feedback"), event.to_json(), event.experience_id, on_delivery=delivered
            )
        assert producer.flush(30) == 0
        assert sum(elsewhere) > 20
        updates = stream.wait_for("score-updates", lambda values: len(of_feedback(values)) >= 100)
        assert set(of_feedback(updates).values()) == {1}
        assert worker.status()["events"]["feedback"]["forwarded"] == sum(elsewhere)
        assert stream.read("dead-letters") == []


@pytest.mark.long
def test_feedback_whose_experience_never_comes_is_set_aside_as_orphan(
    bootstrap: str, prefix: str, tmp_path: Path
) -> None:
    join = {"retention": 2.0, "tick_interval": 0.5}
    with Deployment(bootstrap, prefix, tmp_path / "d", join=join) as stream:
        stream.worker()
        stream.publish("experiences", [experience(1)])
        stream.publish("feedback", [feedback(1), feedback(2, of=77)])
        letters = stream.wait_for("dead-letters", lambda values: len(values) >= 1)
        assert [letter["error_type"] for letter in letters] == ["orphan_feedback"]
        assert letters[0]["topic"] == stream.settings.topic("feedback")


@pytest.mark.long
def test_partitions_move_between_workers_without_loss(bootstrap: str, prefix: str, tmp_path: Path) -> None:
    with Deployment(bootstrap, prefix, tmp_path / "d") as stream:
        first = stream.worker()
        stream.publish("experiences", [experience(n) for n in range(200)])
        stream.publish("feedback", [feedback(n) for n in range(80)])
        second = stream.worker()
        stream.publish("feedback", [feedback(n) for n in range(80, 160)])
        stream.wait_for("score-updates", lambda values: len(of_feedback(values)) >= 160)
        assert first.end() == 0
        stream.publish("feedback", [feedback(n) for n in range(160, 200)])
        updates = stream.wait_for("score-updates", lambda values: len(of_feedback(values)) >= 200)
        steps: dict[str, set[int]] = {}
        for update in updates:
            if update.get("feedback_id"):
                steps.setdefault(update["feedback_id"], set()).add(update["scorer_step"])
        assert {len(found) for found in steps.values()} == {1}
        second.wait_until_ready()
        scorer = second.status()["scorer"]
        assert scorer["groups_learned"] + scorer["groups_held_out"] == 200
        assert second.end() == 0
        assert checkpointed(stream).weights_hash() == folded_weights(stream)[0]


@pytest.mark.long
def test_a_checkpoint_of_another_rank_stops_the_start_and_stays(bootstrap: str, prefix: str, tmp_path: Path) -> None:
    with Deployment(bootstrap, prefix, tmp_path / "d") as stream:
        small = stream.worker(TIERSTREAM_SCORER__RANK="8")
        stream.publish("experiences", [experience(n) for n in range(12)])
        stream.publish("feedback", [feedback(n) for n in range(12)])
        stream.wait_for("score-updates", lambda values: len(of_feedback(values)) >= 12)
        assert small.status()["scorer"]["parameters"] == 7145
        assert small.end() == 0
        files = {p: p.read_bytes() for p in (stream.data_dir / "scorer" / "checkpoints").iterdir()}
        large = stream.start("worker")
        assert large.popen.wait(60) == 1
        large.expected_to_run = False
        message = large.log.read_text().splitlines()[-1]
        assert message.startswith("error: ")
        assert "rank 8" in message
        assert "rank 32" in message
        assert "tierstream retrain" in message
        assert {p: p.read_bytes() for p in (stream.data_dir / "scorer" / "checkpoints").iterdir()} == files


@pytest.mark.long
def test_the_stream_runs_on_the_lite_broker(lite_broker: Any, prefix: str, tmp_path: Path) -> None:
    with Deployment(lite_broker.bootstrap, prefix, tmp_path / "d") as stream:
        worker = stream.worker()
        stream.publish("feedback", [feedback(n) for n in range(10)])
        stream.publish("experiences", [experience(n) for n in range(20)])
        stream.publish("feedback", [feedback(n) for n in range(10, 20)])
        stream.publish("claude-traces", [trace(n) for n in range(3)])
        updates = stream.wait_for("score-updates", lambda values: len(of_feedback(values)) >= 20)
        assert set(of_feedback(updates).values()) == {1}
        assert worker.end() == 0
