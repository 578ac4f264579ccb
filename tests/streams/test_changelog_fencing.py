"""Two owners of one partition write to one changelog: what a former one writes late takes no effect."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest
from faust.types import TP

from schemas.settings import Settings
from streams.kafka.publisher import Outgoing, Publisher, Receipt
from streams.state.changelog import GENERATION
from streams.state.tables import FencedError, StateTable, write_state
from streams.state.write_buffer import WriteBuffer
from tests.streams.offline import offline_app


class SharedLog(Publisher):
    """A changelog partition that every owner publishes to and reads."""

    def __init__(self) -> None:
        super().__init__({})
        self.records: list[Outgoing] = []

    async def publish(self, messages: Sequence[Outgoing]) -> list[Receipt]:
        self.records += messages
        return [Receipt(messages[0].topic, messages[0].partition or 0, len(self.records) - 1)]

    async def read(self, topic: str, partition: int, start: int, end: int) -> list[tuple[int, bytes]]:
        return [(int(dict(r.headers)[GENERATION]), r.key or b"") for r in self.records[start:end]]

    def recovered(self) -> dict[bytes, bytes]:
        """What a third owner would find."""
        state: dict[bytes, bytes] = {}
        for record in self.records:
            if record.value is None:
                state.pop(record.key or b"", None)
            else:
                state[record.key or b""] = record.value
        return state


class Owner:
    """A worker in one generation of the group, with its own local store."""

    def __init__(self, table: StateTable, log: SharedLog, generation: int) -> None:
        self.log = log
        self.table = StateTable(table._table, log.read)
        self.table._table.app.consumer_generation_id = generation

    def recover(self) -> None:
        """Take over: everything that the changelog holds by now."""
        self.table.apply(0, [(r.key or b"", r.value) for r in self.log.records], len(self.log.records) - 1)

    def write(self, **values: str) -> None:
        overlay = WriteBuffer(self.table, 0)
        for key, value in values.items():
            overlay.set(key.encode(), value.encode() or None)
        asyncio.run(write_state(self.log, [overlay]))

    def state(self) -> dict[bytes, bytes]:
        return dict(self.table.items(0))


@pytest.fixture
def owners(tmp_path: Path) -> Iterator[tuple[Owner, Owner]]:
    log = SharedLog()
    with ExitStack() as apps:
        found = []
        for generation in (4, 5):
            settings = Settings.model_validate(
                {"data_dir": str(tmp_path), "state_dir": str(tmp_path / str(generation))}
            )
            app, _ = apps.enter_context(offline_app(settings, "pairs"))
            found.append(Owner(app.services.tables["answers"], log, generation))
        yield found[0], found[1]


def test_what_a_former_owner_writes_late_is_written_again(owners: tuple[Owner, Owner]) -> None:
    former, owner = owners
    former.write(a="1", b="1")
    owner.recover()
    owner.write(a="2", c="2")
    # The former owner was paused with this on its way.
    former.log.records += [Outgoing("x", 0, key, b"late", ((GENERATION, b"4"),)) for key in (b"a", b"b", b"new", b"a")]
    owner.write(d="3")
    expected = {b"a": b"2", b"b": b"1", b"c": b"2", b"d": b"3"}
    assert owner.state() == expected
    assert owner.log.recovered() == expected
    assert owner.table.next_offset(0) == len(owner.log.records)
    before = len(owner.log.records)
    owner.write(d="4")
    assert len(owner.log.records) == before + 1


def test_a_late_write_before_the_successors_first_one_is_found_too(owners: tuple[Owner, Owner]) -> None:
    former, owner = owners
    former.write(a="1")
    owner.recover()
    former.log.records.append(Outgoing("x", 0, b"a", b"late", ((GENERATION, b"4"),)))
    owner.write(b="2")
    assert owner.log.recovered() == owner.state() == {b"a": b"1", b"b": b"2"}


def test_a_former_owner_ends_with_its_local_store_as_it_was(owners: tuple[Owner, Owner]) -> None:
    former, owner = owners
    former.write(a="1")
    owner.recover()
    owner.write(a="2")
    offset = former.table.next_offset(0)
    with pytest.raises(FencedError, match=r"answers-changelog\[0\] was written in generation 5, this worker is of 4"):
        former.write(a="late")
    # So its next recovery begins where it was, and reads the successor's writes.
    assert former.table.next_offset(0) == offset
    assert former.state() == {b"a": b"1"}


def test_what_the_producer_has_sent_twice_is_nobody_elses(owners: tuple[Owner, Owner]) -> None:
    _, owner = owners
    owner.write(a="1")
    owner.log.records.append(Outgoing("x", 0, b"a", b"1", ((GENERATION, b"5"),)))
    owner.write(b="2")
    assert owner.log.recovered() == owner.state() == {b"a": b"1", b"b": b"2"}
    assert len(owner.log.records) == 3


def test_a_batch_belongs_to_the_generation_that_it_was_decided_in(owners: tuple[Owner, Owner]) -> None:
    former, owner = owners
    former.write(a="1")
    overlay = WriteBuffer(former.table, 0)
    overlay.set(b"a", b"late")
    owner.recover()
    owner.write(a="2")
    former.table._table.app.consumer_generation_id = 6
    with pytest.raises(FencedError):
        asyncio.run(write_state(former.log, [overlay]))


def test_a_store_that_was_not_recovered_to_the_end_is_not_written_on(owners: tuple[Owner, Owner]) -> None:
    former, owner = owners
    former.write(a="1")
    owner.recover()
    former.write(b="1")
    highwaters = owner.table._table.app.tables.recovery.active_highwaters
    highwaters[TP(owner.table.changelog, 0)] = len(owner.log.records) - 1
    with pytest.raises(FencedError, match="recovered up to 0, and went up to 1"):
        owner.write(c="2")
    assert owner.state() == {b"a": b"1"}


def test_a_change_of_another_table_is_not_taken(owners: tuple[Owner, Owner]) -> None:
    _, owner = owners
    table = owner.table._table

    def event(topic: str, offset: int) -> SimpleNamespace:
        tp = TP(topic, 0)
        return SimpleNamespace(
            message=SimpleNamespace(topic=topic, tp=tp, partition=0, offset=offset, key=b"k", value=b"v")
        )

    table.apply_changelog_batch([event("g-judgements-changelog", 99)])
    assert (owner.state(), owner.table.next_offset(0)) == ({}, None)
    table.apply_changelog_batch([event(owner.table.changelog, 3)])
    assert (owner.state(), owner.table.next_offset(0)) == ({b"k": b"v"}, 4)
