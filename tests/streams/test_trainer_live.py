"""The trainer on a real broker: each job once, whatever is repeated or killed."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from schemas.events import DeadLetter, JobAction, JobControl, JobUpdate, ModelVersion, Trace, TrainingJob
from schemas.settings import Settings
from streams.admin import ensure_topics
from streams.client import Producer
from streams.kafka_options import client_options
from streams.lag import measure_lag
from streams.topology import topic_specs
from streams.training.log import parse_progress
from tests.trainers.jobs import tiny
from tests.trainers.jobs.tiny import NOON
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


def control(settings: Settings, job_id: str, action: JobAction) -> None:
    async def send() -> None:
        async with Producer(settings) as producer:
            await producer.send("training-jobs", JobControl(job_id=job_id, action=action, requested_at=NOON))

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
        variables["TIERSTREAM_JOBS__RETRY_DELAY"] = "100ms"
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


def test_a_bad_dataset_fails_its_job_and_the_next_one_is_trained(settings: Settings, tmp_path: Path) -> None:
    """The real processes on a tiny model: the failed job is retried once its dataset is there again."""
    base = tiny.build_model(tmp_path / "base")
    wanted = settings.model_copy(update={"jobs": tiny.settings(base, max_steps=2, batch_size=2).jobs})
    bad = TrainingJob.from_json((tiny.job(tmp_path, "sft", tiny.traces(12), wanted) / "job.json").read_bytes())
    dataset = tmp_path / bad.dataset_path
    whole = dataset.read_bytes()
    dataset.write_bytes(b"{}\n")
    request(settings, bad)
    with Trainer(settings) as process:
        wait_for(lambda: committed(settings) == 1)
        failed = JobUpdate.from_json(records(settings, "job-updates")[-1])
        assert failed.state == "failed"
        assert "sha256" in str(failed.error)
        assert dataset.read_bytes() == b"{}\n"
        dataset.write_bytes(whole)
        control(settings, bad.job_id, "retry")
        wait_for(lambda: committed(settings) == 2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    last = JobUpdate.from_json(records(settings, "job-updates")[-1])
    assert (last.state, last.metrics["steps"]) == ("finished", 2)
    promoted = [ModelVersion.from_json(value) for value in records(settings, "model-versions")]
    assert [version.version for version in promoted] == ([last.metrics["version"]] if last.metrics["promoted"] else [])


def test_job_is_cancelled_while_it_runs_and_the_trainer_goes_on(settings: Settings) -> None:
    long, short = make_job(settings, 1), make_job(settings, 2)
    request(settings, long, short)
    folder = Path(settings.data_dir) / "jobs" / long.job_id
    program = SLOW_JOB.replace("sleep(2)", f"sleep(600 if folder.name == {long.job_id!r} else 0)")
    with Trainer(settings, program):
        wait_for(lambda: (folder / "runs").exists())
        control(settings, long.job_id, "cancel")
        wait_for(lambda: committed(settings) == 3)
    ends = dict(updates(settings))
    assert ends == {long.job_id: "cancelled", short.job_id: "validated"}


def test_control_of_a_job_that_nobody_requested_is_set_aside(settings: Settings) -> None:
    control(settings, "dpo-1", "cancel")
    with Trainer(settings, QUICK_JOB):
        wait_for(lambda: committed(settings) == 1)
    letters = [DeadLetter.from_json(value) for value in records(settings, "dead-letters")]
    assert [letter.error_type for letter in letters] == ["unknown_job"]


KILLED_STEPS = 150


def losses_of(folder: Path) -> list[float]:
    found: list[float] = json.loads((folder / "result.json").read_bytes())["metrics"]["losses"]
    return found


def step_of(folder: Path) -> int:
    """The newest step that the job's log tells of."""
    lines = (folder / "log.txt").read_text().splitlines() if (folder / "log.txt").exists() else []
    steps = [
        found.metrics["step"] for line in lines if (found := parse_progress(line.encode())) and "step" in found.metrics
    ]
    return int(steps[-1]) if steps else 0


@pytest.mark.slow
def test_job_killed_then_its_trainer_then_both_trains_every_step_once(settings: Settings, tmp_path: Path) -> None:
    base = tiny.build_model(tmp_path / "base")
    training = tiny.settings(base, max_steps=KILLED_STEPS, batch_size=1, checkpoint_interval=0.001).jobs
    wanted = settings.model_copy(update={"jobs": training})
    undisturbed = tiny.job(tmp_path / "undisturbed", "sft", tiny.traces(12), wanted)
    folder = tiny.job(tmp_path, "sft", tiny.traces(12), wanted)
    alone = subprocess.Popen([sys.executable, "-m", "trainers.jobs.sft", str(undisturbed)], stdout=subprocess.DEVNULL)
    request(settings, TrainingJob.from_json((folder / "job.json").read_bytes()))

    def kill_job() -> None:
        os.killpg(json.loads((folder / "lock").read_bytes())["pid"], signal.SIGKILL)

    with Trainer(settings) as process:
        wait_for(lambda: step_of(folder) >= random.randint(3, 12))
        kill_job()
        wait_for(lambda: step_of(folder) >= random.randint(15, 25))
        process.kill()
    with Trainer(settings) as process:
        wait_for(lambda: step_of(folder) >= random.randint(30, 45))
        process.kill()
        kill_job()
    with Trainer(settings):
        wait_for(lambda: committed(settings) == 1)
    assert alone.wait(WAIT_SECONDS) == 0
    told = [JobUpdate.from_json(value) for value in records(settings, "job-updates")]
    assert [update.state for update in told].count("finished") == 1
    assert told[-1].metrics["steps"] == KILLED_STEPS
    assert told[-1].attempt == 3
    assert losses_of(folder) == pytest.approx(losses_of(undisturbed), abs=1e-4)


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
