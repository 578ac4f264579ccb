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
from trainers.serving import put_into_use
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
    made(store, version)
    store.promote(version, "passed")


def made(store: VersionStore, version: str) -> None:
    """Add a version that is not in use."""
    record = VersionRecord(tier="dpo", version=version, created_at=datetime.now(UTC), reason="a test")
    with store.staging(version) as folder:
        (folder / "weights").write_text(version)
        store.add(record, folder)


def judged(rewards: dict[str, float], count: int = 200) -> OutcomeMonitor:
    """Return what a monitor knows when each version's answers were judged so."""
    monitor, numbers = OutcomeMonitor(), itertools.count()
    for version, reward in rewards.items():
        for _ in range(count):
            monitor.answered(answer(next(numbers), version, reward))
    return monitor


def tried(settings: Settings) -> Seen:
    """Return what becomes of a version that passed its gate, before and after a look at how it is judged."""
    store = registry(settings.data_dir)
    made(store, "dpo-c3")
    put_into_use(settings.serving, store, "dpo-c3", "passed")
    begun, monitor = store.in_use(LINE), judged({IN_USE: 0.4, "dpo-c3": 0.4})
    with patch.object(rollback, "publish_now", AsyncMock()):
        asyncio.run(rollback.settle_trials(settings, outcome_of(settings, monitor)))
    return begun.candidate and begun.candidate.share, store.in_use(LINE).version


def rolled_back(settings: Settings) -> Seen:
    """Return the changes of the version in use after a look at a version that is judged worse by 0.2."""
    store, monitor = registry(settings.data_dir), judged({BEFORE: 0.4, IN_USE: 0.2})

    with patch.object(rollback, "publish_now", AsyncMock()):
        asyncio.run(rollback.roll_back_worse(settings, outcome_of(settings, monitor)))
    return [(one.action, one.version) for one in store.in_use(LINE).history]
