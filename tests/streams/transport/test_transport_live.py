"""Delivery, acknowledgement and commits on a real broker, with workers that are processes of their own."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.broker import LiveBroker
    from tests.streams.transport.conftest import Bench

pytestmark = pytest.mark.live


def kill_and_restart(bench: Bench, records: int, in_flight: int = 1) -> None:
    bench.create("a", "b")
    bench.produce(records)
    # Short, since the broker gives the partitions of a killed worker to the next one only after it.
    session = {"session_seconds": 2.0}
    worker = bench.start(batch_records=100, body_seconds=0.02, in_flight=in_flight, **session)
    bench.wait_for_records(records // 4)
    worker.kill()
    worker.wait()
    before = bench.seen()
    committed = bench.offsets()
    bench.output.unlink()
    bench.output.touch()
    bench.start(batch_records=100, **session)
    bench.wait("commits reach the end", bench.everything_committed)
    after = bench.seen()
    for (topic, partition), (offset, end) in committed.items():
        wanted = {(topic, partition, o) for o in range(max(offset, 0), end)}
        assert {s for s in after if s[:2] == (topic, partition)} == wanted
        assert all(before[topic, partition, o] == 1 for o in range(max(offset, 0)))
    assert set(after.values()) == {1}


def test_a_killed_workers_records_come_again_exactly_from_the_commit(bench: Bench) -> None:
    kill_and_restart(bench, 8000)


@pytest.mark.slow
def test_a_killed_workers_records_come_again_where_two_batches_of_a_partition_were_in_flight(bench: Bench) -> None:
    kill_and_restart(bench, 4000, in_flight=2)


def test_so_many_batches_of_a_partition_are_in_flight_as_its_topic_may_have(bench: Bench) -> None:
    bench.create("a")
    bench.produce(200)
    begun, gate = bench.folder / "begun", bench.folder / "gate"
    begun.touch()
    bench.start(batch_records=10, in_flight=2, begun=str(begun), gate=str(gate))

    def starts(partition: str) -> list[int]:
        rows = [line.split() for line in begun.read_text().splitlines()]
        return [int(row[1]) for row in rows if row[0] == partition]

    bench.wait("two batches of each partition begin", lambda: {len(starts("0")), len(starts("1"))} == {2})
    time.sleep(0.5)
    assert starts("0") == starts("1") == [0, 10]
    gate.touch()
    bench.wait("commits reach the end", bench.everything_committed)
    assert starts("0") == starts("1") == list(range(0, 100, 10))
    assert Counter(bench.seen().values()) == {1: 200}


def test_a_killed_workers_records_come_again_on_the_lite_broker(lite_bench: Bench) -> None:
    kill_and_restart(lite_bench, 2000)


def test_a_clean_stop_repeats_nothing(bench: Bench) -> None:
    bench.create("a", "b")
    bench.produce(6000)
    worker = bench.start(batch_records=50, body_seconds=0.02)
    bench.wait_for_records(1000)
    bench.stop(worker)
    assert len(bench.seen()) < 6000
    bench.start()
    bench.wait("commits reach the end", bench.everything_committed)
    assert Counter(bench.seen().values()) == {1: 6000}


def test_workers_that_come_and_go_lose_and_repeat_nothing(bench: Bench) -> None:
    bench.create("a", "b")
    bench.produce(8000)
    first = bench.start(batch_records=20, body_seconds=0.02)
    bench.wait_for_records(500)
    bench.start(batch_records=20, body_seconds=0.02)
    bench.wait_for_records(3000)
    bench.stop(first)
    bench.wait_for_records(8000)
    bench.wait("commits reach the end", bench.everything_committed)
    assert Counter(bench.seen().values()) == {1: 8000}


def test_topics_that_are_not_batched_come_record_by_record(bench: Bench) -> None:
    bench.create("a", "b")
    bench.produce(3000)
    worker = bench.start(batched=False, session_seconds=2.0)
    bench.wait_for_records(800)
    worker.kill()
    bench.start(batched=False)
    bench.wait_for_records(3000)
    bench.wait("commits reach the end", bench.everything_committed)


@pytest.mark.parametrize("store", ["memory://", "rocksdb://"])
def test_tables_are_recovered_and_written_in_the_body(bench: Bench, store: str) -> None:
    bench.create("a")
    bench.produce(2000)
    worker = bench.start(store=store, table=True, batch_records=50, body_seconds=0.02)
    bench.wait_for_records(600)
    bench.stop(worker)
    assert len(bench.seen()) < 2000
    bench.start(store=store, table=True)
    bench.wait_for_records(2000)
    final = {}
    for line in bench.output.read_text().splitlines():
        topic, partition, *_, count = line.split()
        final[topic, partition] = count
    assert sorted(final.values()) == ["count=1000", "count=1000"]


def test_a_standby_takes_a_table_over(bench: Bench) -> None:
    bench.create("a")
    bench.produce(2000)
    first = bench.start(table=True, batch_records=20, body_seconds=0.02)
    bench.wait_for_records(200)
    bench.start(table=True, batch_records=20, body_seconds=0.02)
    bench.wait_for_records(800)
    bench.stop(first)
    bench.wait_for_records(2000)
    counts = [line.rsplit("count=", 1)[1] for line in bench.output.read_text().splitlines()]
    assert counts.count("1000") >= 2


def test_commits_follow_a_durable_bound_that_rises_without_new_records(bench: Bench) -> None:
    bound = bench.folder / "bound"
    bound.write_text("120")
    bench.create("a")
    bench.produce(1000)
    bench.start(bound_file=str(bound))
    bench.wait_for_records(1000)
    bench.wait("the bound is committed", lambda: {c for c, _ in bench.offsets().values()} == {120})
    bound.write_text("400")
    bench.wait("the risen bound is committed", lambda: {c for c, _ in bench.offsets().values()} == {400})
    bound.write_text("100000")
    bench.wait("commits reach the end", bench.everything_committed)


def test_a_partition_resumes_at_the_start_offset(bench: Bench) -> None:
    bench.create("a")
    bench.produce(1000)
    worker = bench.start()
    bench.wait("commits reach the end", bench.everything_committed)
    bench.stop(worker)
    bench.start(start_offsets={f"{bench.topics[0]}/1": 450})
    bench.wait("50 records come again", lambda: bench.seen().total() == 1050)
    again = {offset for (_, partition, offset), times in bench.seen().items() if times == 2 and partition == 1}
    assert again == set(range(450, 500))


def test_transaction_markers_at_the_end_are_no_lag(bench: Bench, broker: LiveBroker) -> None:
    if broker.kind == "lite":
        pytest.skip("the lite broker has no transactions")
    bench.create("a")
    bench.produce(200, transactional_id=bench.name)
    bench.start(batch_records=30)
    bench.wait_for_records(200)
    bench.wait("commits reach the end", bench.everything_committed)
    assert {committed for committed, _ in bench.offsets().values()} == {101}


def test_records_that_the_log_no_longer_holds_are_passed_over(bench: Bench) -> None:
    bench.create("a")
    bench.produce(400)
    bench.start(start_offsets={f"{bench.topics[0]}/0": 5000, f"{bench.topics[0]}/1": 150})
    bench.wait_for_records(250)
    time.sleep(0.2)
    bench.produce(100)
    bench.wait_for_records(350)
    assert min(offset for _, partition, offset in bench.seen() if partition == 1) == 150


@pytest.mark.parametrize("table", [False, True])
def test_topics_that_were_missing_when_the_group_shared_them_out_are_read_once_they_are_there(
    bench: Bench, table: bool
) -> None:
    bench.topics = [f"{bench.name}-a"]
    bench.start(batch_records=50, table=table)
    told = ("Ignoring missing topic", "No partition metadata")
    log = bench.folder / "worker-0.log"
    bench.wait("the group has shared out nothing", lambda: any(words in log.read_text() for words in told))
    bench.topics = []
    bench.create("a")
    bench.produce(200)
    bench.wait("commits reach the end", bench.everything_committed)
    assert Counter(bench.seen().values()) == {1: 200}
