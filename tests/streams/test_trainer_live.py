"""The trainer on a real broker: each job once, whatever is repeated or killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from schemas.events import DeadLetter, JobUpdate, Trace, TrainingJob
from schemas.settings import Settings
from streams.admin import ensure_topics
from streams.client import Producer
from streams.kafka_options import client_options
from streams.lag import measure_lag
from streams.topology import topic_specs
from trainers.jobs.accumulate import CompletedRun
from trainers.jobs.snapshot import freeze_job

pytestmark = pytest.mark.live

WAIT_SECONDS = 60.0
SLOW_JOB = """
import json, pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
with (folder / "runs").open("a") as runs: runs.write("x")
time.sleep(2)
(folder / "result.json").write_text(json.dumps({"state": "validated", "metrics": {}, "error": None}))
"""
QUICK_JOB = SLOW_JOB.replace("sleep(2)", "sleep(0)")


@pytest.fixture
def settings(bootstrap: str, prefix: str, tmp_path: Path) -> Settings:
    settings = Settings.model_validate(
        {
            "data_dir": str(tmp_path),
            "kafka": {"bootstrap_servers": bootstrap, "session_timeout": 6},
            "topics": {"prefix": prefix},
        }
    )
    asyncio.run(ensure_topics(settings, topic_specs(settings)))
    return settings


def make_job(settings: Settings, number: int, thinking: str = "because") -> TrainingJob:
    trace = Trace.model_validate(
        {
            "trace_id": f"t{number}",
            "timestamp": 0,
            "kind": "user_query",
            "prompt": "why?",
            "thinking": thinking,
            "response": "so",
            "model": "m",
        }
    )
    run = CompletedRun((trace.trace_id,), (trace.to_json(),))
    return freeze_job(Path(settings.data_dir), "sft", run, settings, datetime(2026, 1, 1, tzinfo=UTC))


def request(settings: Settings, *jobs: TrainingJob) -> None:
    async def send() -> None:
        async with Producer(settings) as producer:
            for job in jobs:
                await producer.send("training-jobs", job)

    asyncio.run(send())


def records(settings: Settings, topic: str) -> list[bytes]:
    async def read() -> list[bytes]:
        consumer = AIOKafkaConsumer(**client_options(settings), enable_auto_commit=False)
        await consumer.start()
        try:
            tp = TopicPartition(settings.topic(topic), 0)
            consumer.assign([tp])
            await consumer.seek_to_beginning(tp)
            values: list[bytes] = []
            while batch := await consumer.getmany(timeout_ms=300):
                values += [record.value for record in batch[tp]]
            return values
        finally:
            await consumer.stop()

    return asyncio.run(read())


def updates(settings: Settings) -> list[tuple[str, str]]:
    found = [JobUpdate.from_json(value) for value in records(settings, "job-updates")]
    return [(update.job_id, update.state) for update in found]


def committed(settings: Settings) -> int | None:
    rows = asyncio.run(measure_lag(settings))
    return next(row.committed for row in rows if row.topic == settings.topic("training-jobs"))


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


class Trainer:
    """A trainer process; by default the real one."""

    def __init__(self, settings: Settings, program: str | None = None) -> None:
        script = str(Path(__file__).with_name("trainer_with.py"))
        environment = [settings.model_dump_json(), program] if program else []
        flags = ["--data-dir", settings.data_dir, "--bootstrap-servers", settings.kafka.bootstrap_servers]
        command = [script, *environment] if program else ["-m", "streams.cli", "trainer", *flags]
        variables = {"TIERSTREAM_TOPICS__PREFIX": settings.topics.prefix, "TIERSTREAM_KAFKA__SESSION_TIMEOUT": "6s"}
        self.process = subprocess.Popen(
            [sys.executable, *command], stderr=subprocess.DEVNULL, env={**os.environ, **variables}
        )

    def __enter__(self) -> subprocess.Popen[bytes]:
        return self.process

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


def test_repeated_requests_run_each_job_once(settings: Settings) -> None:
    jobs = [make_job(settings, number) for number in range(3)]
    with Trainer(settings, QUICK_JOB):
        request(settings, *jobs, *jobs, jobs[0])
        wait_for(lambda: committed(settings) == 7)
    for job in jobs:
        assert (Path(settings.data_dir) / "jobs" / job.job_id / "runs").read_text() == "x"
    final = [name for name, state in updates(settings) if state == "validated"]
    assert sorted(final) == sorted([*(job.job_id for job in jobs)] * 2 + [jobs[0].job_id])


def test_job_of_a_killed_trainer_is_finished_by_the_next_and_run_once(settings: Settings) -> None:
    job = make_job(settings, 1)
    folder = Path(settings.data_dir) / "jobs" / job.job_id
    request(settings, job)
    with Trainer(settings, SLOW_JOB) as process:
        wait_for(lambda: (folder / "runs").exists())
        process.send_signal(signal.SIGKILL)
    assert committed(settings) is None
    with Trainer(settings, SLOW_JOB):
        wait_for(lambda: committed(settings) == 1)
    assert (folder / "runs").read_text() == "x"
    assert [state for _, state in updates(settings)][-1] == "validated"


def test_trainer_checks_datasets_and_stops_when_told(settings: Settings) -> None:
    good, bad = make_job(settings, 1), make_job(settings, 2)
    (Path(settings.data_dir) / bad.dataset_path).write_bytes(b"{}\n")
    request(settings, good, bad)
    with Trainer(settings) as process:
        wait_for(lambda: committed(settings) == 2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert [state for name, state in updates(settings) if name == good.job_id][-1] == "validated"
    failures = [JobUpdate.from_json(value) for value in records(settings, "job-updates")]
    assert "sha256" in str(next(update.error for update in failures if update.state == "failed"))


def test_what_is_no_job_is_set_aside_and_passed(settings: Settings) -> None:
    job = make_job(settings, 1)
    unsafe = job.model_copy(update={"job_id": "../outside"})

    async def send() -> None:
        producer = AIOKafkaProducer(**client_options(settings))
        await producer.start()
        await producer.send_and_wait(settings.topic("training-jobs"), b"{oops", key=b"k")
        await producer.stop()

    asyncio.run(send())
    request(settings, unsafe, job)
    with Trainer(settings, QUICK_JOB):
        wait_for(lambda: committed(settings) == 3)
    letters = [DeadLetter.from_json(value) for value in records(settings, "dead-letters")]
    assert [(letter.offset, letter.error_type) for letter in letters] == [(0, "invalid_json"), (1, "unsafe_job_id")]
    assert not (Path(settings.data_dir) / "outside").exists()
    assert updates(settings)[-1] == (job.job_id, "validated")
