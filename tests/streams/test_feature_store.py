"""The scorer's own store of features: kept once, filled in, expired, and read again where it was lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from msgspec.structs import replace

from schemas.records import Arrival, Configure, ScorerEntry
from schemas.settings import Settings
from streams.state.features import FeatureStore
from streams.worker.role_app import TierstreamApp
from tests.streams.offline import hand_over, joined, offline_app, travelling
from tests.trainers.scorer.making import arrival_of, entry
from trainers.scorer.log_settings import learning_settings

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


def features(store: FeatureStore, *entries: ScorerEntry) -> list[bytes]:
    return [one.features for one in store.fill([travelling(one) for one in entries])]


def test_a_feedback_travels_without_features_and_gets_its_arrivals_back(store: FeatureStore) -> None:
    assert travelling(judged(3)).features == b""
    store.keep([arrived(3), arrived(4, partition=1)], 1)
    assert store.fill([travelling(judged(3)), arrived(5)]) == [judged(3), arrived(5)]
    assert features(store, judged(4), judged(4, partition=1)) == [b"", judged(4).features]


def test_of_a_repeated_arrival_the_first_counts(store: FeatureStore) -> None:
    other = replace(arrived(3), features=arrived(4).features)
    store.keep([arrived(3), other], 1)
    store.keep([other], 2)
    assert features(store, judged(3)) == [judged(3).features]


def test_what_is_kept_outlives_the_process_with_how_far_it_reaches(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "features", RETENTION)
    store.keep([arrived(3)], 5)
    store.keep([arrived(4)], 4)
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
    store.keep(entries, 4)
    assert store.expire(store.clocks) == 0
    store.keep([judged(2, at=110.5)], 5)
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
    monkeypatch.setattr("streams.state.features._RECENT_BYTES", 2 * size)
    store.keep([arrived(number) for number in range(4)], 4)
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
    store.keep([judged(1, at=50.0), judged(2, at=20.0)], 2)
    assert store.clocks == {0: 50.0}


def updates_of(tmp_path: Path, earlier: list[ScorerEntry], *entries: ScorerEntry) -> tuple[list[str], int]:
    """Let the scorer's agent work; return the reasons of its updates, and what it skipped for want of features.

    Whatever it kept of what was there before is lost before it goes on.
    """
    settings = Settings.model_validate({"data_dir": str(tmp_path)})

    async def work(app: TierstreamApp) -> None:
        scorer = app.agents_of_ours.scorer
        assert scorer is not None
        await scorer.start_offset(app.services.publisher.log.committed)  # type: ignore[attr-defined]
        scorer._state.features.forget()
        await hand_over(app, joined(*entries))

    before = [Configure(learning_settings(settings.scorer)), *(joined(one) for one in earlier)]
    with offline_app(settings, "scorer", before) as (app, kept):
        kept.log.committed = len(before)
        asyncio.run(work(app))
        assert app.agents_of_ours.scorer is not None
        status = app.agents_of_ours.scorer.status()
        assert status is not None
        return [orjson.loads(value)["reason"] for value in kept.values("score-updates")], status["skipped_no_features"]


def test_features_that_are_lost_locally_are_read_from_the_topics_start(tmp_path: Path) -> None:
    assert updates_of(tmp_path, [arrived(1)], judged(1)) == (["feedback_learned"], 0)


def test_a_feedback_whose_features_are_gone_is_counted_and_the_stream_goes_on(tmp_path: Path) -> None:
    found = updates_of(tmp_path, [], arrived(2), judged(1), judged(2))
    assert found == (["experience_arrived", "feedback_learned"], 1)


def test_a_store_that_begins_empty_is_filled_with_what_was_folded_before(tmp_path: Path) -> None:
    """As where a worker comes with a checkpoint of another machine."""
    settings = Settings.model_validate({"data_dir": str(tmp_path), "state_dir": str(tmp_path / "one")})
    elsewhere = settings.model_copy(update={"state_dir": str(tmp_path / "other")})

    async def learn(app: TierstreamApp) -> None:
        await hand_over(app, joined(arrived(1)))
        await app.agents_of_ours.scorer.checkpoint()  # type: ignore[union-attr]

    async def go_on(app: TierstreamApp) -> None:
        await hand_over(app, joined(judged(1)))

    with offline_app(settings, "scorer") as (app, kept):
        asyncio.run(learn(app))
        log = kept.log
    log.committed = len(log.values)
    with offline_app(elsewhere, "scorer", log=log) as (app, kept):
        asyncio.run(go_on(app))
        assert app.agents_of_ours.scorer is not None
        assert app.agents_of_ours.scorer._state.features.covered == 3
        assert [orjson.loads(value)["reason"] for value in kept.values("score-updates")] == ["feedback_learned"]
