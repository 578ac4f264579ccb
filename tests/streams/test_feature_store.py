"""The scorer's own store of features: kept once, filled in, expired, and read again where it was lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from msgspec.structs import replace

from schemas.records import Arrival, ScorerEntry
from schemas.settings import Settings
from streams.feature_store import FeatureStore
from tests.streams.offline import batch, offline_app
from tests.trainers.scorer.making import arrival_of, entry

RETENTION = 10.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FeatureStore]:
    opened = FeatureStore(tmp_path / "features", RETENTION)
    yield opened
    opened.close()


def judged(number: int, at: float = 0.0, partition: int = 0) -> ScorerEntry:
    return replace(entry(number), received_at=at, arrival=Arrival(partition, number))


def arrived(number: int, at: float = 0.0, partition: int = 0) -> ScorerEntry:
    return arrival_of(judged(number, at, partition))


def travelling(one: ScorerEntry) -> ScorerEntry:
    """Return the entry as its reader gets it."""
    return ScorerEntry.decode(one.encode())


def features(store: FeatureStore, *entries: ScorerEntry) -> list[bytes]:
    return [one.features for _, one in store.fill([(9, travelling(one)) for one in entries])]


def test_a_feedback_travels_without_features_and_gets_its_arrivals_back(store: FeatureStore) -> None:
    assert travelling(judged(3)).features == b""
    assert travelling(arrived(3)) == arrived(3)
    store.keep([(0, arrived(3)), (1, arrived(4, partition=1))], 2)
    [(offset, filled)] = store.fill([(7, travelling(judged(3)))])
    assert (offset, filled) == (7, judged(3))
    assert features(store, judged(4), judged(4, partition=1)) == [b"", judged(4).features]


def test_of_a_repeated_arrival_the_first_counts(store: FeatureStore) -> None:
    other = replace(arrived(3), features=arrived(4).features)
    store.keep([(0, arrived(3)), (1, other)], 2)
    store.keep([(2, other)], 3)
    assert features(store, judged(3)) == [judged(3).features]


def test_what_is_kept_outlives_the_process_with_how_far_it_reaches(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "features", RETENTION)
    store.keep([(0, arrived(3))], 5)
    store.keep([(3, arrived(4))], 4)
    store.close()
    again = FeatureStore(tmp_path / "features", RETENTION)
    assert again.covered == 5
    assert features(again, judged(3), judged(4)) == [judged(3).features, judged(4).features]
    again.forget()
    assert again.covered == 0
    assert features(again, judged(3)) == [b""]
    again.close()


def test_an_arrival_expires_once_no_later_feedback_can_refer_to_it(store: FeatureStore) -> None:
    entries = [arrived(1, at=100.0), arrived(2, at=105.0), arrived(3, at=100.0, partition=1), judged(1, at=110.0)]
    store.keep(list(enumerate(entries)), 4)
    assert store.expire(store.clocks) == 0
    store.keep([(4, judged(2, at=110.5))], 5)
    assert store.expire(store.clocks) == 1
    assert features(store, judged(1), judged(2), judged(3, partition=1)) == [
        b"",
        judged(2).features,
        judged(3).features,
    ]


def test_what_is_not_recent_any_more_is_read_from_the_disk(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = len(arrived(1).features)
    monkeypatch.setattr("streams.feature_store._RECENT_BYTES", 2 * size)
    store.keep([(number, arrived(number)) for number in range(4)], 4)
    reads = []
    monkeypatch.setattr(store, "_db", Watched(store._db, reads))
    assert features(store, judged(3), judged(2)) == [judged(3).features, judged(2).features]
    assert reads == []
    assert features(store, judged(0), judged(0), judged(2)) == [judged(0).features] * 2 + [judged(2).features]
    assert len(reads) == 1
    assert features(store, judged(3)) == [judged(3).features]
    assert len(reads) == 2


class Watched:
    """A database that notes what is read."""

    def __init__(self, db: Any, reads: list[bytes]) -> None:
        self._db, self._reads = db, reads

    def get(self, key: bytes) -> bytes | None:
        self._reads.append(key)
        value: bytes | None = self._db.get(key)
        return value

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)


def test_early_feedback_does_not_turn_a_partitions_clock_back(store: FeatureStore) -> None:
    store.keep([(0, judged(1, at=50.0)), (1, judged(2, at=20.0))], 2)
    assert store.clocks == {0: 50.0}


def updates_of(tmp_path: Path, earlier: list[ScorerEntry], *entries: ScorerEntry) -> tuple[list[str], int]:
    """Let the scorer's agent work; return the reasons of its updates, and what it skipped for want of features."""
    settings = Settings.model_validate({"data_dir": str(tmp_path), "stream": {"table_store": "memory"}})
    with offline_app(settings, earlier) as (app, kept):
        scorer = app.agents_of_ours.scorer
        asyncio.run(scorer.process(batch("scorer-entries", *(one.encode() for one in entries))))
        status = scorer.status()
        assert status is not None
        return [orjson.loads(value)["reason"] for value in kept.values("score-updates")], status["skipped_no_features"]


def test_features_that_are_lost_locally_are_read_from_the_topics_start(tmp_path: Path) -> None:
    assert updates_of(tmp_path, [arrived(1)], judged(1)) == (["feedback_learned"], 0)


def test_a_feedback_whose_features_are_gone_is_counted_and_the_stream_goes_on(tmp_path: Path) -> None:
    found = updates_of(tmp_path, [], arrived(2), judged(1), judged(2))
    assert found == (["experience_arrived", "feedback_learned"], 1)
