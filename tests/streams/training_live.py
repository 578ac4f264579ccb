"""A trainer on a real broker for tests: settings, requests, what is told of jobs, and the process itself."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.events import JobAction, JobControl, JobUpdate, Trace, TrainingJob
from schemas.settings import Settings
from streams.client import Producer
from streams.kafka.admin import ensure_topics
from streams.kafka.lag import measure_lag
from streams.kafka.options import client_options
from streams.topics import topic_specs
from streams.training.log import parse_progress
from tests.trainers.jobs.tiny import NOON
from trainers.jobs.accumulate import CompletedRun
from trainers.jobs.snapshot import freeze_job

WAIT_SECONDS = 180.0
"""A busy machine takes half a minute for a job's imports alone."""


def live_settings(bootstrap: str, prefix: str, data_dir: Path) -> Settings:
    """Return settings of a trainer, its topics made."""
    settings = Settings.model_validate(
        {
            "data_dir": str(data_dir),
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


def step_of(folder: Path) -> int:
    """Return the newest step that a job's log tells of."""
    lines = (folder / "log.txt").read_bytes().splitlines() if (folder / "log.txt").exists() else []
    steps = [found.metrics["step"] for line in lines if (found := parse_progress(line)) and "step" in found.metrics]
    return int(steps[-1]) if steps else 0


class Trainer:
    """A trainer process.

    Args:
        settings: its data directory, broker and topics.
        program: Python that stands for a job's process; by default jobs are trained.
        variables: of the environment, beside this process's own.
    """

    def __init__(self, settings: Settings, program: str | None = None, **variables: str) -> None:
        script = str(Path(__file__).with_name("trainer_with.py"))
        environment = [settings.model_dump_json(), program] if program else []
        flags = ["--data-dir", settings.data_dir, "--bootstrap-servers", settings.kafka.bootstrap_servers]
        command = [script, *environment] if program else ["-m", "streams.cli", "trainer", *flags]
        set_here = {
            "TIERSTREAM_TOPICS__PREFIX": settings.topics.prefix,
            "TIERSTREAM_KAFKA__SESSION_TIMEOUT": "6s",
            "TIERSTREAM_JOBS__RETRY_DELAY": "100ms",
        }
        self.process = subprocess.Popen(
            [sys.executable, *command], stderr=subprocess.DEVNULL, env={**os.environ, **set_here, **variables}
        )

    def __enter__(self) -> subprocess.Popen[bytes]:
        return self.process

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
