"""What the app tells the transport."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from faust.types import TP


def _unbounded(_tp: TP) -> int | None:
    return None


async def _committed(_tp: TP, committed: int | None) -> int | None:
    return committed


def _ignored(_tp: TP, _count: int) -> None:
    return None


def _passed_over(_error: BaseException) -> None:
    return None


@dataclass(frozen=True, slots=True)
class TransportOptions:
    """Read from the app's attribute `transport_options`; without one the defaults hold.

    Both hooks are called on the app's event loop, the one that agents run on, and must not block.
    """

    batch_topics: frozenset[str] = frozenset()
    """Topics (names on the broker) that are delivered as `RecordBatch`; all others record by record."""
    batch_records: int = 500
    """At most so many records in one batch."""
    in_flight: Mapping[str, int] = field(default_factory=dict)
    """How many batches of one partition are delivered before the first is acknowledged, by topic; 1 for the rest."""
    fetch_max_wait_ms: int = 20
    """How long the broker holds a fetch that finds nothing, in milliseconds. A partition that was just read waits
    for the fetch in progress to end, so this bounds the delay that quiet topics put on busy ones."""
    durable_through: Callable[[TP], int | None] = _unbounded
    """An offset (of the next record, as committed offsets are) that is never committed past; None is no bound.
    Asked at every commit, so that a bound that rises is followed without new acknowledgements."""
    start_offset: Callable[[TP, int | None], Awaitable[int | None]] = _committed
    """Where to resume when a partition is assigned, given the committed offset if there is one; None is where the
    policy for groups without one says. Asked once an assignment, when tables are recovered and before the partition's
    first record is delivered."""
    on_deleted: Callable[[TP, int], None] = _ignored
    """Told of a partition, and how many offsets its log lost before they were delivered."""
    on_expelled: Callable[[BaseException], None] = _passed_over
    """Told why the group will not have this member, which aiokafka does not try again."""
    client_options: Mapping[str, Any] = field(default_factory=dict)
    """Further or other arguments for `AIOKafkaConsumer`."""


def options_of(app: Any) -> TransportOptions:
    """Return the app's options, or the defaults."""
    options = getattr(app, "transport_options", None)
    return options if isinstance(options, TransportOptions) else TransportOptions()
