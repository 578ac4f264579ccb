from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from benchmarks.peers.engines import ACKNOWLEDGED, TWO_HOPS
from benchmarks.peers.running import RunningEngine
from benchmarks.processes import family

pytestmark = pytest.mark.live
WAIT_SECONDS = 60.0


@pytest.fixture(params=[TWO_HOPS, ACKNOWLEDGED])
def both(request: pytest.FixtureRequest, bootstrap: str, tmp_path: Path) -> Iterator[RunningEngine]:
    engine = RunningEngine(request.param, sys.executable, bootstrap, tmp_path, 0)
    engine.start()
    yield engine
    engine.stop()


def learner_of(engine: RunningEngine) -> psutil.Process:
    """Wait until the second process runs its program, so that it has said what becomes of it."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        engine.check()
        for child in family(engine.pid)[1:]:
            if child.num_threads() > 1 and child.net_connections():
                return child
        time.sleep(0.1)
    raise AssertionError("no learner")


def test_two_hops_leave_nothing_behind_when_they_are_stopped(both: RunningEngine) -> None:
    those = [psutil.Process(both.pid), learner_of(both)]
    both.stop()
    assert psutil.wait_procs(those, timeout=WAIT_SECONDS)[1] == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.skipif(sys.platform != "linux", reason="the kernel does it on Linux alone")
def test_the_second_hop_ends_with_the_first(both: RunningEngine, number: signal.Signals) -> None:
    learner = learner_of(both)
    os.kill(both.pid, number)
    assert psutil.wait_procs([learner], timeout=WAIT_SECONDS)[1] == []
