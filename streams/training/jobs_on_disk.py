"""What a job's folder says of it, for those who report on jobs and do not run them."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from streams.training.folder import STATE_NAME
from trainers.jobs.snapshot import DATASET_NAME, JOB_NAME, RESULT_NAME


def read_json(path: Path) -> dict[str, Any] | None:
    """Return a file's JSON object; None where the file is absent or holds none."""
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def job_folders(data_dir: Path) -> list[Path]:
    """Return the folders of all jobs."""
    parent = data_dir / "jobs"
    return sorted(path for path in parent.iterdir() if path.is_dir()) if parent.is_dir() else []


def job_on_disk(folder: Path) -> dict[str, Any] | None:
    """Return a job's request, newest state and result, and what follows from them; None before it has a request."""
    request = read_json(folder / JOB_NAME)
    if request is None:
        return None
    state, result = read_json(folder / STATE_NAME) or {}, read_json(folder / RESULT_NAME)
    requested_at = datetime.fromisoformat(request["requested_at"]).timestamp()
    ended_at = (folder / RESULT_NAME).stat().st_mtime if result is not None else None
    merged = {**state, **(result or {})}
    told = state.get("timestamp")
    return {
        "job_id": folder.name,
        "tier": request["tier"],
        "state": merged.get("state", "queued"),
        "progress": 1.0 if result is not None else state.get("progress", 0.0),
        "attempt": state.get("attempt", 1),
        "metrics": merged.get("metrics") or {},
        "error": merged.get("error"),
        "version": merged.get("version"),
        "promoted": merged.get("promoted"),
        "requested_at": requested_at,
        "updated_at": ended_at or (datetime.fromisoformat(told).timestamp() if told else requested_at),
        "seconds": None if ended_at is None else round(ended_at - requested_at, 3),
        "request": request,
    }


def jobs_seen(data_dir: Path) -> list[dict[str, Any]]:
    """Return what a scrape tells of every job; one that no trainer has taken yet is queued since its dataset is there.

    Raises:
        OSError: a folder cannot be read.
    """
    seen = []
    for folder in job_folders(data_dir):
        if (job := job_on_disk(folder)) is not None:
            del job["request"]  # its settings and rules are the audit's
            seen.append(job)
        elif (dataset := folder / DATASET_NAME).exists():
            at = dataset.stat().st_mtime
            seen.append(
                {"job_id": folder.name, "tier": folder.name.partition("-")[0], "state": "queued", "progress": 0.0}
                | {"metrics": {}, "error": None, "version": None, "seconds": None, "requested_at": at, "updated_at": at}
            )
    return seen
