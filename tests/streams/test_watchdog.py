"""A partition that has work and makes no progress is reported, then ends the worker; a quiet one never is."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from types import SimpleNamespace

import pytest
from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from streams.transport.driver import Consumer
from streams.worker.watchdog import Watchdog

TIMEOUT = 60.0
FEEDBACK, TRACES = TP("feedback", 0), TP("claude-traces", 2)


class Clock:
    """Time that passes when it is told to; stands in for the module."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Worker:
    """What the watchdog looks at: an app whose consumer tells what it is told to."""

    def __init__(self) -> None:
        self.rebalancing = False
        self.partitions: dict[TP, tuple[int, int]] = {}
        self.consumer = SimpleNamespace(progress=lambda: self.partitions)


class Watch:
    """A watchdog over a worker, with a clock of its own."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.clock, self.worker = Clock(), Worker()
        patch.setattr("streams.worker.watchdog.time", self.clock)
        self.dog = Watchdog(self.worker, TIMEOUT)

    def after(self, seconds: float, **partitions: tuple[int, int]) -> list[str]:
        """Let time pass, tell of `feedback` and `traces` as position and end, and return what is stalled."""
        self.clock.now += seconds
        names = {"feedback": FEEDBACK, "traces": TRACES}
        self.worker.partitions = {names[name]: place for name, place in partitions.items()}
        asyncio.run(self.dog.check())
        return self.dog.stalled()


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    return Watch(monkeypatch)


def test_a_stalled_partition_is_reported_by_name_then_ends_the_worker(watch: Watch) -> None:
    assert watch.after(0, feedback=(5, 9), traces=(3, 3)) == []
    assert watch.after(60, feedback=(5, 9), traces=(3, 3)) == []
    assert watch.after(1, feedback=(5, 12), traces=(3, 3)) == ["feedback[0]"]
    with pytest.raises(TimeoutError, match=r"no progress for 120 s on feedback\[0\]"):
        watch.after(60, feedback=(5, 12), traces=(3, 3))


def test_progress_by_one_record_starts_the_time_anew(watch: Watch) -> None:
    watch.after(0, feedback=(5, 99))
    assert watch.after(61, feedback=(6, 99)) == []
    assert watch.after(59, feedback=(6, 99)) == []
    assert watch.after(2, feedback=(6, 99)) == ["feedback[0]"]


def test_a_partition_that_had_nothing_to_do_starts_when_work_comes(watch: Watch) -> None:
    watch.after(0, feedback=(5, 5))
    watch.after(3600, feedback=(5, 5))
    assert watch.after(3600, feedback=(5, 6)) == []
    assert watch.after(61, feedback=(5, 6)) == ["feedback[0]"]


def test_a_rebalance_starts_the_time_anew(watch: Watch) -> None:
    watch.after(0, feedback=(5, 9))
    watch.worker.rebalancing = True
    assert watch.after(61, feedback=(5, 9)) == []
    watch.worker.rebalancing = False
    assert watch.after(1, feedback=(5, 9)) == []


def test_a_group_that_never_comes_to_rest_ends_the_worker(watch: Watch) -> None:
    watch.worker.rebalancing = True
    assert watch.after(0) == []
    assert watch.after(119) == []
    watch.worker.rebalancing = False
    watch.after(2)
    watch.worker.rebalancing = True
    watch.after(0)
    with pytest.raises(TimeoutError, match="rebalancing for 120 s"):
        watch.after(121)


def test_work_that_no_fetch_has_told_of_is_seen() -> None:
    async def log_ends(tps: list[TP]) -> dict[TP, int]:
        return dict.fromkeys(tps, 7)

    ledger = SimpleNamespace(acknowledged=4)
    thread = SimpleNamespace(log_ends=log_ends)
    silent = SimpleNamespace(
        _ledgers={FEEDBACK: ledger}, _ends={}, _thread=thread, _is_batched=lambda tp: True, highwater=lambda tp: None
    )
    assert Consumer.progress(silent) == {}
    asyncio.run(Consumer.ask_ends(silent, 1.0))
    assert Consumer.progress(silent) == {FEEDBACK: (4, 7)}


def test_a_broker_that_does_not_answer_changes_nothing() -> None:
    async def log_ends(tps: list[TP]) -> dict[TP, int]:
        await asyncio.sleep(60)
        return {}

    thread, said = SimpleNamespace(log_ends=log_ends), []
    silent = SimpleNamespace(
        _ledgers={FEEDBACK: None},
        _ends={FEEDBACK: 7},
        _thread=thread,
        _is_batched=lambda tp: True,
        log=SimpleNamespace(warning=lambda *words: said.append(words)),
    )
    asyncio.run(Consumer.ask_ends(silent, 0.01))
    assert silent._ends == {FEEDBACK: 7}
    assert len(said) == 1


def test_an_event_loop_that_hangs_ends_the_process_and_says_where() -> None:
    program = """
import asyncio, time
from types import SimpleNamespace
from streams.transport.driver import Consumer
from streams.worker.watchdog import Watchdog
async def ask_ends(seconds): pass
consumer = SimpleNamespace(progress=dict, ask_ends=ask_ends)
async def main():
    await Watchdog(SimpleNamespace(rebalancing=False, consumer=consumer), 0.2).run()
    def hang():
        time.sleep(60)
    hang()
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 1
    assert "Timeout" in done.stderr
    assert "in hang" in done.stderr


def test_a_partition_that_went_to_another_worker_is_forgotten(watch: Watch) -> None:
    watch.after(0, feedback=(5, 9), traces=(1, 2))
    assert watch.after(61, traces=(1, 2)) == ["claude-traces[2]"]


@pytest.mark.parametrize(("timeout", "interval"), [(60.0, 5.0), (8.0, 2.0), (0.4, 0.1)])
def test_it_looks_several_times_within_the_timeout(timeout: float, interval: float) -> None:
    assert Watchdog(Worker(), timeout).interval == interval


@given(
    looks=st.lists(
        st.tuples(st.floats(0.1, 20.0), st.integers(0, 3), st.integers(0, 3), st.booleans()), min_size=1, max_size=40
    )
)
def test_a_partition_is_reported_exactly_while_it_has_stood_with_work_for_longer_than_the_timeout(
    looks: list[tuple[float, int, int, bool]],
) -> None:
    """Records arrive and are acknowledged in any rhythm; the time without progress is kept here once more."""
    with pytest.MonkeyPatch.context() as patch:
        watch, position, end = Watch(patch), 0, 0
        waits_since: float | None = None
        for seconds, arrived, acknowledged, stuck in looks:
            before, end = position, end + arrived
            position = position if stuck else min(end, position + acknowledged)
            now = watch.clock.now + seconds
            if end == position:
                waits_since = None
            elif waits_since is None or position != before:
                waits_since = now
            long = 0.0 if waits_since is None else now - waits_since
            if long > 2 * TIMEOUT:
                with pytest.raises(TimeoutError, match=r"feedback\[0\]"):
                    watch.after(seconds, feedback=(position, end))
                return
            assert watch.after(seconds, feedback=(position, end)) == (["feedback[0]"] if long > TIMEOUT else [])
