"""The commit rule under random orders of delivery, acknowledgement, bounds, rebalance and restart."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from streams.transport.offsets import Chunk, PartitionLedger


class OnePartition(RuleBasedStateMachine):
    """A log with gaps, a group's committed offset, and a consumer that may be replaced at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[int] = []
        self.end = 0
        self.processed: set[int] = set()
        self.group: int | None = None
        self.bound: int | None = None
        self.take_over()

    def take_over(self) -> None:
        self.ledger = PartitionLedger(self.group or 0, self.group)
        self.in_flight: list[Chunk] = []

    @rule(records=st.integers(1, 6), gap=st.integers(0, 3))
    def append(self, records: int, gap: int) -> None:
        self.log += range(self.end, self.end + records)
        self.end += records + gap

    @rule(most=st.integers(1, 4))
    def deliver(self, most: int) -> None:
        offsets = [offset for offset in self.log if offset >= self.ledger.next_offset][:most]
        if offsets:
            self.in_flight.append(self.ledger.deliver(offsets[-1] + 1))
        else:
            self.ledger.skip_to(self.end)

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        chunk = data.draw(st.sampled_from(self.in_flight))
        self.in_flight.remove(chunk)
        chunk.acknowledge()
        if not chunk.nacked:
            self.processed.update(offset for offset in self.log if chunk.start <= offset < chunk.end)

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data())
    def fail_to_deliver(self, data: st.DataObject) -> None:
        chunk = data.draw(st.sampled_from(self.in_flight))
        self.ledger.withdraw(chunk)
        self.in_flight = [other for other in self.in_flight if other.end <= chunk.start]

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data())
    def refuse(self, data: st.DataObject) -> None:
        self.ledger.nack(data.draw(st.sampled_from(self.in_flight)).end)

    @rule(bound=st.one_of(st.none(), st.integers(0, 40)))
    def move_bound(self, bound: int | None) -> None:
        self.bound = bound

    @rule(accepted=st.booleans())
    def commit(self, accepted: bool) -> None:
        offset = self.ledger.committable(self.bound)
        if offset is None or not accepted:
            return
        assert self.bound is None or offset <= self.bound
        assert offset > (self.group or 0)
        self.group = offset
        self.ledger.note_committed(offset)

    @rule(late=st.booleans())
    def rebalance_or_restart(self, late: bool) -> None:
        before = self.in_flight
        self.take_over()
        if late:
            for chunk in before:
                chunk.acknowledge()

    @invariant()
    def nothing_unacknowledged_is_committed(self) -> None:
        assert {offset for offset in self.log if offset < (self.group or 0)} <= self.processed

    @invariant()
    def nothing_is_skipped(self) -> None:
        taken = {o for o in self.log if o < self.ledger.next_offset}
        flying = {o for o in self.log for chunk in self.in_flight if chunk.start <= o < chunk.end}
        assert taken <= self.processed | flying | self.refused()

    def refused(self) -> set[int]:
        return {o for o in self.log for c in self.ledger._pending if c.nacked and c.start <= o < c.end}

    def teardown(self) -> None:
        """Commits never stall: once all is delivered, acknowledged and durable, the end is committed."""
        self.take_over()
        while self.ledger.next_offset < self.end:
            self.deliver(3)
        for chunk in reversed(self.in_flight):
            chunk.acknowledge()
        if self.end:
            assert self.ledger.committable(self.end - 1) in {self.end - 1, None}
        offset = self.ledger.committable(None)
        assert (offset or self.ledger.committed) == self.end


TestOnePartition = OnePartition.TestCase


def test_chunks_acknowledged_out_of_order_are_committed_in_order() -> None:
    ledger = PartitionLedger(0)
    first, second = ledger.deliver(10), ledger.deliver(25)
    second.acknowledge()
    assert ledger.committable(None) is None
    assert ledger.pending == 2
    first.acknowledge()
    assert ledger.committable(None) == 25
    assert ledger.pending == 0


def test_bound_holds_a_commit_back_and_its_rise_lets_it_go() -> None:
    ledger = PartitionLedger(0)
    ledger.deliver(100).acknowledge()
    assert ledger.committable(0) is None
    assert ledger.committable(40) == 40
    ledger.note_committed(40)
    assert ledger.committable(40) is None
    assert ledger.committable(400) == 100


def test_refused_commit_is_tried_again() -> None:
    ledger = PartitionLedger(5)
    ledger.deliver(9).acknowledge()
    assert ledger.committable(None) == 9
    assert ledger.committable(None) == 9


def test_gap_at_the_end_is_committed_once_all_before_it_is_acknowledged() -> None:
    ledger = PartitionLedger(0)
    chunk = ledger.deliver(10)
    ledger.skip_to(12)
    assert ledger.committable(None) is None
    chunk.acknowledge()
    assert ledger.committable(None) == 12


def test_nothing_is_committed_where_nothing_was_delivered() -> None:
    assert PartitionLedger(7).committable(None) is None
    assert PartitionLedger(7, 7).committable(None) is None


def test_resuming_ahead_of_the_commit_moves_it_up_and_behind_never_moves_it_back() -> None:
    assert PartitionLedger(9, 4).committable(None) == 9
    ledger = PartitionLedger(4, 9)
    ledger.deliver(7).acknowledge()
    assert ledger.committable(None) is None
    ledger.deliver(12).acknowledge()
    assert ledger.committable(None) == 12


def test_a_chunk_has_records() -> None:
    with pytest.raises(ValueError, match="cannot end at 3: the next record is 3"):
        PartitionLedger(3).deliver(3)


def test_what_is_committed_is_the_first_record_that_nobody_is_done_with() -> None:
    ledger = PartitionLedger(10, 10)
    first, second, third = ledger.deliver(13), ledger.deliver(14), ledger.deliver(20)
    assert ledger.committable(None) is None
    second.acknowledge()
    assert ledger.committable(None) is None
    first.acknowledge()
    assert ledger.committable(None) == 14
    assert ledger.committable(12) == 12
    ledger.note_committed(14)
    assert ledger.committable(None) is None
    third.acknowledge()
    assert ledger.committable(None) == 20
    ledger.skip_to(23)
    assert ledger.committable(None) == 23
