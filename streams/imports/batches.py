"""Message batches: results wait for their requests, which may stand in another file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from streams.imports.found import Found, LeftOut, OfRecord, Record, guarded

OfResult = Callable[[Record, Mapping[str, Any], Any, Any], Iterable[Found]]
"""Finds what a result holds; takes its record, that record's object, the request, and the result."""


class MessageBatches:
    """The requests and results that a format meets, matched by `custom_id` once every record is read.

    Args:
        of_result: of one result whose request is there.
    """

    def __init__(self, of_result: OfResult) -> None:
        self._of_result = of_result
        self._requests: dict[str, Any] = {}
        self._waiting: list[tuple[Record, str, Any]] = []

    def ask(self, record: Record, custom_id: Any, request: Any) -> list[Found]:
        """Keep a request."""
        self._requests[str(custom_id)] = request
        return [LeftOut(record.where, "request")]

    def answer(self, record: Record, custom_id: Any, result: Any) -> list[Found]:
        """Keep a result until every request is known."""
        self._waiting.append((record, str(custom_id), result))
        return []

    def read(self, records: Iterable[Record], each: OfRecord) -> Iterator[Found]:
        """Yield what `each` finds in the records, then what the results hold."""
        for record in records:
            yield from guarded(record, each)
        for record, custom_id, result in self._waiting:
            yield from guarded(record, partial(self._matched, custom_id, result))

    def _matched(self, custom_id: str, result: Any, record: Record, value: Mapping[str, Any]) -> Iterable[Found]:
        request = self._requests.get(custom_id)
        if request is None:
            return [LeftOut(record.where, "no_request")]
        return self._of_result(record, value, request, result)
