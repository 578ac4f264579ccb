"""Access to a Faust table by partition, with the changelog written first and awaited.

Faust's own `table[key] = value` writes locally, then sends the change and forgets the acknowledgement.
Here the change is published and acknowledged before it is put in the local store, together with the changelog's
offset, so that local state never holds what the changelog does not. Faust keeps what it is good at: assignment,
recovery from the changelog, standbys and the store itself.

A partition's changelog has one writer, so each of its writes must come to lie right behind the one before. Where one
does not, a former owner that was paused or cut off has written late, or we are that former owner: the records between
tell by the consumer group's generation. Who finds a higher one has lost the partition and ends, with its local store
as it was, or it would pass over its successor's writes at the next recovery. Who finds a lower one writes those keys
again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from faust import Table
from faust.types import TP
from rocksdict import WriteBatch

from streams.kafka.publisher import Outgoing, Publisher
from streams.state.changelog import GENERATION, ReadChangelog
from streams.state.write_buffer import WriteBuffer
from streams.topics import changelog

Writes = Sequence[tuple[bytes, bytes | None]]


class ChangelogTable(Table):  # type: ignore[misc]
    """Faust's table, with a changelog named by the deployment, whatever its app's name, and changes of that one only.

    After a rebalance Faust's recovery hands what was read of a partition that has gone to whichever table came before.
    """

    def _changelog_topic_name(self) -> str:
        return changelog(self.app.settings, self.name)

    def apply_changelog_batch(self, batch: Iterable[Any]) -> None:
        """Put changes in the local store."""
        name = self.changelog_topic_name
        super().apply_changelog_batch([event for event in batch if event.message.topic == name])


class FencedError(RuntimeError):
    """Another worker owns the partition by now; nothing was put in the local store."""


class StateTable:
    """One table; keys and values are bytes.

    Args:
        table: Faust's.
        read: reads its changelog.
    """

    def __init__(self, table: Any, read: ReadChangelog) -> None:
        self.name: str = table.name
        self.changelog: str = table.changelog_topic_name
        self._table = table
        self._read = read

    @property
    def generation(self) -> int:
        """The consumer group's generation that this worker's partitions are of."""
        return int(self._table.app.consumer_generation_id)

    def next_offset(self, partition: int) -> int | None:
        """Return where the changelog goes on, as far as the local store knows; None where it is new."""
        offset = self._stored(partition).get(self._table.data.offset_key)
        return None if offset is None else int(offset) + 1

    async def overwritten(self, partition: int, start: int, end: int, generation: int) -> list[bytes]:
        """Return the keys that former owners have written between two offsets of the changelog.

        Raises:
            FencedError: a later owner has, or what was there before we took over has not all been recovered.
        """
        known = self._table.app.tables.recovery.active_highwaters.get(TP(self.changelog, partition))
        if known is not None and start <= known:
            raise FencedError(f"{self.changelog}[{partition}] is recovered up to {start - 1}, and went up to {known}")
        records = await self._read(self.changelog, partition, start, end)
        newest = max((of for of, _ in records), default=0)
        if newest > generation:
            raise FencedError(
                f"{self.changelog}[{partition}] was written in generation {newest}, this worker is of {generation}"
            )
        return list(dict.fromkeys(key for of, key in records if of < generation))

    def get(self, partition: int, key: bytes) -> bytes | None:
        """Return the value of `key` in `partition`, or None."""
        value: bytes | None = self._stored(partition).get(key)
        return value

    def items(self, partition: int) -> Iterator[tuple[bytes, bytes]]:
        """Walk one partition, in no promised order."""
        for key, value in self._stored(partition).items():
            if key != self._table.data.offset_key:
                yield key, value

    def under(self, partition: int, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Walk the keys of one partition that begin with `prefix`; it costs what is under it, not what is beside."""
        for key, value in self._stored(partition).items(from_key=prefix):
            if not key.startswith(prefix):
                return
            yield key, value

    def apply(self, partition: int, writes: Writes, offset: int) -> None:
        """Put acknowledged changes in the local store, with the changelog's offset, in one write."""
        batch = WriteBatch(raw_mode=True)
        for key, value in writes:
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        batch.put(self._table.data.offset_key, str(offset).encode())
        self._stored(partition).write(batch)

    def _stored(self, partition: int) -> Any:
        """Return the partition's RocksDB."""
        return self._table.data._db_for_partition(partition)


async def write_state(publisher: Publisher, buffers: Sequence[WriteBuffer[StateTable]]) -> None:
    """Make the buffers' writes durable, one buffer after the other, each in the order of its writes.

    Raises:
        PublishError: the changelog did not acknowledge; the local store is unchanged for that buffer and the rest.
        FencedError: the partition has another owner by now; likewise.
    """
    for buffer in buffers:
        if not buffer.writes:
            continue
        table, partition = buffer.table, buffer.partition
        headers = ((GENERATION, str(buffer.generation).encode()),)
        writes, start = buffer.writes, table.next_offset(partition)
        while writes:
            acknowledged = await publisher.publish(
                [Outgoing(table.changelog, partition, key, value, headers) for key, value in writes]
            )
            end = 1 + max(receipt.offset for receipt in acknowledged)
            lost: list[bytes] = []
            if start is not None and end != start + len(writes):
                lost = await table.overwritten(partition, start, end, buffer.generation)
            table.apply(partition, writes, end - 1)
            writes, start = [(key, table.get(partition, key)) for key in lost], end
