"""The scorer's gate, on feedback whose right order is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from msgspec.structs import replace

from tests.trainers.scorer.making import HELD_OUT, entry
from trainers.scorer.gate import JUDGED_ITEMS, HeldOut

Scores = Callable[[bytes], np.ndarray]


def first_feature(features: bytes) -> np.ndarray:
    return np.frombuffer(features, "<f4")[384:].reshape(-1, 429)[:, 0]


def noise(features: bytes) -> np.ndarray:
    return np.frombuffer(features, "<f4")[384:].reshape(-1, 429)[:, 7]


def held_out(queries: int, items: int = 4) -> HeldOut:
    """Return feedback whose reward is the item's first feature."""
    judged = HeldOut()
    for number in range(queries):
        plain = entry(number, [0.0] * items, query=f"query {number}")
        judged.add(replace(plain, rewards=tuple(first_feature(plain.features).tolist())))
    return judged


def test_better_candidate_has_its_gain_above_zero() -> None:
    comparison = held_out(60).compare(noise, first_feature)
    assert (comparison.pairs_within, comparison.queries, comparison.pairs) == ("query", 60, 360)
    assert comparison.candidate == 1.0
    assert comparison.in_use == pytest.approx(0.5, abs=0.1)
    assert comparison.low is not None
    assert comparison.high is not None
    assert comparison.gain is not None
    assert 0.3 < comparison.low < comparison.gain < comparison.high < 0.7
    assert comparison.better_by(0.2)
    assert not comparison.better_by(0.6)


def test_worse_and_equal_candidates_are_not_better() -> None:
    assert not held_out(60).compare(first_feature, noise).better_by(0.0)
    same = held_out(60).compare(noise, noise)
    assert (same.gain, same.low, same.high) == (0.0, 0.0, 0.0)
    assert not same.better_by(0.0)


def test_few_queries_do_not_make_a_small_gain_sure() -> None:
    def a_little_better(features: bytes) -> np.ndarray:
        return noise(features) + 0.7 * first_feature(features)

    comparison = held_out(20, items=2).compare(noise, a_little_better)
    assert comparison.gain == pytest.approx(0.15)
    assert comparison.high is not None
    assert comparison.high > 0.3
    assert not comparison.better_by(0.0)


def test_without_pairs_within_queries_those_of_one_intent_count() -> None:
    comparison = held_out(30, items=1).compare(noise, first_feature)
    assert (comparison.pairs_within, comparison.pairs) == ("intent", 30 * 29 // 2)
    assert comparison.better_by(0.1)


def test_nothing_to_judge_on_is_no_promotion() -> None:
    empty = HeldOut().compare(noise, first_feature)
    assert (empty.pairs, empty.gain) == (0, None)
    assert not empty.better_by(0.0)
    alike = HeldOut()
    for number in range(5):
        alike.add(entry(number, [0.5, 0.5], query=HELD_OUT[0]))
    assert not alike.compare(noise, first_feature).better_by(0.0)


def test_only_the_newest_items_are_judged() -> None:
    comparison = held_out(JUDGED_ITEMS // 4 + 50).compare(noise, first_feature)
    assert comparison.queries == JUDGED_ITEMS // 4


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    misses = 0
    for trial in range(60):
        judged = HeldOut()
        for number in range(40):
            plain = entry(trial * 100 + number, [0.0, 0.0], query=f"q {number}")
            rewards = (1.0, -1.0) if rng.random() < 0.5 else (-1.0, 1.0)
            judged.add(replace(plain, rewards=rewards))
        # Neither scorer knows anything: the gain's truth is 0.
        comparison = judged.compare(noise, first_feature)
        assert comparison.low is not None
        assert comparison.high is not None
        misses += not comparison.low <= 0.0 <= comparison.high
    assert misses <= 9
