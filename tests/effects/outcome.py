"""What the settings of a worse version's rollback change: a version in use that people like a little less."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, patch

from schemas.records import Answer
from schemas.settings import Settings
from schemas.versions import VersionRecord
from streams.audit.outcome import outcome_of
from streams.worker import rollback
from trainers.outcome import OutcomeMonitor
from trainers.versions import VersionStore

Seen = Any
LINE = "policy"
BEFORE, IN_USE = "dpo-a1", "dpo-b2"


def registry(data_dir: Path | str) -> VersionStore:
    """Return a registry with two versions, put into use one after the other."""
    store = VersionStore(data_dir)
    for version in (BEFORE, IN_USE):
        add(store, version)
    return store


def add(store: VersionStore, version: str) -> None:
    """Add a version and put it into use."""
    record = VersionRecord(tier="dpo", version=version, created_at=datetime.now(UTC), reason="a test")
    with store.staging(version) as folder:
        (folder / "weights").write_text(version)
        store.add(record, folder)
    store.promote(version, "passed")


def judged(rewards: dict[str, float], count: int = 200) -> OutcomeMonitor:
    """Return what a monitor knows when each version's answers were judged so."""
    monitor = OutcomeMonitor()
    for version, reward in rewards.items():
        for number in range(count):
            monitor.answered(
                Answer(
                    kind="voice",
                    experience_id=f"{version}-{number}",
                    query="q",
                    intent_type="status",
                    domains=(),
                    device_types=(),
                    reward=reward,
                    judged_by_user=True,
                    said={"user": reward},
                    model_version=version,
                )
            )
    return monitor


def rolled_back(settings: Settings) -> Seen:
    """Return the changes of the version in use after a look at a version that is judged worse by 0.2."""
    store, monitor = registry(settings.data_dir), judged({BEFORE: 0.4, IN_USE: 0.2})

    with patch.object(rollback, "publish_now", AsyncMock()):
        asyncio.run(rollback.roll_back_worse(settings, outcome_of(settings, monitor)))
    return [(one.action, one.version) for one in store.in_use(LINE).history]
