"""Changes of the version in use reach the topic, each once and in order, whoever publishes them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from schemas.errors import ConnectionFailedError
from schemas.events import ModelVersion
from schemas.versions import VersionRecord
from streams.training.model_versions import publish_changes
from trainers.versions import VersionStore


def promote(store: VersionStore, version: str) -> None:
    made = {"tier": version.partition("-")[0], "version": version, "created_at": datetime.now(UTC), "reason": "a test"}
    with store.staging(version) as folder:
        (folder / "weights").write_text(version)
        store.add(VersionRecord.model_validate(made), folder)
    store.promote(version, "better")


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
    promote(store, "dpo-a")
    promote(store, "sft-b")
    promote(store, "scorer-a")
    store.rollback("policy")
    published = asyncio.run(publish_changes(tmp_path, broker.send))
    assert [(event.tier, event.reason) for event in published if event.line == "policy"] == [
        ("dpo", "promoted: better"),
        ("sft", "promoted: better"),
        ("dpo", "rolled back: back from sft-b"),
    ]
    assert broker.events == ["scorer-a", "dpo-a", "sft-b", "dpo-a"]
    assert asyncio.run(publish_changes(tmp_path, broker.send)) == []


def test_what_the_broker_did_not_take_is_published_later(tmp_path: Path) -> None:
    store, broker = VersionStore(tmp_path), Broker(takes=1)
    promote(store, "sft-a")
    promote(store, "sft-b")
    with pytest.raises(ConnectionFailedError):
        asyncio.run(publish_changes(tmp_path, broker.send))
    broker.takes = 100
    asyncio.run(publish_changes(tmp_path, broker.send))
    assert broker.events == ["sft-a", "sft-b"]


def test_two_that_publish_at_once_take_turns(tmp_path: Path) -> None:
    store, broker = VersionStore(tmp_path), Broker()
    for name in ("dpo-a", "dpo-b", "dpo-c"):
        promote(store, name)

    async def both() -> None:
        await asyncio.gather(*(publish_changes(tmp_path, broker.send) for _ in range(2)))

    asyncio.run(both())
    assert broker.events == ["dpo-a", "dpo-b", "dpo-c"]
