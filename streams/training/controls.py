"""Asking for a job to be run again or ended: a control record on `training-jobs`, where whoever trains sees it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from schemas.errors import JobError
from schemas.events import JobAction, JobControl, TrainingJob
from schemas.settings import Settings
from streams.client import Producer
from streams.kafka.lag import members_of, trainer_group
from streams.topics import JOBS
from streams.training.folder import JobView, find_job, read_job
from streams.training.log import flat
from trainers.jobs.snapshot import tier_settings


def check_control(view: JobView, action: JobAction) -> None:
    """Refuse what would change nothing.

    Raises:
        JobError: a job that runs or has finished is to be run again, or one that has ended is to be ended.
    """
    if action == "retry" and view.state not in ("failed", "cancelled", "interrupted"):
        remedy = "tierstream train --now trains on newer examples" if view.state == "finished" else "cancel it first"
        raise JobError(f"job {view.job_id} is {view.state}, so there is nothing to run again", remedy)
    if action == "cancel" and view.state not in ("requested", "queued", "running", "interrupted"):
        raise JobError(f"job {view.job_id} is {view.state} already")


class Asked(NamedTuple):
    """What came of asking."""

    view: JobView
    """The job as it was."""
    trainers: int
    """How many there are to act on it."""
    changes: dict[str, tuple[Any, Any]]
    """What the job will have otherwise: by dotted name, the value that it had and the new one."""


def renewed(job: TrainingJob, retry: JobControl) -> TrainingJob:
    """Return the job as a retry wants it."""
    settings = {**job.settings, **(retry.settings or {})}
    return job.model_copy(update={"settings": settings, "base_model": retry.base_model or job.base_model})


def with_settings(retry: JobControl, job: TrainingJob, settings: Settings) -> JobControl:
    """Return a retry that takes base model, training and gate from `settings`; what its examples obeyed is past."""
    parts = {part: values for part, values in tier_settings(job.tier, settings).items() if part != "rules"}
    return retry.model_copy(update={"base_model": settings.jobs.base_model, "settings": parts})


def changed(before: TrainingJob, after: TrainingJob) -> dict[str, tuple[Any, Any]]:
    """Return in which base model and settings a job differs from what it was, as `Asked.changes`."""
    old, new = (flat({"base_model": job.base_model, **job.settings}) for job in (before, after))
    return {name: (old.get(name), value) for name, value in new.items() if old.get(name) != value}


async def ask_for(settings: Settings, name: str, action: JobAction, *, new_settings: bool = False) -> Asked:
    """Publish a control.

    Args:
        settings: all settings.
        name: of the job, or the beginning of it.
        action: what is to be done.
        new_settings: whether a job that is run again takes base model, training and gate from `settings`.

    Raises:
        JobError: there is no such job, or the control would change nothing.
        ConnectionFailedError: the broker cannot be reached.
    """
    view = find_job(Path(settings.data_dir), name)
    check_control(view, action)
    control = JobControl(job_id=view.job_id, action=action, requested_at=datetime.now(UTC))
    changes: dict[str, tuple[Any, Any]] = {}
    if new_settings and (job := read_job(Path(view.folder))) is not None:
        control = with_settings(control, job, settings)
        changes = changed(job, renewed(job, control))
    async with Producer(settings) as producer:
        await producer.send(JOBS, control)
    return Asked(view, await members_of(settings, trainer_group(settings)), changes)
