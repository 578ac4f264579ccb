"""The internals of Faust and aiokafka that the transport overrides, calls or relies on, by name.

An upgrade fails here first. Read what changed in the named function, adapt `streams/transport`, run the live tests,
then put the new hash here.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiokafka.consumer.consumer as aiokafka_consumer
import aiokafka.consumer.fetcher as aiokafka_fetcher
import aiokafka.consumer.subscription_state as aiokafka_state
import faust
import faust.app.base
import faust.streams
import faust.tables.recovery
import faust.transport.consumer as faust_consumer
import faust.transport.drivers.aiokafka as faust_driver
import faust.types.tuples
import mode.threads
import pytest

HASHES: dict[str, tuple[Callable[..., Any], str]] = {
    "Consumer._drain_messages": (faust_consumer.Consumer._drain_messages, "44a2500309e8"),
    "Consumer._wait_next_records": (faust_consumer.Consumer._wait_next_records, "6218e1969a63"),
    "Consumer.getmany": (faust_consumer.Consumer.getmany, "4b168d84882a"),
    "Consumer.perform_seek": (faust_consumer.Consumer.perform_seek, "0e8c130ff4b0"),
    "Consumer.seek": (faust_consumer.Consumer.seek, "b86a9fe05f95"),
    "Consumer.ack": (faust_consumer.Consumer.ack, "5fcf41cf4515"),
    "Consumer.wait_empty": (faust_consumer.Consumer.wait_empty, "e4662fe24f09"),
    "Consumer.force_commit": (faust_consumer.Consumer.force_commit, "cc094614d22c"),
    "Consumer._commit_tps": (faust_consumer.Consumer._commit_tps, "a20e230b05ae"),
    "Consumer._commit_offsets": (faust_consumer.Consumer._commit_offsets, "1a6979904118"),
    "Consumer._filter_committable_offsets": (faust_consumer.Consumer._filter_committable_offsets, "dc5e9baf5d99"),
    "Consumer._filter_tps_with_pending_acks": (faust_consumer.Consumer._filter_tps_with_pending_acks, "f6f923977423"),
    "Consumer._new_offset": (faust_consumer.Consumer._new_offset, "1d2c7ea89a7a"),
    "Consumer._should_commit": (faust_consumer.Consumer._should_commit, "5ce941793947"),
    "Consumer.on_partitions_revoked": (faust_consumer.Consumer.on_partitions_revoked, "d04b7ae72c6f"),
    "Consumer.on_partitions_assigned": (faust_consumer.Consumer.on_partitions_assigned, "29ce96596f05"),
    "Consumer.on_buffer_drop": (faust_consumer.Consumer.on_buffer_drop, "4b57e8a418d5"),
    "Consumer.resume_partitions": (faust_consumer.Consumer.resume_partitions, "afe6b7c02a41"),
    "Fetcher._fetcher": (faust_consumer.Fetcher._fetcher.fun, "68f894f0b577"),
    "aiokafka driver: Consumer._to_message": (faust_driver.Consumer._to_message, "7c24f6511b2f"),
    "AIOKafkaConsumerThread.__post_init__": (faust_driver.AIOKafkaConsumerThread.__post_init__, "913dc7c0d957"),
    "AIOKafkaConsumerThread._create_worker_consumer": (
        faust_driver.AIOKafkaConsumerThread._create_worker_consumer,
        "c2701bfc3e6f",
    ),
    "AIOKafkaConsumerThread._fetch_records": (faust_driver.AIOKafkaConsumerThread._fetch_records, "39a2c6c79fc1"),
    "AIOKafkaConsumerThread._seek_wait": (faust_driver.AIOKafkaConsumerThread._seek_wait, "9d221e816d94"),
    "AIOKafkaConsumerThread._highwaters": (faust_driver.AIOKafkaConsumerThread._highwaters, "a7f4f97d9f32"),
    "AIOKafkaConsumerThread._commit": (faust_driver.AIOKafkaConsumerThread._commit, "932852ce7a23"),
    "ServiceThread.start": (mode.threads.ServiceThread.start, "f11841038a03"),
    "ServiceThread.stop": (mode.threads.ServiceThread.stop, "32d026539c36"),
    "ServiceThread.crash": (mode.threads.ServiceThread.crash, "68a766aadc5f"),
    "ServiceThread._serve": (mode.threads.ServiceThread._serve, "67809eae0957"),
    "ServiceThread._shutdown_thread": (mode.threads.ServiceThread._shutdown_thread, "d7377862e734"),
    "ServiceThread._gather_remaining_tasks": (mode.threads.ServiceThread._gather_remaining_tasks, "6f65b92dd101"),
    "QueueServiceThread.call_thread": (mode.threads.QueueServiceThread.call_thread, "479edda75b54"),
    "Message.ack": (faust.types.tuples.Message.ack, "4751b72c4ed8"),
    "Stream._py_aiter": (faust.streams.Stream._py_aiter, "3a48ee257a65"),
    "App._on_partitions_revoked": (faust.app.base.App._on_partitions_revoked, "d5c895bbe57d"),
    "App._stop_consumer": (faust.app.base.App._stop_consumer, "55854a5de12c"),
    "Recovery._resume_streams": (faust.tables.recovery.Recovery._resume_streams, "d986a6710c1a"),
    "Recovery.on_recovery_completed": (faust.tables.recovery.Recovery.on_recovery_completed, "6ef567acf072"),
    "Recovery._build_highwaters": (faust.tables.recovery.Recovery._build_highwaters, "91b4cc0d3724"),
    "aiokafka Fetcher.fetched_records": (aiokafka_fetcher.Fetcher.fetched_records, "be4348896b9b"),
    "aiokafka Fetcher._create_fetch_waiter": (aiokafka_fetcher.Fetcher._create_fetch_waiter, "61d840568746"),
    "aiokafka Fetcher._proc_fetch_request": (aiokafka_fetcher.Fetcher._proc_fetch_request, "59bf948fff47"),
    "aiokafka PartitionRecords._unpack_records": (aiokafka_fetcher.PartitionRecords._unpack_records, "b803e6d46480"),
    "aiokafka AIOKafkaConsumer.start": (aiokafka_consumer.AIOKafkaConsumer.start, "2f1ba7044332"),
    "aiokafka FetchResult.getall": (aiokafka_fetcher.FetchResult.getall, "3e717e30de50"),
    "aiokafka TopicPartitionState.consumed_to": (aiokafka_state.TopicPartitionState.consumed_to, "c7b8f0f99ce9"),
    "aiokafka TopicPartitionState.seek": (aiokafka_state.TopicPartitionState.seek, "c20b56d7ba7b"),
}
"""Function, and the first digits of the hash of its source."""


def code_hash(function: Callable[..., Any]) -> str:
    return hashlib.sha256(inspect.getsource(inspect.unwrap(function)).encode()).hexdigest()[:12]


@pytest.mark.parametrize("name", HASHES)
def test_code_that_the_transport_builds_on_is_the_code_it_was_written_for(name: str) -> None:
    function, known = HASHES[name]
    assert code_hash(function) == known, f"{name} has changed"


def test_compiled_stream_is_the_one_it_was_written_for() -> None:
    source = Path(faust.__file__).with_name("_cython") / "streams.pyx"
    assert hashlib.sha256(source.read_bytes()).hexdigest()[:12] == "0041622f4a25"


def test_versions_are_the_ones_it_was_written_for() -> None:
    assert faust.__version__ == "0.15.3"
