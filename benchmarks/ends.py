"""What became of each example of each job: lineage, metrics, `audit --explain` and the trainer's steps must agree."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from streams.audit.story import jobs_with, named_in
from trainers.jobs.snapshot import DATASET_NAME, JOB_NAME, RESULT_NAME, job_folder
from trainers.versions.store import LINEAGE

_COUNTED = {"trained_on": "training", "held_out_of_job": "held_out"}
"""By figure of a job, the use in its version's lineage."""


def failed_ends(data_dir: Path, job_ids: Sequence[str]) -> list[str]:
    """Return where a job does not say exactly one end of each of its examples, the same everywhere."""
    if missing := [name for name in job_ids if not (job_folder(data_dir, name) / RESULT_NAME).is_file()]:
        return [f"jobs without an end: {missing}"]
    asked = {named_in(line) for name in job_ids for line in _dataset(data_dir, name)}
    told = dict(jobs_with(data_dir, asked))
    return [f"{name}: {what}" for name in job_ids for what in _failed(data_dir, name, told)]


def counted_ends(data_dir: Path, job_ids: Sequence[str]) -> Counter[str]:
    """Return how many examples of all jobs came to each end."""
    found: Counter[str] = Counter()
    for name in job_ids:
        found.update(str(one.get("reason", one["use"])) for one in _lineage(data_dir, name))
    return found


def _failed(data_dir: Path, name: str, told: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    result = json.loads((job_folder(data_dir, name) / RESULT_NAME).read_bytes())
    if result["state"] != "finished":
        yield f"{result['state']}: {result['error']}"
        return
    metrics, lines = result["metrics"], _lineage(data_dir, name)
    ids = [named_in(line) for line in _dataset(data_dir, name)]
    if sorted(str(one["id"]) for one in lines) != sorted(ids):
        yield f"{len(lines)} ends of {len(ids)} examples"
    uses = Counter(one["use"] for one in lines)
    reasons = Counter(one["reason"] for one in lines if one["use"] == "dropped")
    for figure, use in _COUNTED.items():
        if metrics[figure] != uses[use]:
            yield f"{figure} = {metrics[figure]}, the lineage has {uses[use]}"
    if metrics["dropped"] != reasons:
        yield f"dropped = {metrics['dropped']}, the lineage has {dict(reasons)}"
    if uses.total() != uses["training"] + uses["held_out"] + reasons.total():
        yield f"ends of other kinds: {dict(uses)}"
    explained = {one: job for one in ids for job in told.get(one, ()) if job["job_id"] == name}
    said = {one: tuple(job.get(key) for key in ("use", "reason", "cut")) for one, job in explained.items()}
    if said != {str(one["id"]): tuple(one.get(key) for key in ("use", "reason", "cut")) for one in lines}:
        yield "--explain says otherwise"
    training = json.loads((job_folder(data_dir, name) / JOB_NAME).read_bytes())["settings"]["training"]
    steps = math.ceil(uses["training"] / (training["batch_size"] * training["gradient_accumulation"]))
    if metrics["steps"] != steps * training["epochs"]:
        yield f"{metrics['steps']} steps, {uses['training']} examples make {steps * training['epochs']}"


def _dataset(data_dir: Path, name: str) -> list[bytes]:
    return (job_folder(data_dir, name) / DATASET_NAME).read_bytes().splitlines()


def _lineage(data_dir: Path, name: str) -> list[dict[str, Any]]:
    version = json.loads((job_folder(data_dir, name) / RESULT_NAME).read_bytes()).get("version")
    path = data_dir / "models" / name.partition("-")[0] / str(version) / LINEAGE
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.is_file() else []
