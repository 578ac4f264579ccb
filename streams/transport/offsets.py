"""The commit rule: what has been delivered of a partition, what acknowledged, and so what may be committed.

Offsets name the next record, as committed offsets do. Delivery is in log order, so the offset to commit is where
the unbroken run of acknowledged chunks from the start ends, held back by the durable bound.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class Chunk:
    """A delivery: the log from `start` up to `end`, which is left out."""

    start: int
    end: int
    acknowledged: bool = False
    nacked: bool = False

    def acknowledge(self) -> None:
        """Note that the stream is done with it, unless it was refused."""
        self.acknowledged = not self.nacked


class PartitionLedger:
    """One partition from its assignment (or a seek) to its revocation (or the next seek).

    Args:
        position: offset of the first record to deliver.
        committed: offset that the group has committed, None if none.
    """

    def __init__(self, position: int, committed: int | None = None) -> None:
        self.next_offset = position
        """Offset of the next record to deliver: fetched records that start anywhere else are not for us."""
        self.committed = position if committed is None else committed
        """Last offset known to be committed; where there is none, the position that the group starts at."""
        self._settled = position
        self._pending: deque[Chunk] = deque()

    @property
    def pending(self) -> int:
        """Count of delivered chunks that hold the commit back."""
        self._settle()
        return len(self._pending)

    @property
    def acknowledged(self) -> int:
        """Offset up to which everything delivered is acknowledged."""
        self._settle()
        return self._settled

    def deliver(self, end: int) -> Chunk:
        """Note a delivery of the records from `next_offset` up to `end`, which is left out.

        Raises:
            ValueError: `end` is not after `next_offset`.
        """
        if end <= self.next_offset:
            raise ValueError(f"a chunk cannot end at {end}: the next record is {self.next_offset}")
        chunk = Chunk(self.next_offset, end)
        self._pending.append(chunk)
        self.next_offset = end
        return chunk

    def withdraw(self, chunk: Chunk) -> None:
        """Take back a delivery that did not reach its stream, and with it any later one."""
        if chunk in self._pending:
            while self._pending.pop() is not chunk:
                pass
            self.next_offset = chunk.start

    def nack(self, end: int) -> None:
        """Hold the commit back at the pending chunk that ends at `end`, whatever is acknowledged later."""
        for chunk in self._pending:
            if chunk.end == end and not chunk.acknowledged:
                chunk.nacked = True

    def skip_to(self, position: int) -> None:
        """Note that the log holds no record from `next_offset` up to `position` (compaction, transaction markers)."""
        self.next_offset = max(self.next_offset, position)

    def committable(self, bound: int | None) -> int | None:
        """Return the offset to commit now, at most `bound`; None where it is committed already."""
        self._settle()
        offset = self._settled if bound is None else min(self._settled, bound)
        return offset if offset > self.committed else None

    def note_committed(self, offset: int) -> None:
        """Note a commit that the broker has accepted."""
        self.committed = max(self.committed, offset)

    def _settle(self) -> None:
        while self._pending and self._pending[0].acknowledged:
            self._settled = self._pending.popleft().end
        if not self._pending:
            self._settled = self.next_offset
