"""A job and versions on disk, as pages show them, with nobody having trained."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from schemas.events import DeadLetter
from schemas.versions import VersionRecord
from streams.training.folder import STATE_NAME
from streams.training.log import LOG_NAME
from tests.streams.training.requests import job
from trainers.jobs.snapshot import JOB_NAME, RESULT_NAME
from trainers.versions import VersionStore
from trainers.versions.store import LINEAGE

HOSTILE = "<script>alert(1)</script>"


def add_version(tmp_path: Path, name: str, parent: str | None = None, **more: Any) -> None:
    store = VersionStore(tmp_path)
    rows = (
        {"id": "t-1", "use": "training", "experience_ids": ["exp/1"]},
        {"id": "t-2", "use": "dropped", "reason": "too_long", "experience_ids": [HOSTILE]},
    )
    with store.staging(name) as folder:
        (folder / LINEAGE).write_text("".join(json.dumps(row) + "\n" for row in rows))
        made = {"created_at": datetime(2026, 1, int(name[-1]), tzinfo=UTC), "reason": "a test", **more}
        store.add(
            VersionRecord.model_validate({"tier": "sft", "version": name, "parent_version": parent, **made}), folder
        )
    store.promote(name, "better")


def add_job(tmp_path: Path, name: str = "sft-1") -> None:
    folder = tmp_path / "jobs" / name
    folder.mkdir(parents=True)
    (folder / JOB_NAME).write_bytes(job(name).to_json())
    state = {"job_id": name, "tier": "sft", "state": "running", "progress": 0.5, "timestamp": "2026-01-01T00:00:00Z"}
    (folder / STATE_NAME).write_text(json.dumps(state))
    lines = [
        json.dumps({"progress": n / 9, "metrics": {"step": n, "loss": 1 / n, "margins": n / 5}}) for n in range(1, 9)
    ]
    (folder / LOG_NAME).write_text("\n".join((HOSTILE, *lines, "the last words")))
    metrics = {"loss": 0.125, "gate": {"accuracy": 0.75}}
    result = {"state": "finished", "metrics": metrics, "error": None, "version": "sft-v2", "promoted": True}
    (folder / RESULT_NAME).write_text(json.dumps(result))


def dead_letter(number: int, value: bytes, error_type: str = "invalid_event", **more: str) -> DeadLetter:
    content = {
        "topic": "feedback",
        "partition": 0,
        "offset": number,
        "value": base64.b64encode(value).decode(),
        "value_bytes": len(value),
        "value_sha256": hashlib.sha256(value).hexdigest(),
        "error_type": error_type,
        "error": HOSTILE,
        "timestamp": "2026-01-01T00:00:00Z",
        **more,
        "key": base64.b64encode(more.get("key", "exp-7").encode()).decode(),
    }
    return DeadLetter.model_validate(content)
