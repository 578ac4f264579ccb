"""`tierstream trainer`: takes training jobs in the topic's order and runs each as its own process.

Records are read while jobs run, so that a control reaches the job it is about. An offset is committed once every job
before it has reached an end state that the broker has acknowledged, so a trainer that is killed takes its jobs up
again; `training.runner` sees to it that each runs only once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError
from aiokafka.structs import ConsumerRecord
from pydantic import ValidationError

from schemas.errors import ConnectionFailedError, JobError, TierstreamError
from schemas.events import JobControl, JobUpdate, ModelVersion, TrainingJob
from schemas.extras import require
from schemas.settings import Settings
from streams.client import Producer
from streams.kafka.admin import ensure_topics
from streams.kafka.consumer import Consumer, Unreadable
from streams.kafka.dead_letters import UNREADABLE, dead_letter, explain
from streams.kafka.lag import trainer_group
from streams.kafka.options import broker_errors
from streams.state.manifest import check_state, make_data_dir
from streams.topics import DEAD_LETTERS, JOB_UPDATES, JOBS, MODEL_VERSIONS, topic_specs
from streams.training.controls import renewed
from streams.training.display import display
from streams.training.folder import Control, read_control, read_job, read_result
from streams.training.launcher import LAUNCHERS, Command
from streams.training.model_versions import publish_changes
from streams.training.records import parse
from streams.training.runner import Attempts, JobRunner
from trainers.jobs.snapshot import job_folder
from trainers.retention import remove, superfluous
from trainers.serving import job_variables, keep_up, refusals
from trainers.versions import VersionStore

log = logging.getLogger("tierstream.trainer")

_FOREVER_MS = 2**31 - 1
"""A trainer need not poll for its partition; heartbeats alone tell that it lives."""

SERVED_EVERY_SECONDS = 5.0
"""Between looks at whether the server that answers from versions has the one in use."""

Show = Callable[[JobUpdate], None]


def run(settings: Settings) -> None:
    """Run jobs until SIGTERM or SIGINT; a job that is running is ended and goes on next time.

    Raises:
        ConnectionFailedError: the broker cannot be reached.
        TopicsError: the topics are not as the settings say.
        StateError: the data directory was written under other settings.
        JobError: the launcher that is set cannot be used.
        MissingExtraError: what trains models is not installed.
    """
    require("train")
    with display(settings.stream.log_level) as show:
        asyncio.run(_run_until_told(settings, show))


async def _run_until_told(settings: Settings, show: Show) -> None:
    loop = asyncio.get_running_loop()
    working = asyncio.ensure_future(_prepare_and_work(settings, show))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, working.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await working


async def _prepare_and_work(settings: Settings, show: Show) -> None:
    command = LAUNCHERS[settings.jobs.launcher](settings)
    make_data_dir(settings)
    check_state(settings)
    await asyncio.to_thread(_prune, settings)
    await ensure_topics(settings, topic_specs(settings))
    await work(settings, command, show)


def _prune(settings: Settings) -> None:
    try:
        deque(remove(superfluous(settings, time.time())), maxlen=0)
    except (OSError, TierstreamError) as error:
        log.warning("nothing was pruned: %s", error)


async def work(settings: Settings, command: Command | None = None, show: Show = lambda update: None) -> None:
    """Take and run jobs for ever.

    Args:
        settings: all settings.
        command: makes a job's command; by default `jobs.launcher`'s.
        show: called with every update of a job.

    Raises:
        ConnectionFailedError: the broker is lost.
        JobError: the launcher that is set cannot be used.
    """
    command = command or LAUNCHERS[settings.jobs.launcher](settings)
    consumer = Consumer.of(
        settings,
        settings.topic(JOBS),
        group_id=trainer_group(settings),
        max_poll_interval_ms=_FOREVER_MS,
        session_timeout_ms=int(settings.kafka.session_timeout * 1000),
        heartbeat_interval_ms=int(settings.kafka.session_timeout * 1000 / 4),
    )
    with broker_errors(settings):
        async with consumer, Producer(settings) as producer:
            log.info("waiting for jobs")
            serving = asyncio.ensure_future(_keep_served(settings))
            try:
                await Trainer(settings, command, show, consumer, producer).work()
            finally:
                serving.cancel()


async def _keep_served(settings: Settings) -> None:
    """See every few seconds that the server has what is in use; what it lacks is said once."""
    store, told = VersionStore(settings.data_dir), ""
    while settings.serving.url is not None:
        try:
            await asyncio.to_thread(keep_up, settings.serving, store)
            told = ""
        except (TierstreamError, OSError) as error:
            if str(error) != told:
                told = str(error)
                log.error("%s", told)
        await asyncio.sleep(SERVED_EVERY_SECONDS)


class Trainer:
    """Runs the jobs of one consumer, one after the other."""

    def __init__(
        self, settings: Settings, command: Command, show: Show, consumer: Consumer, producer: Producer
    ) -> None:
        self._settings = settings
        self._data_dir = Path(settings.data_dir)
        self._command = command
        self._show = show
        self._consumer = consumer
        self._producer = producer
        self._attempts = Attempts(settings.jobs.max_attempts, settings.jobs.retry_delay)
        # A version continues from the one in use, whichever tier made that, so jobs wait for each other.
        self._turn = asyncio.Lock()
        self._open: set[int] = set()
        self._next = 0
        self._committed: int | None = None

    async def work(self) -> None:
        """Take records for ever.

        Raises:
            ConnectionFailedError: the broker does not take an update.
        """
        try:
            # Promotions that another trainer, or we before a crash, did not come to tell of.
            await publish_changes(self._data_dir, self._publish)
            async with asyncio.TaskGroup() as jobs:
                async for record in self._consumer:
                    await self._take(record, jobs)
        except* (ConnectionFailedError, OSError) as group:
            raise group.exceptions[0] from None

    async def _take(self, record: ConsumerRecord, jobs: asyncio.TaskGroup) -> None:
        if record.offset in self._open:
            return  # it comes again after a rebalance, and its job is still being run here
        self._next = record.offset + 1
        if self._committed is None:
            self._committed = record.offset
        try:
            if isinstance(record, Unreadable):
                await self._set_aside(record, UNREADABLE, record.reason)
                await self._commit(record)
                return
            parsed = parse(record.value or b"")
            folder = job_folder(self._data_dir, parsed.job_id)
        except ValidationError as error:
            await self._set_aside(record, *explain(error))
        except JobError as error:
            await self._set_aside(record, "unsafe_job_id", str(error))
        else:
            job = parsed if isinstance(parsed, TrainingJob) else read_job(folder)
            if job is None:
                await self._set_aside(record, "unknown_job", f"no job {parsed.job_id} was requested before")
            elif isinstance(parsed, JobControl) and parsed.action == "cancel":
                self._cancel(folder, record.offset)
            else:
                self._open.add(record.offset)
                jobs.create_task(self._run(job, record, parsed if isinstance(parsed, JobControl) else None))
        await self._commit(record)

    def _cancel(self, folder: Path, offset: int) -> None:
        if read_control(folder).offset >= offset or read_result(folder) is not None:
            log.info("job %s: it had ended before it was to be cancelled", folder.name)
            return
        try:
            # Whoever runs the job, or will, looks for this.
            Control(offset, "cancel").write(folder)
        except OSError as error:
            log.error("job %s cannot be cancelled: %s", folder.name, error.strerror)

    async def _run(self, job: TrainingJob, record: ConsumerRecord, retry: JobControl | None) -> None:
        try:
            variables = job_variables(self._settings.serving)
            runner = JobRunner(job, self._data_dir, self._command, self._attempts, self._publish, variables)
            await runner.announce()
            async with self._turn:
                if retry is None:
                    await runner.run()
                else:
                    await runner.run(record.offset, renewed(job, retry))
            for note in refusals(self._data_dir).values():
                log.error("%s is not served: %s", note.version, note.reason)
            await publish_changes(self._data_dir, self._publish)
        except OSError as error:
            # The folder cannot tell of it; the topic does, and a retry goes on once there is room.
            reason = f"the job's folder cannot be written: {error.strerror or error}"
            failed = JobUpdate(
                job_id=job.job_id, tier=job.tier, state="failed", error=reason, timestamp=datetime.now(UTC)
            )
            await self._publish(failed)
        self._open.discard(record.offset)
        await self._commit(record)

    async def _publish(self, event: JobUpdate | ModelVersion) -> None:
        if isinstance(event, ModelVersion):
            await self._producer.send(MODEL_VERSIONS, event)
            log.info("%s: version %s is in use: %s", event.line, event.version, event.reason)
            return
        await self._producer.send(JOB_UPDATES, event)
        self._show(event)

    async def _set_aside(self, record: ConsumerRecord, kind: str, line: str) -> None:
        log.error("offset %d is dead-lettered: %s", record.offset, line)
        letter = dead_letter(record.topic, record.partition, record.offset, record.key, record.value, kind, line)
        await self._producer.send(DEAD_LETTERS, letter, record.key)

    async def _commit(self, record: ConsumerRecord) -> None:
        """Commit up to the first job that has not ended."""
        upto = min(self._open, default=self._next)
        if upto == self._committed:
            return
        try:
            await self._consumer.commit({TopicPartition(record.topic, record.partition): upto})
            self._committed = upto
        except (CommitFailedError, IllegalStateError):
            # Another trainer has the partition now; it finds the results and repeats them.
            log.warning("offset %d was not committed: the partition has moved to another trainer", upto)
