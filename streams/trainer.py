"""`tierstream trainer`: takes training jobs in the topic's order and runs each as its own process.

The request is committed once its job has reached an end state that the broker has been told of, so a
trainer that is killed takes the job up again; `job_runner` sees to it that it runs only once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections import deque
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError
from aiokafka.structs import ConsumerRecord
from pydantic import ValidationError

from schemas.errors import JobError, TierstreamError
from schemas.events import JobUpdate, TrainingJob
from schemas.settings import Settings
from streams.admin import ensure_topics
from streams.client import Producer
from streams.dead_letters import dead_letter, explain
from streams.job_runner import JobRunner
from streams.kafka_options import broker_errors, client_options
from streams.lag import trainer_group
from streams.launcher import LAUNCHERS, Command
from streams.manifest import check_state
from streams.topology import DEAD_LETTERS, JOB_UPDATES, JOBS, topic_specs
from trainers.retention import remove, superfluous

log = logging.getLogger("tierstream.trainer")

_FOREVER_MS = 2**31 - 1
"""A job may take days between two polls; heartbeats alone tell that the trainer lives."""


def run(settings: Settings) -> None:
    """Run jobs until SIGTERM or SIGINT; a job that is running is ended and starts again next time.

    Raises:
        ConnectionFailedError: the broker cannot be reached.
        TopicsError: the topics are not as the settings say.
        StateError: the data directory was written under other settings.
    """
    logging.basicConfig(level=settings.stream.log_level.upper(), format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("aiokafka").setLevel(logging.WARNING)
    asyncio.run(_run_until_told(settings))


async def _run_until_told(settings: Settings) -> None:
    loop = asyncio.get_running_loop()
    working = asyncio.ensure_future(_prepare_and_work(settings))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, working.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await working


async def _prepare_and_work(settings: Settings) -> None:
    check_state(settings)
    await asyncio.to_thread(_prune, settings)
    await ensure_topics(settings, topic_specs(settings))
    await work(settings)


def _prune(settings: Settings) -> None:
    try:
        deque(remove(superfluous(settings, time.time())), maxlen=0)
    except (OSError, TierstreamError) as error:
        log.warning("nothing was pruned: %s", error)


async def work(settings: Settings, command: Command | None = None) -> None:
    """Take and run jobs for ever.

    Args:
        settings: all settings.
        command: makes a job's command; by default `jobs.launcher`'s.

    Raises:
        ConnectionFailedError: the broker is lost.
    """
    consumer = AIOKafkaConsumer(
        settings.topic(JOBS),
        **client_options(settings),
        group_id=trainer_group(settings),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_poll_interval_ms=_FOREVER_MS,
        session_timeout_ms=int(settings.kafka.session_timeout * 1000),
        heartbeat_interval_ms=int(settings.kafka.session_timeout * 1000 / 4),
    )
    with broker_errors(settings):
        try:
            await consumer.start()
            log.info("waiting for jobs")
            async with Producer(settings) as producer:
                async for record in consumer:
                    await _handle(record, settings, producer, command or LAUNCHERS[settings.jobs.launcher])
                    await _commit(consumer, record)
        finally:
            await consumer.stop()


async def _handle(record: ConsumerRecord, settings: Settings, producer: Producer, command: Command) -> None:
    try:
        job = TrainingJob.from_json(record.value or b"")
    except ValidationError as error:
        kind, line = explain(error)
        log.error("offset %d is no job: %s", record.offset, line)
        letter = dead_letter(record.topic, record.partition, record.offset, record.key, record.value, kind, line)
        await producer.send(DEAD_LETTERS, letter, record.key)
        return

    async def publish(update: JobUpdate) -> None:
        await producer.send(JOB_UPDATES, update)

    try:
        runner = JobRunner(job, Path(settings.data_dir), command, settings.jobs.max_attempts, publish)
    except JobError as error:
        log.error("offset %d: %s", record.offset, error)
        letter = dead_letter(
            record.topic, record.partition, record.offset, record.key, record.value, "unsafe_job_id", str(error)
        )
        await producer.send(DEAD_LETTERS, letter, record.key)
        return
    log.info("job %s of %d %s examples", job.job_id, job.example_count, job.tier)
    state = await runner.run()
    log.info("job %s is %s", job.job_id, state)


async def _commit(consumer: AIOKafkaConsumer, record: ConsumerRecord) -> None:
    try:
        await consumer.commit({TopicPartition(record.topic, record.partition): record.offset + 1})
    except (CommitFailedError, IllegalStateError):
        # Another trainer has the partition now; it finds the result and repeats it.
        log.warning("offset %d was not committed: the partition has moved to another trainer", record.offset)
