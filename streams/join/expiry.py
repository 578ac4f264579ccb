"""Which experiences and ledgers are due to be forgotten: an index by time, rebuilt from the table after a rebalance."""

from __future__ import annotations

import heapq
from collections.abc import Iterable

import orjson

from streams.join.ledger import is_entry


class ExpiryIndex:
    """Keys of one partition, oldest first."""

    def __init__(self, stored: Iterable[tuple[bytes, bytes]]) -> None:
        """Read the index from the judgements table's items."""
        self._heap = [(float(orjson.loads(value)["since"]), key) for key, value in stored if not is_entry(key)]
        heapq.heapify(self._heap)

    def add(self, since: float, key: bytes) -> None:
        """Note that a key's retention starts; one that starts again comes up twice, and counts the second time."""
        heapq.heappush(self._heap, (since, key))

    def due(self, until: float, at_most: int = 10_000) -> list[bytes]:
        """Take out the keys that arrived at or before `until`, oldest first."""
        keys: list[bytes] = []
        while self._heap and self._heap[0][0] <= until and len(keys) < at_most:
            keys.append(heapq.heappop(self._heap)[1])
        return keys
