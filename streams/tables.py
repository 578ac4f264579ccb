"""Access to a Faust table by partition, with the changelog written first and awaited.

Faust's own `table[key] = value` writes locally, then sends the change and forgets the acknowledgement.
Here the change is published and acknowledged before it is put in the local store, together with the changelog's
offset, so that local state never holds what the changelog does not. Faust keeps what it is good at: assignment,
recovery from the changelog, standbys and the store itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from faust.stores.memory import Store as MemoryStore
from rocksdict import WriteBatch

from streams.publisher import Outgoing, Publisher

Writes = Sequence[tuple[bytes, bytes | None]]


class StateTable:
    """One table; keys and values are bytes."""

    def __init__(self, table: Any) -> None:
        self.name: str = table.name
        self.changelog: str = table.changelog_topic_name
        self._table = table

    def get(self, partition: int, key: bytes) -> bytes | None:
        """Return the value of `key` in `partition`, or None."""
        store = self._table.data
        value: bytes | None
        if isinstance(store, MemoryStore):
            value = store.data.get(key) if store._key_partition.get(key) == partition else None
        else:
            value = store._db_for_partition(partition).get(key)
        return value

    def items(self, partition: int) -> Iterator[tuple[bytes, bytes]]:
        """Walk one partition, in no promised order."""
        store = self._table.data
        if isinstance(store, MemoryStore):
            for key, value in list(store.data.items()):
                if store._key_partition.get(key) == partition:
                    yield key, value
            return
        for key, value in store._db_for_partition(partition).items():
            if key != store.offset_key:
                yield key, value

    def apply(self, partition: int, writes: Writes, offset: int) -> None:
        """Put acknowledged changes in the local store, with the changelog's offset, in one write."""
        store = self._table.data
        if isinstance(store, MemoryStore):
            for key, value in writes:
                if value is None:
                    store.data.pop(key, None)
                else:
                    store.data[key] = value
                    store._key_partition[key] = partition
            return
        batch = WriteBatch(raw_mode=True)
        for key, value in writes:
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        batch.put(store.offset_key, str(offset).encode())
        store._db_for_partition(partition).write(batch)


class Overlay:
    """A partition of a table as the decisions of one batch see it: their own writes over what is stored."""

    def __init__(self, table: StateTable, partition: int) -> None:
        self.table = table
        self.partition = partition
        self.writes: list[tuple[bytes, bytes | None]] = []
        self._written: dict[bytes, bytes | None] = {}

    def get(self, key: bytes) -> bytes | None:
        """Return the value of `key` after the writes so far, or None."""
        if key in self._written:
            return self._written[key]
        return self.table.get(self.partition, key)

    def set(self, key: bytes, value: bytes | None) -> None:
        """Write `key`; None deletes it. Every write is kept, in order: what survives a crash is a prefix of them."""
        self.writes.append((key, value))
        self._written[key] = value


async def write_state(publisher: Publisher, overlays: Sequence[Overlay]) -> None:
    """Make the overlays' writes durable, one overlay after the other, each in the order of its writes.

    Raises:
        PublishError: the changelog did not acknowledge; the local store is unchanged for that overlay and the rest.
    """
    for overlay in overlays:
        if not overlay.writes:
            continue
        changelog, partition = overlay.table.changelog, overlay.partition
        acknowledged = await publisher.publish(
            [Outgoing(changelog, partition, key, value) for key, value in overlay.writes]
        )
        last = max(receipt.offset for receipt in acknowledged)
        overlay.table.apply(partition, overlay.writes, last)
