"""The guard against a slower hot path: Tierstream beside the same work on bare aiokafka, in the same run."""

from __future__ import annotations

import statistics
import sys
from collections import defaultdict

import pytest

from benchmarks.peers.compare import run
from benchmarks.peers.engines import BARE, OURS
from benchmarks.peers.measure import Result, Sizes

MOST_CPU = 12.0
"""Times bare aiokafka's CPU a feedback, pairing included; measured: see docs/performance.md."""


@pytest.mark.live
@pytest.mark.slow
def test_a_feedback_costs_no_more_than_a_multiple_of_the_bare_pipeline() -> None:
    found: defaultdict[str, list[Result]] = defaultdict(list)
    for name, result in run((OURS, BARE), 3, Sizes(500, 6_000, (200.0,), 1.0), sys.executable):
        found[name].append(result)
    assert all(result.latencies[200.0]["missing"] == 0 for results in found.values() for result in results)
    # CPU rather than events a second: other work on the machine changes it least, and the ratio within a round less.
    pairs = zip(found[OURS], found[BARE], strict=True)
    assert statistics.median(ours.cpu_per_1000 / bare.cpu_per_1000 for ours, bare in pairs) <= MOST_CPU
