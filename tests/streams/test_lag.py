"""Which partitions are further behind than allowed."""

from __future__ import annotations

from streams.lag import PartitionLag, beyond


def row(partition: int, lag: int, seconds: float) -> PartitionLag:
    return PartitionLag("g", "feedback", partition, 0, lag, lag, seconds)


ROWS = [row(0, 5, 1.0), row(1, 50, 2.0), row(2, 1, 90.0)]


def test_without_a_limit_nothing_is_beyond_it() -> None:
    assert beyond(ROWS, None, None) == []


def test_a_limit_itself_is_allowed() -> None:
    assert beyond(ROWS, 50, 90.0) == []


def test_either_limit_is_enough_and_the_oldest_comes_first() -> None:
    assert [r.partition for r in beyond(ROWS, 49, 89.0)] == [2, 1]
    assert [r.partition for r in beyond(ROWS, 0, None)] == [2, 1, 0]
