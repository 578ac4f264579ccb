"""What a batch's decisions have written, over what is stored: all that decisions see of a table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar


class Stored(Protocol):
    """A table, read by partition."""

    @property
    def generation(self) -> int:
        """The consumer group's generation that this worker's partitions are of."""

    def get(self, partition: int, key: bytes) -> bytes | None:
        """Return the value of `key` in `partition`, or None."""

    def items(self, partition: int) -> Iterator[tuple[bytes, bytes]]:
        """Walk one partition, in no promised order."""

    def under(self, partition: int, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Walk the keys of one partition that begin with `prefix`."""


Table_co = TypeVar("Table_co", bound=Stored, covariant=True)


class WriteBuffer(Generic[Table_co]):
    """A partition of a table as the decisions of one batch see it: their own writes over what is stored."""

    def __init__(self, table: Table_co, partition: int) -> None:
        self.table = table
        self.partition = partition
        self.generation = table.generation
        self.writes: list[tuple[bytes, bytes | None]] = []
        self._seen: dict[bytes, bytes | None] = {}

    def get(self, key: bytes) -> bytes | None:
        """Return the value of `key` after the writes so far, or None."""
        if key not in self._seen:
            self._seen[key] = self.table.get(self.partition, key)
        return self._seen[key]

    def set(self, key: bytes, value: bytes | None) -> None:
        """Write `key`; None deletes it. Every write is kept, in order: what survives a crash is a prefix of them."""
        self.writes.append((key, value))
        self._seen[key] = value
