"""One training job from its request to its end state, run once however often it is requested."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

from schemas.events import JobState, JobUpdate, ModelVersion, TrainingJob
from streams.training.folder import STATE_NAME, Control, Result, read_control, read_job, read_result, read_state
from streams.training.launcher import Command, end, how_it_ended, job_variables, launch
from streams.training.lock import JobLock
from streams.training.log import LOG_NAME, LogTail, Progress, last_words
from trainers.files import write_atomically
from trainers.jobs.snapshot import CHECKPOINTS, RESULT_NAME, job_folder, write_job

log = logging.getLogger("tierstream.trainer")

POLL_SECONDS = 0.2
TELL_EVERY_SECONDS = 1.0
LONGEST_RETRY_DELAY_SECONDS = 600.0

Publish = Callable[[JobUpdate | ModelVersion], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Attempts:
    """How often a job whose process crashes is tried."""

    most: int
    """Tries before it is failed."""
    delay_seconds: float
    """Pause before the second try; each later one is twice as long, up to ten minutes."""

    def pause_before(self, attempt: int) -> float:
        """Return the seconds to wait before a try."""
        return float(min(self.delay_seconds * 2 ** (attempt - 2), LONGEST_RETRY_DELAY_SECONDS))


class JobRunner:
    """Runs one job in `jobs/<job_id>`.

    Args:
        job: the request.
        data_dir: the data directory.
        command: makes the command of the job's process.
        attempts: how often a job whose process crashes is tried.
        publish: sends an update or a promoted version and waits until the broker has it.
        variables: of the job's process, beside those that every job has.

    Raises:
        JobError: the job's id is no plain name.
        OSError: the job's folder cannot be written.
    """

    def __init__(
        self,
        job: TrainingJob,
        data_dir: Path,
        command: Command,
        attempts: Attempts,
        publish: Publish,
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._job = job
        self._data_dir = data_dir
        self._command = command
        self._attempts = attempts
        self._publish = publish
        self._variables = variables
        self._folder = job_folder(data_dir, job.job_id)
        self._attempt = 1
        self._pace = Pace()
        if read_control(self._folder).offset >= 0:
            # The request may come again after a retry with other settings, which stay.
            self._job = read_job(self._folder) or job
        write_job(data_dir, self._job)

    async def announce(self) -> None:
        """Say that the job waits, where nothing was said of it before."""
        if read_state(self._folder) is None and read_result(self._folder) is None:
            await self._say("queued")

    async def run(self, retry: int | None = None, renewed: TrainingJob | None = None) -> JobState:
        """Bring the job to its end state, or repeat that state where it has one, and return it.

        Args:
            retry: offset of a control that wants a job that failed or was cancelled to be run again.
            renewed: the job as that control wants it, where it wants other settings.

        Raises:
            OSError: the disk is full, or the job's folder cannot be written.
        """
        async with self._locked() as lock:
            if retry is not None:
                self._forget_end(retry, renewed)
            told = read_state(self._folder)
            self._attempt = told.attempt if told else 1
            result = read_result(self._folder)
            if result is None:
                result = await self._bring_to_end(lock, interrupted=told is not None and told.state == "running")
        await self._say(result.state, Progress(1.0, result.figures()), error=result.error)
        return result.state

    def _forget_end(self, retry: int, renewed: TrainingJob | None) -> None:
        """Make the job one that was never tried; its log stays. A control is obeyed once.

        Its checkpoints stay as well, but where it has other settings.
        """
        result = read_result(self._folder)
        if read_control(self._folder).offset >= retry or (result is not None and result.state == "finished"):
            return
        if renewed is not None and renewed != self._job:
            shutil.rmtree(self._folder / CHECKPOINTS, ignore_errors=True)
            self._job = renewed
            write_job(self._data_dir, renewed)
        (self._folder / RESULT_NAME).unlink(missing_ok=True)
        (self._folder / STATE_NAME).unlink(missing_ok=True)
        Control(retry, "retry").write(self._folder)

    async def _bring_to_end(self, lock: JobLock, interrupted: bool) -> Result:
        # A process that ended while no trainer lived to see it may be what ended the trainer too, so it counts.
        crash = "ended with the trainer that watched it" if interrupted else None
        if crash is None:
            await self._say("queued")
        while not self._is_cancelled():
            if crash is not None:
                crash = f"the job's process {crash} and left no result on attempt {self._attempt}"
                log.error("job %s: %s; its log is %s", self._job.job_id, crash, self._folder / LOG_NAME)
                if self._attempt >= self._attempts.most:
                    return self._ended(Result("failed", error=crash))
                self._attempt += 1
                await self._say("queued", error=crash)
                await self._pause()
                if self._is_cancelled():
                    break
            await self._say("running")
            code = await self._run_process(lock)
            if (result := read_result(self._folder)) is not None:
                return result
            words = last_words(self._folder / LOG_NAME)
            crash = how_it_ended(code) + (f" (it last said: {words})" if words else "")
        return self._ended(Result("cancelled", error="cancelled on request"))

    async def _run_process(self, lock: JobLock) -> int:
        """Run the job's process to its end, or end it where the job is cancelled, and return its exit status."""
        tail = LogTail(self._folder / LOG_NAME)
        command = self._command(self._job.tier, self._folder)
        variables = {**job_variables(self._job.base_model, self._data_dir, os.environ), **self._variables}
        process = launch(command, self._folder, lock.fileno(), self._attempt, variables)
        try:
            lock.note_process(process.pid)
            while process.poll() is None:
                await asyncio.sleep(POLL_SECONDS)
                if self._is_cancelled():
                    break
                await self._tell_progress(tail)
        except asyncio.CancelledError:
            # We are to stop, and the job with us; that is no crash, and it goes on from its checkpoint.
            end(process)
            self._note("queued", Progress(0.0), None)
            raise
        finally:
            if process.poll() is None:
                await asyncio.to_thread(end, process)
        return process.returncode

    async def _tell_progress(self, tail: LogTail) -> None:
        if self._pace.is_due() and (progress := tail.newest_progress()) is not None:
            self._pace.told(progress)
            await self._say("running", progress)

    async def _pause(self) -> None:
        until = time.monotonic() + self._attempts.pause_before(self._attempt)
        while not self._is_cancelled():
            seconds = until - time.monotonic()
            if seconds <= 0:
                break
            await asyncio.sleep(min(seconds, POLL_SECONDS))

    def _is_cancelled(self) -> bool:
        return read_control(self._folder).action == "cancel"

    def _ended(self, result: Result) -> Result:
        result.write(self._folder)
        return result

    @asynccontextmanager
    async def _locked(self) -> AsyncIterator[JobLock]:
        """Hold the job's lock; until it is free, tell how far the runner or process that has it is."""
        tail = LogTail(self._folder / LOG_NAME)
        with JobLock(self._folder) as lock:
            while not lock.attempt():
                told = read_state(self._folder)
                self._attempt = told.attempt if told else 1
                if self._is_cancelled() and lock.end_holder():
                    log.info("job %s: told the process that runs it to end", self._job.job_id)
                    await asyncio.sleep(TELL_EVERY_SECONDS)
                await self._tell_progress(tail)
                await asyncio.sleep(POLL_SECONDS)
            yield lock

    async def _say(self, state: JobState, progress: Progress | None = None, error: str | None = None) -> None:
        await self._publish(self._note(state, progress or Progress(0.0), error))

    def _note(self, state: JobState, progress: Progress, error: str | None) -> JobUpdate:
        update = JobUpdate(
            job_id=self._job.job_id,
            tier=self._job.tier,
            state=state,
            progress=progress.share,
            metrics=progress.metrics,
            error=error,
            attempt=self._attempt,
            eta_seconds=self._pace.seconds_left(progress.share) if state == "running" else None,
            timestamp=datetime.now(UTC),
        )
        write_atomically(self._folder / STATE_NAME, update.to_json())
        return update


class Pace:
    """How fast a job's progress grows, and when to report it next."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._first: tuple[float, float] | None = None
        self._stage: object = None
        self._last_at = float("-inf")

    def is_due(self) -> bool:
        """Whether the last progress was told long enough ago."""
        return self._clock() - self._last_at >= TELL_EVERY_SECONDS

    def told(self, progress: Progress) -> None:
        """Take note of reported progress; each stage has its own pace, and a new attempt falls back."""
        self._last_at = self._clock()
        stage = progress.metrics.get("stage")
        if self._first is None or progress.share < self._first[1] or stage != self._stage:
            self._first, self._stage = (self._last_at, progress.share), stage

    def seconds_left(self, share: float) -> float | None:
        """Return the seconds until the end at the pace so far, None while no pace is known."""
        if self._first is None or share <= self._first[1]:
            return None
        at, start = self._first
        return round((1.0 - share) * (self._clock() - at) / (share - start), 1)
