from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from benchmarks.peers.engines import BARE, TWO_HOPS
from benchmarks.peers.kills import KILLS, SESSION_SECONDS, outcome_of
from benchmarks.peers.running import RunningEngine
from benchmarks.processes import family

pytestmark = [pytest.mark.live, pytest.mark.timeout(600), pytest.mark.long]
WAIT_SECONDS = 180.0


@pytest.fixture
def two_hops(bootstrap: str, tmp_path: Path) -> Iterator[RunningEngine]:
    engine = RunningEngine(TWO_HOPS, sys.executable, bootstrap, tmp_path, 0)
    engine.start()
    yield engine
    engine.stop()


def second_of(engine: RunningEngine) -> psutil.Process:
    """Wait until the second process is at its work, so that it has said what is to become of it."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        engine.check()
        for child in family(engine.pid)[1:]:
            if child.net_connections():
                return child
        time.sleep(0.1)
    raise AssertionError("no second process")


def test_two_hops_leave_nothing_behind_when_they_are_stopped(two_hops: RunningEngine) -> None:
    those = [psutil.Process(two_hops.pid), second_of(two_hops)]
    two_hops.stop()
    assert psutil.wait_procs(those, timeout=WAIT_SECONDS)[1] == []


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel does it on Linux alone")
def test_the_second_hop_ends_with_the_first_however_that_ends(two_hops: RunningEngine) -> None:
    second = second_of(two_hops)
    os.kill(two_hops.pid, signal.SIGKILL)
    assert psutil.wait_procs([second], timeout=WAIT_SECONDS)[1] == []


def test_a_durable_peer_joins_everything_after_sigkills(bootstrap: str, tmp_path: Path) -> None:
    engine = RunningEngine(f"{BARE}, durable", sys.executable, bootstrap, tmp_path, 0, SESSION_SECONDS)
    try:
        found = asyncio.run(outcome_of(engine, experiences=100, feedbacks=800))
    finally:
        engine.stop()
    assert (found.feedbacks, found.kills, found.lost, found.deaths) == (800, KILLS, 0, 0)
    assert found.joined == found.to_join >= 600
