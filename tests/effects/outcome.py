"""What the settings of a worse version's rollback change: a version in use that people like a little less."""

from __future__ import annotations

import asyncio
import itertools
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, patch

from schemas.settings import Settings
from schemas.versions import VersionRecord
from streams.audit.outcome import outcome_of
from streams.worker import rollback
from tests.trainers.test_outcome import answer
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
    monitor, numbers = OutcomeMonitor(), itertools.count()
    for version, reward in rewards.items():
        for _ in range(count):
            monitor.answered(answer(next(numbers), version, reward))
    return monitor


def rolled_back(settings: Settings) -> Seen:
    """Return the changes of the version in use after a look at a version that is judged worse by 0.2."""
    store, monitor = registry(settings.data_dir), judged({BEFORE: 0.4, IN_USE: 0.2})

    with patch.object(rollback, "publish_now", AsyncMock()):
        asyncio.run(rollback.roll_back_worse(settings, outcome_of(settings, monitor)))
    return [(one.action, one.version) for one in store.in_use(LINE).history]
