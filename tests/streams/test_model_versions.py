"""Changes of the version in use reach the topic, each once and in order, whoever publishes them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from schemas.errors import ConnectionFailedError
from schemas.events import ModelTier, ModelVersion
from schemas.versions import VersionRecord
from streams.training.model_versions import publish_changes
from trainers.versions import VersionStore


def promote(store: VersionStore, tier: ModelTier, version: str) -> None:
    with store.staging(tier, version) as folder:
        (folder / "weights").write_text(version)
        store.add(VersionRecord(tier=tier, version=version, created_at=datetime.now(UTC), reason="a test"), folder)
    store.promote(tier, version, "better")


class Broker:
    """Takes events, or dies after `takes` of them."""

    def __init__(self, takes: int = 100) -> None:
        self.events: list[str] = []
        self.takes = takes

    async def send(self, event: ModelVersion) -> None:
        if len(self.events) == self.takes:
            raise ConnectionFailedError("broker cannot be reached")
        await asyncio.sleep(0)
        self.events.append(event.version)


def test_every_change_is_published_once_in_order(tmp_path: Path) -> None:
    store, broker = VersionStore(tmp_path), Broker()
    assert asyncio.run(publish_changes(tmp_path, broker.send)) == []
    promote(store, "dpo", "dpo-a")
    promote(store, "dpo", "dpo-b")
    promote(store, "scorer", "scorer-a")
    store.rollback("dpo")
    published = asyncio.run(publish_changes(tmp_path, broker.send))
    assert [event.reason for event in published if event.tier == "dpo"] == [
        "promoted: better",
        "promoted: better",
        "rolled back: back from dpo-b",
    ]
    assert broker.events == ["scorer-a", "dpo-a", "dpo-b", "dpo-a"]
    assert asyncio.run(publish_changes(tmp_path, broker.send)) == []


def test_what_the_broker_did_not_take_is_published_later(tmp_path: Path) -> None:
    store, broker = VersionStore(tmp_path), Broker(takes=1)
    promote(store, "sft", "sft-a")
    promote(store, "sft", "sft-b")
    with pytest.raises(ConnectionFailedError):
        asyncio.run(publish_changes(tmp_path, broker.send))
    broker.takes = 100
    asyncio.run(publish_changes(tmp_path, broker.send))
    assert broker.events == ["sft-a", "sft-b"]


def test_two_that_publish_at_once_take_turns(tmp_path: Path) -> None:
    store, broker = VersionStore(tmp_path), Broker()
    for name in ("dpo-a", "dpo-b", "dpo-c"):
        promote(store, "dpo", name)

    async def both() -> None:
        await asyncio.gather(*(publish_changes(tmp_path, broker.send) for _ in range(2)))

    asyncio.run(both())
    assert broker.events == ["dpo-a", "dpo-b", "dpo-c"]
