"""The client on the app's loop: takes fetched runs of records out of aiokafka, a bounded number of each partition."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka.consumer.fetcher import FetchResult
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import ConsumerStoppedError
from faust.exceptions import ImproperlyConfigured
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, credentials_to_aiokafka_auth, server_list
from faust.types import TP
from mode.utils.futures import maybe_async

from streams.kafka.consumer import Consumer
from streams.transport.batch import Record
from streams.transport.options import options_of

_RECORDS_PER_FETCH = 2000
"""Records of a topic that is not batched (a changelog in recovery) that are taken at once."""

_HIGHWATER_LOOKS = 200
_HIGHWATER_PAUSE_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class FetchedRecords:
    """What was taken of one partition: `records` are all that the log holds from `before` up to `after`."""

    before: int
    records: Sequence[Record]
    after: int


class LoopConsumer(AIOKafkaConsumerThread):  # type: ignore[misc]
    """Faust's consumer thread without a thread: on the app's loop, with runs in place of records and our own options.

    In a thread, each fetch, acknowledgement and commit waits for that thread to wake and for Python's lock, and this
    took longer than the work. It is for heartbeats while an agent computes; ours give way to the loop every few
    milliseconds, and whoever does not for a whole session has lost the partition, as with a thread that hangs.
    """

    def __init__(self, consumer: Any, *, loop: asyncio.AbstractEventLoop, **options: Any) -> None:
        super().__init__(consumer, loop=loop, thread_loop=loop, **options)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._options = options_of(self.app)
        self._woken = asyncio.Event()

    async def start(self) -> None:
        """Serve as a task where the base class starts a thread; returns when the client is connected."""
        self._thread_started.set()
        self._thread_running = self.parent_loop.create_future()
        self._serving = asyncio.ensure_future(self._serve())
        self._serving.add_done_callback(lambda task: task.cancelled() or task.exception())  # crash() has told of it
        await self._thread_running

    async def _gather_remaining_tasks(self) -> None:
        """Leave the loop's other tasks alone: they are the app's."""

    async def call_thread(self, fun: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Await it here."""
        return await maybe_async(fun(*args, **kwargs))

    def wake(self) -> None:
        """Let a waiting `runs` return, because the set of partitions to take from has grown."""
        self._woken.set()

    def expelled(self) -> BaseException | None:
        """Return why aiokafka's part in the group stands still, None while it does not: it waits to be asked for it."""
        coordinator = getattr(self._consumer, "_coordinator", None)
        error: BaseException | None = getattr(coordinator, "_pending_exception", None)
        task = getattr(coordinator, "_coordination_task", None)
        if error is None and task is not None and task.done() and not task.cancelled():
            error = task.exception()
        return error

    async def committed_offset(self, tp: TP) -> int | None:
        """Return the offset that the group has committed, None if there is none."""
        committed: int | None = await self._ensure_consumer().committed(tp)
        return committed

    async def place(self, tp: TP, offset: int | None) -> int:
        """Seek to `offset`, or where it is None to where the policy says; return the position."""
        consumer = self._ensure_consumer()
        if offset is not None:
            consumer.seek(tp, offset)
        return int(await consumer.position(tp))

    async def log_range(self, tp: TP) -> tuple[int, int]:
        """Return the first offset that the log holds, and its end."""
        consumer = self._ensure_consumer()
        first = await consumer.beginning_offsets([tp])
        end = await consumer.end_offsets([tp])
        return first[tp], max(end[tp], consumer.highwater(tp) or 0)

    async def log_ends(self, partitions: Collection[TP]) -> Mapping[TP, int]:
        """Return where logs end."""
        ends: Mapping[TP, int] = await self._ensure_consumer().end_offsets(partitions)
        return ends

    async def runs(self, active: Collection[TP], wait_seconds: float) -> Mapping[TP, FetchedRecords]:
        """Take what was fetched of `active`, waiting at most `wait_seconds` for something."""
        consumer = self._ensure_consumer()
        fetcher = consumer._fetcher
        if not self.consumer.flow_active:
            return {}
        if consumer._closed or fetcher._closed:
            raise ConsumerStoppedError()
        with fetcher._subscriptions.fetch_context():
            if runs := await self._take(fetcher, active):
                return runs
            await self._wait_for_fetch(fetcher, wait_seconds)
            return await self._take(fetcher, active)

    async def _wait_for_fetch(self, fetcher: Any, wait_seconds: float) -> None:
        arrived = fetcher._create_fetch_waiter()
        woken = asyncio.ensure_future(self._woken.wait())
        try:
            await asyncio.wait({arrived, woken}, timeout=wait_seconds, return_when=asyncio.FIRST_COMPLETED)
            if arrived.done():
                arrived.result()
        finally:
            self._woken.clear()
            arrived.cancel()
            woken.cancel()

    async def _take(self, fetcher: Any, active: Collection[TP]) -> dict[TP, FetchedRecords]:
        """Take one run of each active partition that has any; an error stands back until the runs are taken."""
        subscription = fetcher._subscriptions.subscription
        if fetcher._subscriptions.reassignment_in_progress or subscription.assignment is None:
            return {}
        runs: dict[TP, FetchedRecords] = {}
        failed: list[TP] = []
        for key, fetched in list(fetcher._records.items()):
            tp = TP(key.topic, key.partition)
            if tp not in active:
                continue
            if not isinstance(fetched, FetchResult):
                failed.append(tp)
                continue
            state = subscription.assignment.state_value(key)
            if state is None or not state.has_valid_position:
                continue
            before = state.position
            taken = await fetcher.fetched_records({key}, timeout=0, max_records=self._limit(tp))
            if state.has_valid_position and state.position != before:
                runs[tp] = FetchedRecords(before, taken.get(key, []), state.position)
        if failed and not runs:
            await fetcher.fetched_records({failed[0]}, timeout=0)
        return runs

    def _limit(self, tp: TP) -> int:
        return self._options.batch_records if tp.topic in self._options.batch_topics else _RECORDS_PER_FETCH

    async def _highwaters(self, partitions: Collection[TP]) -> Mapping[TP, int]:
        """Return the ends of `partitions`, at least the high watermarks that fetches have shown.

        The lite broker's ListOffsets names the last batch's first offset instead, and recovery would stop short.
        """
        consumer = self._ensure_consumer()
        ends = dict(await consumer.end_offsets(partitions))
        for _ in range(_HIGHWATER_LOOKS):
            if all(consumer.highwater(tp) is not None for tp in partitions):
                break
            await asyncio.sleep(_HIGHWATER_PAUSE_SECONDS)
        return {tp: max(end, consumer.highwater(tp) or 0) for tp, end in ends.items()}

    def _create_worker_consumer(self, transport: Any) -> Consumer:
        """Build the client as Faust does, but for `fetch_max_wait_ms` (Faust: 1500), metadata and `client_options`."""
        conf = self.app.conf
        if conf.broker_session_timeout > conf.broker_request_timeout:
            raise ImproperlyConfigured("broker_session_timeout cannot be greater than broker_request_timeout")
        tables = conf.table_standby_replicas > 0 or bool(self.app.tables.changelog_topics)
        self._assignor = self.app.assignor if tables else RoundRobinPartitionAssignor
        arguments = {
            "client_id": conf.broker_client_id,
            "group_id": conf.id,
            "group_instance_id": conf.consumer_group_instance_id,
            "bootstrap_servers": server_list(transport.url, transport.default_port),
            "partition_assignment_strategy": [self._assignor],
            "enable_auto_commit": False,
            "auto_offset_reset": conf.consumer_auto_offset_reset,
            "max_poll_records": conf.broker_max_poll_records,
            "max_poll_interval_ms": int((conf.broker_max_poll_interval or 0) * 1000),
            "max_partition_fetch_bytes": conf.consumer_max_fetch_size,
            "fetch_max_wait_ms": self._options.fetch_max_wait_ms,
            "request_timeout_ms": int(conf.broker_request_timeout * 1000),
            "check_crcs": conf.broker_check_crcs,
            "session_timeout_ms": int(conf.broker_session_timeout * 1000),
            "rebalance_timeout_ms": int(conf.broker_rebalance_timeout * 1000),
            "heartbeat_interval_ms": int(conf.broker_heartbeat_interval * 1000),
            "connections_max_idle_ms": conf.consumer_connections_max_idle_ms,
        }
        arguments |= credentials_to_aiokafka_auth(conf.broker_credentials, conf.ssl_context)
        return Consumer(**(arguments | dict(self._options.client_options)))
