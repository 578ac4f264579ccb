"""What a job's folder says of the job: its request, state, end and the last control that was given."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import JsonValue, ValidationError

from schemas.errors import JobError
from schemas.events import JobState, JobUpdate, TrainingJob
from streams.training.lock import is_held
from trainers.files import write_atomically
from trainers.jobs.snapshot import DATASET_NAME, JOB_NAME, RESULT_NAME, job_folder

STATE_NAME = "state.json"
CONTROL_NAME = "control.json"

SeenState = JobState | Literal["requested", "interrupted"]
"""A job's state, `requested` before a trainer has seen it, `interrupted` where its process died with its trainer."""

END_STATES = frozenset({"validated", "finished", "failed", "cancelled"})


@dataclass(frozen=True, slots=True)
class Result:
    """The end that a job has come to."""

    state: JobState
    metrics: dict[str, JsonValue] = field(default_factory=dict)
    error: str | None = None
    version: str | None = None
    """The version that was trained, where the job finished."""
    promoted: bool = False
    """Whether that version is in use from now on."""

    def figures(self) -> dict[str, JsonValue]:
        """Return the metrics, with the version and whether it was promoted where there is one."""
        if self.version is None:
            return self.metrics
        return {**self.metrics, "version": self.version, "promoted": self.promoted}

    def write(self, folder: Path) -> None:
        """Write `result.json`.

        Raises:
            OSError: the disk is full, or the folder cannot be written.
        """
        content = {"state": self.state, "metrics": self.metrics, "error": self.error}
        write_atomically(folder / RESULT_NAME, json.dumps(content).encode())


def read_result(folder: Path) -> Result | None:
    """Return the end state that a job has reached; None before it has."""
    content = _read(folder / RESULT_NAME)
    if content is None:
        return None
    return Result(
        content["state"],
        content.get("metrics") or {},
        content.get("error"),
        content.get("version"),
        bool(content.get("promoted")),
    )


def read_state(folder: Path) -> JobUpdate | None:
    """Return the last update that was published of a job; None if there is none."""
    try:
        return JobUpdate.from_json((folder / STATE_NAME).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def read_job(folder: Path) -> TrainingJob | None:
    """Return the request, None where no trainer has seen it yet."""
    try:
        return TrainingJob.from_json((folder / JOB_NAME).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


@dataclass(frozen=True, slots=True)
class Control:
    """The last control that took effect on a job."""

    offset: int = -1
    """Where it stands in `training-jobs`; older ones change nothing any more."""
    action: Literal["retry", "cancel"] | None = None

    def write(self, folder: Path) -> None:
        """Write `control.json`.

        Raises:
            OSError: the disk is full, or the folder cannot be written.
        """
        write_atomically(folder / CONTROL_NAME, json.dumps({"offset": self.offset, "action": self.action}).encode())


def read_control(folder: Path) -> Control:
    """Return the last control of a job."""
    content = _read(folder / CONTROL_NAME)
    return Control() if content is None else Control(content["offset"], content["action"])


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as a person sees it."""

    job_id: str
    tier: str
    state: SeenState
    progress: float
    attempt: int
    eta_seconds: float | None
    examples: int | None
    requested_at: datetime | None
    updated_at: datetime | None
    metrics: dict[str, Any]
    error: str | None
    version: str | None
    promoted: bool
    folder: str


def view_job(folder: Path) -> JobView:
    """Put together what a job's folder says."""
    job, told, result = read_job(folder), read_state(folder), read_result(folder)
    running = told is not None and told.state == "running"
    state: SeenState = "requested" if told is None else told.state
    if result is not None:
        state = result.state
    elif running and not is_held(folder):
        state = "interrupted"
    ended = result is not None
    return JobView(
        job_id=folder.name,
        tier=job.tier if job else folder.name.partition("-")[0],
        state=state,
        progress=1.0 if ended else told.progress if told else 0.0,
        attempt=told.attempt if told else 1,
        eta_seconds=told.eta_seconds if told and state == "running" else None,
        examples=job.example_count if job else None,
        requested_at=job.requested_at if job else None,
        updated_at=told.timestamp if told else None,
        metrics=result.metrics if result else dict(told.metrics) if told else {},
        error=result.error if result else told.error if told else None,
        version=result.version if result else None,
        promoted=result.promoted if result else False,
        folder=str(folder),
    )


def view_jobs(data_dir: Path) -> list[JobView]:
    """Return every job of a data directory, by the time of its request, those without one last."""
    folders = [path for path in (data_dir / "jobs").glob("*") if (path / DATASET_NAME).exists() or read_job(path)]
    views = [view_job(folder) for folder in folders]
    return sorted(
        views, key=lambda v: (v.requested_at is None, v.requested_at and v.requested_at.timestamp(), v.job_id)
    )


def find_job(data_dir: Path, name: str) -> JobView:
    """Return a job by its id, or by the beginning of it that no other job has.

    Raises:
        JobError: there is none, or there are several.
    """
    if job_folder(data_dir, name).is_dir():
        return view_job(job_folder(data_dir, name))
    found = [view for view in view_jobs(data_dir) if view.job_id.startswith(name)]
    if not found:
        raise JobError(f"no job {name} in {data_dir / 'jobs'}", "tierstream jobs list names them")
    if len(found) > 1:
        raise JobError(f"{len(found)} jobs begin with {name}", f"the first is {found[0].job_id}")
    return found[0]


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    return content
