"""The Faust transport `kafkabatch://`: record batches, and commits by our own ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from aiokafka.errors import IllegalStateError, KafkaError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode import Service

from streams.kafka.consumer import Unreadable
from streams.transport.batch import ChunkMessage, Record, RecordBatch, batch_message, record_message
from streams.transport.fetching import FetchedRecords, LoopConsumer
from streams.transport.offsets import PartitionLedger
from streams.transport.options import options_of

_FETCH_TIMEOUT_SECONDS = 1.0
_MEMBERSHIP_SECONDS = 1.0


class Consumer(driver.Consumer):  # type: ignore[misc]
    """Delivers runs of records in log order and commits what the ledgers say.

    All of it runs on the app's loop, the client too. Whatever goes wrong between taking a run and delivering it (a
    rebalance, a stopped flow, a cancelled fetch), the ledger's `next_offset` stays where it was, the next run does not
    start there, and the consumer seeks back: nothing is lost or repeated.

    A batched partition is read on once its last batch is acknowledged, or fewer are under way than its topic may have,
    so that a slow agent neither fills memory nor holds up another's partitions. An agent's `stream_buffer_maxsize` must
    be at least the count of batches that its partitions may have.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._options = options_of(self.app)
        self._ledgers: dict[TP, PartitionLedger] = {}
        self._placing = asyncio.Lock()
        self._held_back = False
        self._ends: dict[TP, int] = {}

    def _new_consumer_thread(self) -> LoopConsumer:
        return LoopConsumer(self, loop=self.loop, beacon=self.beacon)

    @Service.task  # type: ignore[untyped-decorator]
    async def _watch_membership(self) -> None:
        """Tell the app where the group does not take this member; without it nothing would ever be assigned."""
        while not self.should_stop:
            await self.sleep(_MEMBERSHIP_SECONDS)
            if (error := self._thread.expelled()) is not None:
                self._options.on_expelled(error)
                return

    # Assignment and position

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Let Faust drain the streams and commit, then forget every partition: the next assignment is a new start."""
        await super().on_partitions_revoked(revoked)
        self._ledgers.clear()

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Start from nothing; partitions are placed when recovery asks for it."""
        self._ledgers.clear()
        await super().on_partitions_assigned(assigned, generation_id)

    async def perform_seek(self) -> None:
        """Place every assigned partition but changelogs, which recovery seeks itself."""
        await self._place_all({tp for tp in self.assignment() if not self._is_changelog_tp(tp)})

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        """Seek partitions to specific offsets and wait."""
        await super().seek_wait(partitions)
        for tp, offset in partitions.items():
            self._ledgers[tp] = PartitionLedger(offset)

    async def seek(self, partition: TP, offset: int) -> None:
        """Seek a partition to an offset; what was delivered before does not count any more."""
        await super().seek(partition, offset)
        self._ledgers[partition] = PartitionLedger(offset)

    async def _place_all(self, partitions: set[TP]) -> None:
        async with self._placing:
            await asyncio.gather(*(self._place(tp) for tp in partitions if tp not in self._ledgers))

    async def _place(self, tp: TP) -> None:
        generation = self.app.consumer_generation_id
        try:
            committed = await self._thread.committed_offset(tp)
            start = await self._options.start_offset(tp, committed)
            position = await self._thread.place(tp, start)
        except IllegalStateError:
            self.log.info("%s was revoked before it could be placed", tp)
            return
        if generation == self.app.consumer_generation_id and tp in self.assignment():
            # What the start offset passes over is done with, so it is committed though nothing follows it.
            self._ledgers[tp] = PartitionLedger(position, committed if start is None else committed or 0)

    async def _realign(self, tp: TP, ledger: PartitionLedger, found: int) -> None:
        """Seek back to what is wanted, or go on where the log no longer holds it."""
        first, end = await self._thread.log_range(tp)
        if self._ledgers.get(tp) is not ledger:
            return
        if first <= ledger.next_offset <= end:
            self._thread.seek(tp, ledger.next_offset)
        else:
            self.log.warning(
                "%s: the log (%s to %s) lacks %s, going on at %s", tp, first, end, ledger.next_offset, found
            )
            position = max(first, min(found, end))
            if ledger.next_offset < first:
                self._options.on_deleted(tp, position - ledger.next_offset)
            await self._thread.seek_wait({tp: position})
            self._ledgers[tp] = PartitionLedger(position)

    # Delivery

    async def _drain_messages(self, fetcher: Any) -> None:
        """Fetch and deliver until the fetcher or the consumer stops."""
        if self.app.client_only:
            await super()._drain_messages(fetcher)
            return
        try:
            while not (self.should_stop or fetcher.should_stop):
                if not self.flow_active:
                    await self.wait(self.can_resume_flow)
                    continue
                generation = self.app.consumer_generation_id
                runs = await self._thread.runs(await self._readable(), _FETCH_TIMEOUT_SECONDS)
                if runs and self._flows(generation):
                    await self.wait_first(self._deliver(runs, generation), self.suspend_flow.wait())
        except self.consumer_stopped_errors:
            if not self.app.should_stop:
                raise
            self.log.info("Broker stopped consumer, shutting down...")
        except asyncio.CancelledError:
            if not self.app.should_stop:
                raise
            self.log.info("Consumer shutting down for user cancel.")

    async def _readable(self) -> frozenset[TP]:
        """Return the partitions to take from now: active, placed, and not busy with a batch."""
        active = set(self._get_active_partitions())
        await self._place_all(active - self._ledgers.keys())
        active &= self._ledgers.keys()
        most = self._options.in_flight
        busy = {tp for tp in active if self._is_batched(tp) and self._ledgers[tp].pending >= most.get(tp.topic, 1)}
        self._held_back = bool(busy)
        return frozenset(active - busy)

    def _is_batched(self, tp: TP) -> bool:
        return tp.topic in self._options.batch_topics

    def _flows(self, generation: int) -> bool:
        return self.flow_active and generation == self.app.consumer_generation_id and not self.should_stop

    async def _deliver(self, runs: Mapping[TP, FetchedRecords], generation: int) -> None:
        """Deliver each partition's run, as long as flow and generation stay as they are."""
        for tp, run in runs.items():
            ledger = self._ledgers.get(tp)
            if ledger is None or not self._flows(generation):
                continue
            if run.before != ledger.next_offset:
                await self._realign(tp, ledger, run.before)
            elif await self._deliver_run(tp, ledger, run, generation):
                ledger.skip_to(run.after)
                self._track_end(tp)

    async def _deliver_run(self, tp: TP, ledger: PartitionLedger, run: FetchedRecords, generation: int) -> bool:
        """Deliver a run, in one message where its topic is batched; return whether all of it went out."""
        if not run.records:
            return True
        if self._is_batched(tp):
            chunk = ledger.deliver(run.records[-1].offset + 1)
            message = batch_message(tp, run.records, chunk, self._on_acknowledged, generation)
            return await self._hand_over(ledger, message)
        acks = self.app.topics.acks_enabled_for(tp.topic)
        for record in run.records:
            if not self._flows(generation):
                return False
            if isinstance(record, Unreadable):
                continue  # of a changelog: the log has named it, and no batch goes to an agent that could set it aside
            await self._deliver_record(tp, ledger, record, acks, generation)
        return True

    async def _deliver_record(
        self, tp: TP, ledger: PartitionLedger, record: Record, acks: bool, generation: int
    ) -> None:
        if acks:
            chunk = ledger.deliver(record.offset + 1)
            await self._hand_over(ledger, record_message(tp, record, chunk, self._on_acknowledged, generation))
        else:
            await self.callback(self._to_message(tp, record))
            ledger.skip_to(record.offset + 1)

    async def _hand_over(self, ledger: PartitionLedger, message: ChunkMessage) -> bool:
        delivered = False
        try:
            await self.callback(message)
            delivered = True
        finally:
            if not delivered:
                ledger.withdraw(message.chunk)
        return delivered

    def progress(self) -> dict[TP, tuple[int, int]]:
        """Return for every partition of a batched topic what is acknowledged and where the log ends, as offsets.

        The end is what the last fetch reported, or `ask_ends` heard, whichever is higher.
        """
        ends = {tp: self.highwater(tp) for tp in self._ledgers if self._is_batched(tp)}
        return {
            tp: (self._ledgers[tp].acknowledged, max(end or 0, self._ends.get(tp, 0)))
            for tp, end in ends.items()
            if end is not None or tp in self._ends
        }

    async def ask_ends(self, seconds: float) -> None:
        """Ask the broker where the logs of batched topics end, whatever fetching does; no answer changes nothing."""
        tps = [tp for tp in self._ledgers if self._is_batched(tp)]
        try:
            ends = await asyncio.wait_for(self._thread.log_ends(tps), seconds) if tps else {}
        except (TimeoutError, KafkaError, IllegalStateError) as error:
            self.log.warning("the broker does not tell where the logs end: %r", error)
            return
        self._ends = {tp: end for tp, end in ends.items() if tp in self._ledgers}

    def nack(self, batch: RecordBatch) -> None:
        """Let the acknowledgement of a batch in progress count for nothing: it is delivered again after the restart.

        For a body that is cancelled: Faust acknowledges its event nevertheless.
        """
        ledger = self._ledgers.get(TP(batch.topic, batch.partition))
        if ledger is not None:
            ledger.nack(batch.records[-1].offset + 1)

    def _on_acknowledged(self) -> None:
        if self._held_back:
            self._held_back = False
            self._thread.wake()

    def on_buffer_drop(self, tp: TP) -> None:
        """Read a partition again whose stream has room."""
        super().on_buffer_drop(tp)
        self._thread.wake()

    def resume_partitions(self, tps: Iterable[TP]) -> None:
        """Read partitions again that were paused."""
        super().resume_partitions(tps)
        self._thread.wake()

    def _track_end(self, tp: TP) -> None:
        end = self.highwater(tp)
        if end is not None:
            self.app.monitor.track_tp_end_offset(tp, end)

    # Commits

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        acks = self.app.topics.acks_enabled_for
        return (
            tp
            for tp in list(self._ledgers)
            if acks(tp.topic) and (topics is None or tp in topics or tp.topic in topics)
        )

    def _new_offset(self, tp: TP) -> int | None:
        ledger = self._ledgers.get(tp)
        return None if ledger is None else ledger.committable(self._options.durable_through(tp))

    def _should_commit(self, tp: TP, offset: int) -> bool:
        return True

    def _filter_committable_offsets(self, tps: Iterable[TP]) -> dict[TP, int]:
        """Choose what to commit; Faust's streams note acknowledged offsets also in lists that only grow."""
        self._acked.clear()
        self._acked_index.clear()
        offsets: dict[TP, int] = super()._filter_committable_offsets(tps)
        return offsets

    async def _commit_offsets(self, offsets: Mapping[TP, int], start_new_transaction: bool = True) -> bool:
        """Commit, and note it only where the broker has taken it, so that a refused commit is tried again.

        Faust's own record of committed offsets stays empty: its streams drop acknowledgements below them.
        """
        ledgers = {tp: self._ledgers[tp] for tp in offsets if tp in self._ledgers}
        assigned = self.assignment()
        try:
            committed: bool = await super()._commit_offsets(offsets, start_new_transaction)
        finally:
            self._committed_offset.clear()
        if committed:
            for tp, ledger in ledgers.items():
                if tp in assigned:
                    ledger.note_committed(offsets[tp])
        return committed

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Leave stall detection to the app's watchdog: Faust's reads state that this transport does not keep."""


class Transport(driver.Transport):  # type: ignore[misc]
    """Kafka by aiokafka, with record batches; register the app's `TransportOptions` as `app.transport_options`."""

    Consumer = Consumer
