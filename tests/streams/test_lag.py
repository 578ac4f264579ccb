"""Which partitions are further behind than allowed."""

from __future__ import annotations

from aiokafka import TopicPartition

from schemas.settings import Settings
from streams.kafka.lag import PartitionLag, _row, _Tail, beyond, of_the_stream, trainer_group


def row(partition: int, lag: int, seconds: float) -> PartitionLag:
    return PartitionLag("g", "feedback", partition, 0, lag, lag, seconds)


ROWS = [row(0, 5, 1.0), row(1, 50, 2.0), row(2, 1, 90.0)]


def test_a_request_whose_job_runs_is_no_lag_of_the_stream() -> None:
    settings = Settings()
    waiting = PartitionLag(trainer_group(settings), "training-jobs", 0, 0, 1, 1, 3600.0)
    assert of_the_stream(settings, [*ROWS, waiting]) == ROWS


def test_without_a_limit_nothing_is_beyond_it() -> None:
    assert beyond(ROWS, None, None) == []


def test_a_limit_itself_is_allowed() -> None:
    assert beyond(ROWS, 50, 90.0) == []


def test_either_limit_is_enough_and_the_oldest_comes_first() -> None:
    assert [r.partition for r in beyond(ROWS, 49, 89.0)] == [2, 1]
    assert [r.partition for r in beyond(ROWS, 0, None)] == [2, 1, 0]


def test_lag_is_told_in_records_and_in_the_age_of_the_oldest() -> None:
    tp = TopicPartition("feedback", 1)
    assert _row("g", tp, 5, _Tail(5, 9, 100.0), 130.25) == PartitionLag("g", "feedback", 1, 5, 9, 4, 30.25)
    assert _row("g", tp, None, _Tail(0, 9, 100.0), 130.25) == PartitionLag("g", "feedback", 1, None, 9, 9, 30.25)
    assert _row("g", tp, 9, _Tail(9, 9, None), 130.25) == PartitionLag("g", "feedback", 1, 9, 9, 0, 0.0)


def test_markers_behind_the_committed_offset_are_no_lag() -> None:
    row = _row("g", TopicPartition("feedback", 1), 5, _Tail(5, 7, None), 130.0)
    assert (row.end, row.lag, row.lag_seconds) == (7, 0, 0.0)


def test_what_was_deleted_before_it_was_read_is_told() -> None:
    tp = TopicPartition("feedback", 1)
    assert _row("g", tp, 5, _Tail(8, 9, 100.0), 130.0).deleted == 3
    assert _row("g", tp, None, _Tail(8, 9, 100.0), 130.0).deleted == 0
