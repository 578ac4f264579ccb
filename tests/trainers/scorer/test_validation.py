from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trainers.scorer.test_samples import samples
from trainers.scorer.samples import Samples
from trainers.scorer.validation import LEAST_SHARE, QueryPairs, SpreadBuffer, linear_share

Few = list[tuple[int, float]]


def judged(given: Few, first: int = 1) -> Samples:
    """Return samples of (query, reward), a feedback each."""
    made = samples([reward for _, reward in given], groups=list(range(first, first + len(given))))
    return replace(made, queries=np.array([query for query, _ in given], np.uint64))


def held(buffer: SpreadBuffer) -> list[tuple[int, float, int]]:
    kept = buffer.samples
    return sorted(zip(kept.queries.tolist(), kept.rewards.tolist(), kept.groups.tolist(), strict=True))


def test_a_query_that_floods_the_buffer_makes_room_for_others():
    buffer = SpreadBuffer(6)
    buffer.add(judged([(1, 1.0), (1, -1.0)]))
    buffer.add(judged([(2, 1.0)] * 20, first=3))
    assert held(buffer) == [(1, -1.0, 2), (1, 1.0, 1), *[(2, 1.0, group) for group in (19, 20, 21, 22)]]


def test_of_one_query_the_rare_sign_stays():
    buffer = SpreadBuffer(4)
    buffer.add(judged([(1, -1.0), *[(1, 1.0)] * 9]))
    assert held(buffer) == [(1, -1.0, 1), (1, 1.0, 8), (1, 1.0, 9), (1, 1.0, 10)]


def test_queries_that_come_once_leave_the_oldest_to_go():
    buffer = SpreadBuffer(3)
    buffer.add(judged([(query, 1.0) for query in range(1, 8)]))
    assert [group for _, _, group in held(buffer)] == [5, 6, 7]


@given(st.lists(st.tuples(st.integers(1, 3), st.sampled_from([1.0, -1.0])), max_size=60), st.integers(1, 9))
def test_every_query_and_sign_has_its_share_and_its_newest(given: Few, capacity: int):
    buffer = SpreadBuffer(capacity)
    for number, one in enumerate(given, start=1):
        buffer.add(judged([one], first=number))
    assert len(buffer) == min(len(given), capacity)
    kept, came = held(buffer), {key: [n for n, k in enumerate(given, 1) if k == key] for key in set(given)}
    counts = {key: sum(k[:2] == key for k in kept) for key in came}
    most = max(counts.values(), default=0)
    for key, numbers in came.items():
        # Where more came than is kept, no other query and sign has two more.
        assert counts[key] == len(numbers) or counts[key] >= most - 1
        assert [group for *of, group in kept if tuple(of) == key] == numbers[len(numbers) - counts[key] :]
    assert buffer.samples.rows[:, 7].tolist() == buffer.samples.rewards.tolist()


def test_restored_buffer_goes_on_as_the_one_before_and_a_smaller_one_keeps_what_is_spread():
    one, other, small = SpreadBuffer(5), SpreadBuffer(5), SpreadBuffer(2)
    one.add(judged([(1, 1.0)] * 7 + [(2, -1.0)]))
    other.restore(one.samples, one.position)
    for buffer in (one, other):
        buffer.add(judged([(3, 1.0), (1, -1.0)], first=9))
    assert other.samples.groups.tolist() == one.samples.groups.tolist()
    small.restore(one.samples, one.position)
    assert [group for *_, group in held(small)] == [10, 9]


def test_pairs_are_of_one_query_and_each_querys_accuracy_is_its_own():
    pairs = QueryPairs.of(judged([(1, 1.0), (2, 1.0), (1, -1.0), (2, -1.0), (3, 1.0), (1, -1.0)]))
    assert pairs.queries == 2
    # Query 1: above one of the bad ones and level with the other; query 2: the wrong way round.
    found = pairs.accuracies(np.array([0.5, 0.1, 0.0, 0.2, 9.0, 0.5], np.float32))
    assert found.tolist() == [0.75, 0.0]


@pytest.mark.parametrize("sign", [1, -1])
def test_the_part_that_ranks_held_out_queries_better_gets_the_larger_share(sign: int):
    network, linear = np.full(200, 0.5), np.full(200, 0.5) + sign * np.resize([0.4, -0.3], 200)
    certain, uncertain = linear_share(network, linear), linear_share(network[:4], linear[:4])
    assert certain == (1.0 if sign > 0 else LEAST_SHARE)
    assert LEAST_SHARE < uncertain < 0.5 if sign > 0 else uncertain == LEAST_SHARE


def test_parts_that_are_level_share_as_at_first_and_one_query_does_not_decide():
    assert linear_share(np.full(50, 0.7), np.full(50, 0.7)) == linear_share(np.zeros(0), np.zeros(0)) == LEAST_SHARE
    assert linear_share(np.zeros(1), np.ones(1)) < 0.8
