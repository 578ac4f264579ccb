"""The features of experiences, kept once by whoever reads the scorer's log, in RocksDB of its own.

Every value follows from the retained topic `scorer-log`, so that nothing here needs a changelog: what is lost is
read there again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from struct import Struct

from msgspec.structs import replace
from rocksdict import BlockBasedOptions, Cache, DBCompressionType, Options, Rdict, WriteBatch

from schemas.records import ScorerEntry

_KEY = Struct(">IQ")
"""Partition and offset of an arrival, so that the keys of a partition lie in the order of their time."""
_TIME = Struct("<d")
_COVERED = b"covered"
_EXPIRED_AT_ONCE = 1_000
_RECENT_BYTES = 24 * 1024 * 1024
"""Of features that are kept in memory: most feedback comes soon after its experience."""
_CACHE_BYTES = 4 * 1024 * 1024
_WRITE_BUFFER_BYTES = 8 * 1024 * 1024


class FeatureStore:
    """Keeps what entries bring, and fills in what they lack.

    An arrival's features never change, so a store that is ahead of its reader gives the same as one that is not.
    Of a repeated arrival the first counts, as it does for the learner. Entries must be kept in the topic's order and
    without a gap; `covered` says from where on.

    Args:
        folder: of RocksDB; made where it is not there. One process has it open at a time.
        retention: seconds of broker time after which no feedback can refer to an arrival.
    """

    def __init__(self, folder: str | Path, retention: float) -> None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        self._db = Rdict(str(folder), _options())
        self._retention = retention
        self._clocks: dict[int, float] = {}
        self._recent: OrderedDict[bytes, bytes] = OrderedDict()
        self._recent_bytes = 0
        self.covered = int(self._db.get(_COVERED) or b"0")
        """Offset in the log up to which every arrival is kept."""

    def close(self) -> None:
        """Let go of the folder."""
        self._db.close()

    def keep(self, entries: Sequence[ScorerEntry], end: int) -> None:
        """Keep the features that the entries bring.

        Args:
            entries: of records from `covered` or an offset before it on.
            end: offset after the last of these records.
        """
        batch = WriteBatch(raw_mode=True)
        fresh: set[bytes] = set()
        for entry in entries:
            partition, offset = entry.arrival
            if entry.kind == "feedback":
                self._clocks[partition] = max(entry.received_at, self._clocks.get(partition, 0.0))
            elif (key := _KEY.pack(partition, offset)) not in fresh and self._db.get(key) is None:
                fresh.add(key)
                batch.put(key, _TIME.pack(entry.received_at) + entry.features)
                self._remember(key, entry.features)
        if end > self.covered:
            self.covered = end
            batch.put(_COVERED, str(end).encode())
        if len(batch):
            self._db.write(batch)

    def fill(self, entries: Iterable[ScorerEntry]) -> list[ScorerEntry]:
        """Return the entries with their features; where they are not there they stay empty."""
        return [entry if entry.features else self._filled(entry) for entry in entries]

    def _filled(self, entry: ScorerEntry) -> ScorerEntry:
        features = self._features(_KEY.pack(*entry.arrival))
        return entry if features is None else replace(entry, features=features)

    def _features(self, key: bytes) -> bytes | None:
        features = self._recent.get(key)
        if features is not None:
            self._recent.move_to_end(key)
            return features
        value: bytes | None = self._db.get(key)
        if value is None:
            return None
        features = value[_TIME.size :]
        self._remember(key, features)
        return features

    def _remember(self, key: bytes, features: bytes) -> None:
        self._recent[key] = features
        self._recent_bytes += len(features)
        while self._recent_bytes > _RECENT_BYTES:
            self._recent_bytes -= len(self._recent.popitem(last=False)[1])

    def _forget(self, key: bytes) -> None:
        self._recent_bytes -= len(self._recent.pop(key, b""))

    def forget(self) -> None:
        """Drop everything, for the topic to be read from its start."""
        for key in list(self._db.keys()):
            self._db.delete(key)
        self._recent.clear()
        self._recent_bytes = 0
        self.covered = 0

    @property
    def clocks(self) -> dict[int, float]:
        """Broker time of each partition's last feedback; the next one is not older."""
        return dict(self._clocks)

    def expire(self, clocks: Mapping[int, float]) -> int:
        """Delete arrivals that no feedback after these clocks can refer to, some of them at a time; return how many.

        Args:
            clocks: of a moment that the reader never goes back behind.
        """
        batch = WriteBatch(raw_mode=True)
        for partition, clock in clocks.items():
            for key, value in self._db.items(from_key=_KEY.pack(partition, 0)):
                of_partition = key != _COVERED and _KEY.unpack(key)[0] == partition
                if not of_partition or _TIME.unpack_from(value)[0] + self._retention >= clock:
                    break
                batch.delete(key)
                self._forget(key)
                if len(batch) >= _EXPIRED_AT_ONCE:
                    break
        count = len(batch)
        if count:
            self._db.write(batch)
        return count


def _options() -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_write_buffer_size(_WRITE_BUFFER_BYTES)
    # Floats do not compress.
    options.set_compression_type(DBCompressionType.none())
    blocks = BlockBasedOptions()
    blocks.set_block_cache(Cache(_CACHE_BYTES))
    blocks.set_bloom_filter(10.0, False)
    options.set_block_based_table_factory(blocks)
    return options
