from __future__ import annotations

import pytest

from benchmarks.accuracy import Accuracy, Judged, within_query_accuracy


def judged(query: str, good: bool, *scores: float) -> Judged:
    return Judged(query, good, scores)


def test_a_query_in_the_right_order_counts_one() -> None:
    found = within_query_accuracy([judged("a", True, 0.9), judged("a", False, 0.1)])
    assert found == Accuracy(value=1.0, standard_error=None, queries=1, pairs=1)


def test_a_score_is_the_mean_over_items() -> None:
    found = within_query_accuracy([judged("a", True, 1.0, 0.0), judged("a", False, 0.6, 0.6)])
    assert found.value == 0.0


def test_a_tie_counts_half_also_where_the_last_bits_differ() -> None:
    found = within_query_accuracy([judged("a", True, 0.5), judged("a", False, 0.5 + 1e-9)])
    assert found.value == 0.5


def test_queries_weigh_alike_however_many_rows_they_have() -> None:
    many = [judged("a", True, 1.0) for _ in range(9)] + [judged("a", False, 0.0)]
    few = [judged("b", True, 0.0), judged("b", False, 1.0)]
    found = within_query_accuracy([*many, *few])
    assert (found.value, found.queries, found.pairs) == (0.5, 2, 10)
    assert found.standard_error == pytest.approx(0.5)


def test_queries_with_one_kind_of_answer_do_not_count() -> None:
    found = within_query_accuracy([judged("a", True, 1.0), judged("a", True, 0.0), judged("b", False, 0.0)])
    assert found == Accuracy(value=None, standard_error=None, queries=0, pairs=0)


def test_rows_of_different_queries_are_not_compared() -> None:
    rows = [judged("a", True, 0.1), judged("a", False, 0.0), judged("b", True, 0.9), judged("b", False, 0.8)]
    assert within_query_accuracy(rows).value == 1.0
