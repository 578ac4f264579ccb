"""What the settings of retention change."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from schemas.settings import Settings
from schemas.versions import VersionRecord
from trainers.retention import superfluous
from trainers.versions import VersionStore

_DAY = 86400.0


def superfluous_folders(settings: Settings) -> Any:
    """Return what could go of a job and three versions, all seen a month after they were made."""
    job = Path(settings.data_dir) / "jobs" / "dpo-1"
    (job / "checkpoints").mkdir(parents=True)
    (job / "result.json").write_text(json.dumps({"state": "finished"}))
    store, now = VersionStore(settings.data_dir), time.time()
    for number in range(3):
        fields = {"tier": "dpo", "version": f"dpo-{number}", "created_at": now + number, "reason": "r"}
        record = VersionRecord.model_validate(fields)
        with store.staging(record.version) as staging:
            store.add(record, staging)
    return [str(item.path) for item in superfluous(settings, now + 30 * _DAY)]
