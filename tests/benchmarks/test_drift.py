"""A flipped taste is alarmed, and nothing where there is none: the issue's two figures, and their short cut."""

from __future__ import annotations

import pytest

from benchmarks.drift import WITHIN, flip, measure


def test_a_flipped_taste_is_alarmed_within_the_feedbacks_that_are_allowed() -> None:
    early, delay = flip(0)
    assert not early
    assert delay is not None
    assert delay <= WITHIN


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_flips_are_alarmed_and_a_hundred_thousand_stationary_feedbacks_are_not() -> None:
    found = measure(seeds=100, stationary=100_000, processes=2)
    assert found["alarmed"] >= 95, found
    assert found["false_alarms"] <= 1, found
