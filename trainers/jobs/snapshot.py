"""A job's dataset, frozen before the job is announced, and the request to train on it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import JsonValue

from schemas.errors import JobError
from schemas.events import JobTier, TrainingJob
from schemas.settings import Settings
from trainers.files import write_atomically
from trainers.jobs.accumulate import CompletedRun

DATASET_NAME = "dataset.jsonl"
JOB_NAME = "job.json"
RESULT_NAME = "result.json"
CHECKPOINTS = "checkpoints"
RETRY = "tierstream jobs retry --new-settings"
"""The remedy where a setting is the cause: a job keeps those that it was requested with."""

_SAFE_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,127}")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A dataset on disk."""

    path: str
    """Relative to the data directory."""
    sha256: str
    """Hash of the file's bytes, hex."""
    count: int
    """Lines of the file."""


def job_id(tier: JobTier, ids: Sequence[str]) -> str:
    """Return the id of the job on these examples: the tier and 24 hex digits of a hash of the ids in order."""
    digest = hashlib.sha256(tier.encode())
    for name in ids:
        data = name.encode()
        digest.update(len(data).to_bytes(4, "big") + data)
    return f"{tier}-{digest.hexdigest()[:24]}"


def job_folder(data_dir: Path, name: str) -> Path:
    """Return the folder of a job.

    Raises:
        JobError: the id is no plain name, so it could lead out of the data directory.
    """
    if not _SAFE_ID.fullmatch(name):
        raise JobError(f"job id {name[:140]!r} is not of lower-case letters, digits and hyphens")
    return data_dir / "jobs" / name


def write_dataset(data_dir: Path, name: str, contents: Sequence[bytes]) -> Snapshot:
    """Write one line an example to `jobs/<name>/dataset.jsonl`, atomically; the same examples give the same bytes.

    Raises:
        JobError: the id is no plain name, or an example is empty or spans lines.
        OSError: the folder cannot be written.
    """
    folder = job_folder(data_dir, name)
    for number, line in enumerate(contents, start=1):
        if not line or b"\n" in line:
            raise JobError(f"example {number} of job {name} is not one line")
    data = b"".join(line + b"\n" for line in contents)
    write_atomically(folder / DATASET_NAME, data)
    return Snapshot(f"jobs/{name}/{DATASET_NAME}", hashlib.sha256(data).hexdigest(), len(contents))


def plan_job(tier: JobTier, run: CompletedRun, snapshot: Snapshot, settings: Settings, at: datetime) -> TrainingJob:
    """Return the request to train on a run, with the rules and training settings in effect.

    Args:
        tier: which training.
        run: the examples.
        snapshot: the dataset that `write_dataset` made of them.
        settings: all settings; the job repeats those of its tier, so that it can be checked and run later.
        at: broker time of the example that completed the run, so that a repetition is identical.
    """
    return TrainingJob(
        job_id=job_id(tier, run.ids),
        tier=tier,
        dataset_path=snapshot.path,
        dataset_sha256=snapshot.sha256,
        example_count=snapshot.count,
        base_model=settings.jobs.base_model,
        settings=tier_settings(tier, settings),
        requested_at=at,
    )


def tier_settings(tier: JobTier, settings: Settings) -> dict[str, JsonValue]:
    """Return `rules` (what an example must obey), `training` of a tier, and `gate`, as JSON."""
    rules = settings.traces if tier == "sft" else settings.pairs
    parts = {"rules": rules, "training": settings.jobs.training(tier), "gate": settings.jobs.gate}
    return {name: part.model_dump(mode="json") for name, part in parts.items()}


def freeze_job(data_dir: Path, tier: JobTier, run: CompletedRun, settings: Settings, at: datetime) -> TrainingJob:
    """Write the dataset of a completed run and return the job to announce.

    Raises:
        JobError: an example spans lines.
        OSError: the folder cannot be written.
    """
    snapshot = write_dataset(data_dir, job_id(tier, run.ids), run.contents)
    return plan_job(tier, run, snapshot, settings, at)


def write_job(data_dir: Path, job: TrainingJob) -> Path:
    """Write `job.json`, which the job's process reads, and return the job's folder.

    Raises:
        JobError: the id is no plain name.
        OSError: the folder cannot be written.
    """
    folder = job_folder(data_dir, job.job_id)
    write_atomically(folder / JOB_NAME, job.to_json())
    return folder
