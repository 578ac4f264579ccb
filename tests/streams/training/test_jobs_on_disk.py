"""What a scrape is told of the jobs in a data directory."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from schemas.events import JobUpdate
from streams.training.folder import STATE_NAME, Result
from streams.training.jobs_on_disk import jobs_seen
from tests.streams.training.requests import job
from trainers.jobs.snapshot import DATASET_NAME, RESULT_NAME, write_job

REQUESTED = datetime(2026, 1, 1, tzinfo=UTC).timestamp()


def test_a_job_is_queued_since_its_dataset_is_there_and_its_age_is_told_in_every_state(tmp_path: Path) -> None:
    untaken = tmp_path / "jobs" / "dpo-0" / DATASET_NAME
    untaken.parent.mkdir(parents=True)
    untaken.write_bytes(b"{}\n")
    os.utime(untaken, (90.0, 90.0))
    write_job(tmp_path, job("sft-1"))
    told = JobUpdate(
        job_id="sft-2", tier="sft", state="running", progress=0.5, timestamp=datetime(2026, 1, 2, tzinfo=UTC)
    )
    (write_job(tmp_path, job("sft-2")) / STATE_NAME).write_bytes(told.to_json())
    ended = write_job(tmp_path, job("sft-3"))
    Result("failed", error="no room").write(ended)
    os.utime(ended / RESULT_NAME, (REQUESTED + 60, REQUESTED + 60))
    names = ("job_id", "tier", "state", "requested_at", "updated_at", "seconds")
    assert [tuple(one[name] for name in names) for one in jobs_seen(tmp_path)] == [
        ("dpo-0", "dpo", "queued", 90.0, 90.0, None),
        ("sft-1", "sft", "queued", REQUESTED, REQUESTED, None),
        ("sft-2", "sft", "running", REQUESTED, REQUESTED + 86_400, None),
        ("sft-3", "sft", "failed", REQUESTED, REQUESTED + 60, 60.0),
    ]
