"""Asking for a job to be run again or ended: a control record on `training-jobs`, where whoever trains sees it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from schemas.errors import JobError
from schemas.events import JobAction, JobControl
from schemas.settings import Settings
from streams.client import Producer
from streams.topology import JOBS
from streams.trainer_health import count_trainers
from streams.training.folder import JobView, find_job


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


async def ask_for(settings: Settings, name: str, action: JobAction) -> tuple[JobView, int]:
    """Publish a control, and return the job as it was and how many trainers there are to act on it.

    Raises:
        JobError: there is no such job, or the control would change nothing.
        ConnectionFailedError: the broker cannot be reached.
    """
    view = find_job(Path(settings.data_dir), name)
    check_control(view, action)
    control = JobControl(job_id=view.job_id, action=action, requested_at=datetime.now(UTC))
    async with Producer(settings) as producer:
        await producer.send(JOBS, control)
    return view, await count_trainers(settings)
