"""Tables by partition, with the changelog written first; and the overlay that a batch decides on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.settings import Settings
from streams.kafka.publisher import PublishError
from streams.state.tables import StateTable, write_state
from streams.state.write_buffer import WriteBuffer
from tests.streams.offline import KeptPublisher, offline_app

NAMES = ("experiences", "judgements")
CHANGELOG = "g-judgements-changelog"


@pytest.fixture
def tables(tmp_path: Path) -> Iterator[dict[str, StateTable]]:
    settings = Settings.model_validate({"data_dir": str(tmp_path), "kafka": {"app_id": "g"}})
    with offline_app(settings, "join") as (app, _):
        yield {name: app.services.tables[name] for name in NAMES}


@pytest.fixture
def table(tables: dict[str, StateTable]) -> StateTable:
    return tables["judgements"]


class RefusingPublisher(KeptPublisher):
    """Does not acknowledge what goes to some topics."""

    def __init__(self, *refused: str) -> None:
        super().__init__({})
        self.refused = refused

    async def publish(self, messages: Any) -> Any:
        if any(message.topic in self.refused for message in messages):
            raise PublishError("not acknowledged")
        return await super().publish(messages)


def write(publisher: KeptPublisher, *overlays: WriteBuffer) -> None:
    asyncio.run(write_state(publisher, overlays))


def test_a_partition_holds_its_own_keys_only(table: StateTable) -> None:
    table.apply(0, [(b"a", b"1"), (b"b", b"2")], 1)
    table.apply(3, [(b"c", b"3")], 0)
    assert [table.get(0, key) for key in (b"a", b"b", b"c")] == [b"1", b"2", None]
    assert dict(table.items(0)) == {b"a": b"1", b"b": b"2"}
    assert dict(table.items(3)) == {b"c": b"3"}
    assert dict(table.items(1)) == {}


def test_keys_under_a_prefix_are_walked_alone(table: StateTable) -> None:
    keys = [b"a", b"a\x00", b"a\x001", b"a\x002", b"a\x01", b"b", b"__faust\x00"]
    table.apply(0, [(key, b"v") for key in keys], 1)
    table.apply(3, [(b"a\x003", b"v")], 0)
    assert sorted(key for key, _ in table.under(0, b"a\x00")) == [b"a\x00", b"a\x001", b"a\x002"]
    assert [key for key, _ in table.under(3, b"a\x00")] == [b"a\x003"]
    assert list(table.under(0, b"c")) == []
    table.apply(0, [(b"a\x001", None)], 2)
    assert sorted(key for key, _ in table.under(0, b"a\x00")) == [b"a\x00", b"a\x002"]


def test_a_deleted_key_is_gone_and_may_come_back(table: StateTable) -> None:
    table.apply(0, [(b"a", b"1"), (b"a", None), (b"never", None)], 2)
    assert (table.get(0, b"a"), dict(table.items(0))) == (None, {})
    table.apply(0, [(b"a", b"2")], 3)
    assert table.get(0, b"a") == b"2"


def test_the_changelogs_offset_is_stored_and_is_no_key(tmp_path: Path) -> None:
    with offline_app(Settings(data_dir=str(tmp_path)), "join") as (app, _):
        app.services.tables["judgements"].apply(2, [(b"a", b"1")], 41)
        store = app.tables["judgements"].data
        assert store.persisted_offset(type("TP", (), {"partition": 2})) == 41
        assert list(app.services.tables["judgements"].items(2)) == [(b"a", b"1")]


def test_a_batch_sees_its_own_writes_over_what_is_stored(table: StateTable) -> None:
    table.apply(0, [(b"a", b"old"), (b"b", b"old")], 0)
    overlay = WriteBuffer(table, 0)
    overlay.set(b"a", b"new")
    overlay.set(b"b", None)
    overlay.set(b"c", b"new")
    assert [overlay.get(key) for key in (b"a", b"b", b"c", b"d")] == [b"new", None, b"new", None]
    assert [table.get(0, key) for key in (b"a", b"b", b"c")] == [b"old", b"old", None]


def test_what_is_written_is_published_to_the_changelog_then_stored(table: StateTable) -> None:
    publisher, overlay = KeptPublisher({}), WriteBuffer(table, 3)
    overlay.set(b"a", b"1")
    overlay.set(b"b", b"2")
    overlay.set(b"a", None)
    write(publisher, overlay)
    assert [(m.topic, m.partition, m.key, m.value) for m in publisher.messages] == [
        (CHANGELOG, 3, b"a", b"1"),
        (CHANGELOG, 3, b"b", b"2"),
        (CHANGELOG, 3, b"a", None),
    ]
    assert dict(table.items(3)) == {b"b": b"2"}


def test_nothing_is_stored_that_the_changelog_did_not_acknowledge(tables: dict[str, StateTable]) -> None:
    overlays = [WriteBuffer(tables[name], 0) for name in NAMES]
    for overlay in overlays:
        overlay.set(b"a", b"1")
    publisher = RefusingPublisher(CHANGELOG)
    with pytest.raises(PublishError):
        write(publisher, *overlays)
    assert [overlay.table.get(0, b"a") for overlay in overlays] == [b"1", None]
    with pytest.raises(PublishError):
        write(publisher, *reversed(overlays))
    assert len(publisher.messages) == 1


def test_a_batch_that_writes_nothing_publishes_nothing(table: StateTable) -> None:
    publisher = KeptPublisher({})
    write(publisher, WriteBuffer(table, 0))
    assert publisher.messages == []


writes_strategy = st.lists(
    st.tuples(st.sampled_from([b"a", b"b", b"c"]), st.none() | st.binary(max_size=4)), max_size=12
)


class NoTable:
    """A table without keys."""

    generation = 0

    changelog = CHANGELOG

    def __init__(self) -> None:
        self.applied: list[tuple[bytes, bytes | None]] = []

    def get(self, partition: int, key: bytes) -> bytes | None:
        return None

    def apply(self, partition: int, writes: Any, offset: int) -> None:
        assert offset == len(writes) - 1
        self.applied += writes

    def next_offset(self, partition: int) -> int | None:
        return None


@given(writes=writes_strategy)
def test_every_write_is_kept_in_order_and_none_is_merged(writes: list[tuple[bytes, bytes | None]]) -> None:
    """Both books rely on it: what survives a crash is a prefix of their writes, and the later of a key repairs."""
    publisher, table = KeptPublisher({}), NoTable()
    overlay = WriteBuffer(table, 1)  # type: ignore[arg-type]
    for key, value in writes:
        overlay.set(key, value)
        assert overlay.get(key) == value
    write(publisher, overlay)
    assert overlay.writes == writes == table.applied
    assert [(message.key, message.value) for message in publisher.messages] == writes
    assert {message.partition for message in publisher.messages} <= {1}
    latest = dict(writes)
    assert {key: overlay.get(key) for key in latest} == latest
