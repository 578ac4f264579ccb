"""One training job from its request to its end state, run once however often it is requested."""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from schemas.events import JobState, JobUpdate, TrainingJob
from streams.launcher import LOG_NAME, Command, launch
from trainers.files import write_atomically
from trainers.jobs.snapshot import RESULT_NAME, write_job

log = logging.getLogger("tierstream.trainer")

STATE_NAME = "state.json"
LOCK_NAME = "lock"
_POLL_SECONDS = 0.2
_TERMINATE_SECONDS = 5.0

Publish = Callable[[JobUpdate], Awaitable[None]]


class JobRunner:
    """Runs one job in `jobs/<job_id>`.

    Args:
        job: the request.
        data_dir: the data directory.
        command: makes the command of the job's process.
        max_attempts: tries before a job whose process crashes is failed.
        publish: sends a job update and waits until the broker has it.

    Raises:
        JobError: the job's id is no plain name.
        OSError: the job's folder cannot be written.
    """

    def __init__(self, job: TrainingJob, data_dir: Path, command: Command, max_attempts: int, publish: Publish) -> None:
        self._job = job
        self._command = command
        self._max_attempts = max_attempts
        self._publish = publish
        self._folder = write_job(data_dir, job)
        self._attempt = 1

    async def run(self) -> JobState:
        """Bring the job to its end state, or repeat that state where it has one, and return it."""
        async with _locked(self._folder / LOCK_NAME) as lock:
            self._attempt = _recorded_attempt(self._folder)
            result = read_result(self._folder)
            if result is None:
                await self._say("queued")
                result = await self._run_attempts(lock)
        await self._say(result["state"], progress=1.0, metrics=result["metrics"], error=result["error"])
        state: JobState = result["state"]
        return state

    async def _run_attempts(self, lock: int) -> dict[str, Any]:
        while True:
            await self._say("running")
            code = await self._run_process(lock)
            result = read_result(self._folder)
            if result is not None:
                return result
            crash = f"the job's process ended with {code} and no result on attempt {self._attempt}"
            log.error("job %s: %s; its log is %s", self._job.job_id, crash, self._folder / LOG_NAME)
            if self._attempt >= self._max_attempts:
                failure = {"state": "failed", "metrics": {}, "error": crash}
                write_atomically(self._folder / RESULT_NAME, json.dumps(failure).encode())
                return failure
            self._attempt += 1
            await self._say("queued", error=crash)

    async def _run_process(self, lock: int) -> int:
        tail = LogTail(self._folder / LOG_NAME)
        process = launch(self._command(self._folder), self._folder, lock)
        try:
            while process.poll() is None:
                await asyncio.sleep(_POLL_SECONDS)
                if (progress := tail.newest_progress()) is not None:
                    await self._say("running", **progress)
        except asyncio.CancelledError:
            # We are told to stop, and the job with us; it starts again from its snapshot.
            _end(process)
            raise
        return process.returncode

    async def _say(
        self,
        state: JobState,
        progress: float = 0.0,
        metrics: dict[str, JsonValue] | None = None,
        error: str | None = None,
    ) -> None:
        update = JobUpdate(
            job_id=self._job.job_id,
            tier=self._job.tier,
            state=state,
            progress=progress,
            metrics=metrics or {},
            error=error,
            attempt=self._attempt,
            timestamp=datetime.now(UTC),
        )
        write_atomically(self._folder / STATE_NAME, update.to_json())
        await self._publish(update)


class LogTail:
    """Reads the lines of progress that a job's process appends to its log from now on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = path.stat().st_size if path.exists() else 0

    def newest_progress(self) -> dict[str, Any] | None:
        """Return `progress` and `metrics` of the newest whole line that tells them, if there is a new one."""
        with self._path.open("rb") as file:
            file.seek(self._offset)
            lines, newline, _ = file.read().rpartition(b"\n")
        self._offset += len(lines) + len(newline)
        for line in reversed(lines.splitlines()):
            if (progress := parse_progress(line)) is not None:
                return progress
        return None


def parse_progress(line: bytes) -> dict[str, Any] | None:
    """Return `progress` and `metrics` of a line of a job's log, or None for any other line."""
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or not isinstance(content.get("progress"), (int, float)):
        return None
    metrics = content.get("metrics")
    return {
        "progress": min(max(content["progress"], 0.0), 1.0),
        "metrics": metrics if isinstance(metrics, dict) else {},
    }


def read_result(folder: Path) -> dict[str, Any] | None:
    """Return the end state that a job has reached: `state`, `metrics` and `error`; None before it has."""
    try:
        content = json.loads((folder / RESULT_NAME).read_bytes())
    except FileNotFoundError:
        return None
    return {"state": content["state"], "metrics": content.get("metrics") or {}, "error": content.get("error")}


def _recorded_attempt(folder: Path) -> int:
    try:
        return JobUpdate.from_json((folder / STATE_NAME).read_bytes()).attempt
    except FileNotFoundError:
        return 1


@asynccontextmanager
async def _locked(path: Path) -> AsyncIterator[int]:
    """Hold the job's lock, waiting for a process of an earlier trainer that still runs the job."""
    with path.open("wb") as file:
        while True:
            if _try_lock(file.fileno()):
                break
            await asyncio.sleep(_POLL_SECONDS)
        yield file.fileno()


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_TERMINATE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
