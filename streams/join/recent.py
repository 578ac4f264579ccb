"""Decoded values that are likely to be needed again, beside the bytes that they were decoded from."""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")

RECENT_VALUES = 1024


class Recent(Generic[T]):
    """A few decoded values by key. What is stored decides: a value counts only while its bytes are what is stored.

    So nothing here has to follow the table when it is recovered, or when a write does not become durable.

    Args:
        limit: of values; the one that was kept longest ago goes first.
    """

    def __init__(self, limit: int = RECENT_VALUES) -> None:
        self._limit = limit
        self._values: dict[bytes, tuple[bytes, T]] = {}

    def get(self, key: bytes, stored: bytes) -> T | None:
        """Return the value of `stored`, if it is here."""
        kept = self._values.get(key)
        return kept[1] if kept is not None and kept[0] == stored else None

    def take(self, key: bytes, stored: bytes) -> T | None:
        """Return the value of `stored`, if it is here, for the caller to change; it has to be kept again."""
        kept = self._values.pop(key, None)
        return kept[1] if kept is not None and kept[0] == stored else None

    def keep(self, key: bytes, stored: bytes, value: T) -> None:
        """Keep what `stored` decodes to."""
        self._values.pop(key, None)
        self._values[key] = stored, value
        if len(self._values) > self._limit:
            del self._values[next(iter(self._values))]
